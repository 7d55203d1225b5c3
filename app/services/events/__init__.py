"""Rounds, what members come to, and that they were there."""
