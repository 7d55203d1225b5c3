"""What the service reaches, as a share of the limit measured beside it."""
