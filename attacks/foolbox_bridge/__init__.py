"""Foolbox's attacks on our models, and our models as foolbox's."""
