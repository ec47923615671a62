"""Tests of exporter.runtime."""
