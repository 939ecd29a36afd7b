"""DeePMD-kit."""
