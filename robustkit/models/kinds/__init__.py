"""Kinds of models that other libraries make: a file a library."""
