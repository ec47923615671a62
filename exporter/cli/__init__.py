"""The command line. Nobody imports it; it may import everybody."""

from exporter.cli.app import main

__all__ = ["main"]
