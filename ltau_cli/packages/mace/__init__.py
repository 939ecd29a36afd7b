"""MACE: what has to be known of it before it is imported.

``TITLE`` and ``DISTRIBUTION``; the oldest and newest version that ``ltau record`` and ``ltau
describe`` were tested with, ``RECORDED`` and ``DESCRIBED``; and ``HOOKS``: the function of
``record.py`` that is called with a module of the trainer once that is imported.
"""

TITLE, DISTRIBUTION = "MACE", "mace-torch"
RECORDED = ("0.3.6", "0.3.16")
DESCRIBED = ("0.3.6", "0.3.16")
HOOKS = {
    "mace.data.utils": "number_frames",
    "mace.data.atomic_data": "keep_numbers",
    "mace.tools.train": "record_training",
}
