"""Verdicts against packets."""
