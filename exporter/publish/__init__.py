"""What is shown: one immutable state, and its faces as metrics, JSON, text and pages."""
