"""Jixie: the backend of the family-planning associations of migrant workers."""
