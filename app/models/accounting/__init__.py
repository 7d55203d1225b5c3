"""Whether it all agrees: books, closed months, reconciliation and published accounts."""
