"""Metatomic: networks that metatrain and others export."""
