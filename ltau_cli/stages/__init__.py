"""One run() per stage: read, compute, write."""
