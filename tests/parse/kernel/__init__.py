"""What was read from the kernel."""
