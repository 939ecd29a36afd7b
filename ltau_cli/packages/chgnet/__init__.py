"""CHGNet."""

TITLE, DISTRIBUTION = "CHGNet", "chgnet"
TESTED = ("0.4.2",)
HOOKS = {"chgnet.trainer.trainer": "record_training"}
