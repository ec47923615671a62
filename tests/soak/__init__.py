"""The exporter beside a busy engine for a long time, for `make soak`."""
