"""Who did or read what, sealed in batches; and which offices looked at a member's record."""
