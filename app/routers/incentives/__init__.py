"""Who is thanked with what, decided once for everybody."""
