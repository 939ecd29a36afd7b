"""NequIP, and Allegro, which is trained by it."""

TITLE, DISTRIBUTION = "NequIP", "nequip"
RECORDED = ("0.7.1", "0.19.1")
DESCRIBED = ("0.12.1", "0.19.1")
HOOKS = {"nequip.train.lightning": "record_training"}
