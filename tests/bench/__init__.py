"""What the exporter costs, beside what the usual ways cost in the same minutes: python -m tests.bench."""
