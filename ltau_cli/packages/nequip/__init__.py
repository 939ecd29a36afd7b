"""NequIP, and Allegro, which is trained by it."""

TITLE, DISTRIBUTION = "NequIP", "nequip"
TESTED = ("0.19.1",)
HOOKS = {"nequip.train.lightning": "record_training"}
