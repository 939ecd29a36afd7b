"""Arrays in, arrays out: no files, no prints, no global state."""
