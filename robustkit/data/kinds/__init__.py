"""Kinds of data that other libraries make: a file a library."""
