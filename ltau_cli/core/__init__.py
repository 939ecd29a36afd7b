"""Arrays in, arrays out: no files, no prints, no global state.

What is asked for and cannot be raises a ``UsageError``; what cannot be computed of these numbers, a
``ComputeError``.
"""
