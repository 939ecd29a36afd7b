"""MatGL."""

TITLE, DISTRIBUTION = "MatGL", "matgl"
TESTED = ("4.1.2",)
HOOKS = {"matgl.utils.training": "record_training"}
