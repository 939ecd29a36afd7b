"""Arrays to other people's files."""
