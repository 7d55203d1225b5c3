"""What a member has at hand on her phone, and the end of her record."""
