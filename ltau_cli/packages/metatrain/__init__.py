"""Metatrain: its trainings; the networks that it exports are metatomic's."""

TITLE, DISTRIBUTION = "metatrain", "metatrain"
RECORDED = ("2026.3", "2026.4.1")
HOOKS = {
    "metatrain.utils.scaler.remove": "keep_scaler",
    "metatrain.utils.data.combine_dataloaders": "watch_batches",
    "metatrain.utils.evaluate_model": "see_network",
    "metatrain.utils.per_atom": "see_predictions",
}
