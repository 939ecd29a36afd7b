"""Nearest training samples: search structures, scaling, shards, leave-one-out."""
