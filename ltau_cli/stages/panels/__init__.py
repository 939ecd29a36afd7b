"""Artifacts to the panels of each kind of figure."""
