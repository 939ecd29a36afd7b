"""A function of one's own, for any other network."""
