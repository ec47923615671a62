"""What is offered in deploy/: where it comes from, and that it holds together."""
