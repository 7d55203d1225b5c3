"""Payout runs from draft to settled, their payouts and vouchers, and what puts them in doubt."""
