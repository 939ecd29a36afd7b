"""SevenNet."""

TITLE, DISTRIBUTION = "SevenNet", "sevenn"
RECORDED = ("0.11.2", "0.13.0")
DESCRIBED = ("0.11.2", "0.13.0")
HOOKS = {"sevenn.train.trainer": "record_training"}
