"""Whose money there is, and every movement of it."""
