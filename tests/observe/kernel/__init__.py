"""The reader of the kernel."""
