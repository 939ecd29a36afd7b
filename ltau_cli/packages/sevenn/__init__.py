"""SevenNet."""

TITLE, DISTRIBUTION = "SevenNet", "sevenn"
TESTED = ("0.13.0",)
HOOKS = {"sevenn.train.trainer": "record_training"}
