"""Who holds which role, how far, and since when."""
