"""Tests of exporter.parse."""
