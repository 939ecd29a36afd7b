"""MACE: what ``ltau record`` has to know before MACE is imported.

``TITLE`` of the trainer, its ``DISTRIBUTION``, the versions that were ``TESTED``, and ``HOOKS``:
the function of ``record.py`` that is called with a module of the trainer once that is imported.
"""

TITLE, DISTRIBUTION = "MACE", "mace-torch"
TESTED = ("0.3.16",)
HOOKS = {
    "mace.data.utils": "number_frames",
    "mace.data.atomic_data": "keep_numbers",
    "mace.tools.train": "record_training",
}
