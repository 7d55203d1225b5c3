"""What is known of a person: sealed, told, held, shown in full, and kept no longer than needed."""
