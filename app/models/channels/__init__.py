"""Ways by which a payout reaches its member: lists, banks, gateways, hands and stations."""
