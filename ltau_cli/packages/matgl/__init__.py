"""MatGL."""

TITLE, DISTRIBUTION = "MatGL", "matgl"
RECORDED = ("4.1.0", "4.1.2")
DESCRIBED = ("4.1.0", "4.1.2")
HOOKS = {"matgl.utils.training": "record_training"}
