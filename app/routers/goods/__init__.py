"""Gifts: the catalogue, where they lie, and every movement of them."""
