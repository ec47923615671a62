"""Packets between sandboxes."""
