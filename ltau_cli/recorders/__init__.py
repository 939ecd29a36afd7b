"""Other people's trainers to error logs: one file per package."""
