"""Long jobs: what is done, and who does the rest.

Pieces that cannot be stored, or are damaged, raise an ``OutputError``; workers that cannot be meant
a ``UsageError``, or an ``InputError`` for their file; those that fail, or are not there in time, a
``ComputeError``. What a task raises as an ``LtauError`` is raised here too.
"""
