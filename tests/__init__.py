"""Tests, the lab they run in, and the demo made of both."""
