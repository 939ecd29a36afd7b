"""Lightning: loops of one's own, and what the trainers on top of it share."""

HOOKS = {"lightning.pytorch.loops.fit_loop": "watch_batches"}
