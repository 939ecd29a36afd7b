"""Metatomic: models that metatrain and others export."""
