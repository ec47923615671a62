"""Prometheus exporter for reachability between the containers of a Docker Engine."""

__version__ = "0.1.0"
