"""Stages of an audit beside its batches: each reads results and appends outcomes."""
