"""What `ltau score` does, step by step."""
