"""One file per concept: its tables and constraints, and the shapes that the API uses."""
