"""Tests of exporter.observe."""
