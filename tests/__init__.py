"""Tests mirror `app/`, on a real PostgreSQL."""
