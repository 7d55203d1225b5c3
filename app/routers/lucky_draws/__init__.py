"""Lucky draws: promised, frozen, drawn by a public beacon."""
