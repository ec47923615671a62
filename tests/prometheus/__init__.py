"""Real Prometheus servers that scrape the exporter."""
