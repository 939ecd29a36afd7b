"""Other people's trained models to descriptors and predictions: one file per package."""
