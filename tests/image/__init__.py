"""The image: built and run on real engines."""
