"""One run() per command, in the file of its name: read, compute, write.

Beside them stand their steps: of fit ``training_set``, ``shards`` and ``tune``; of score the room
``scoring``; of plot ``panels``; of ingest ``read_ahead``; of describe ``given_frames``,
``checkpoints`` and ``trajectory``; of Live ``frame_descriptors`` and ``frame_scores``. And what
several need: ``true_errors`` of scored rows, and ``frame_rows``, the user's frames of them.

What can go wrong is an ``LtauError`` of the room that it goes wrong in.
"""
