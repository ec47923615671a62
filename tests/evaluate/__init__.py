"""Tests of exporter.evaluate."""
