"""One file per concept: its rules, its SQL and its refusals."""
