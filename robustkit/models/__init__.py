"""Models by their name: architectures, files, speed."""
