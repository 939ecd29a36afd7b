"""Long jobs: what is done, and who does the rest."""
