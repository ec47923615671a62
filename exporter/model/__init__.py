"""Values: what was seen, what it means, what follows. Frozen, and nothing here does I/O."""
