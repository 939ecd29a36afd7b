"""Files of other tools to arrays."""
