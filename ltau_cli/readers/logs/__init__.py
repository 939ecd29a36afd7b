"""Error logs of every format, as runs of epochs.

Whatever cannot be read is an :class:`~ltau_cli.errors.InputError` that names the file, and the
line, row or column.
"""
