"""CHGNet."""

TITLE, DISTRIBUTION = "CHGNet", "chgnet"
RECORDED = ("0.4.0", "0.4.2")
DESCRIBED = ("0.4.0", "0.4.2")
HOOKS = {"chgnet.trainer.trainer": "record_training"}
