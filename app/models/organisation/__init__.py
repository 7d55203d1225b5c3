"""Where members live and work: areas, host organisations, associations and what they have."""
