"""Files of other tools to arrays.

Whatever cannot be read, or is not what was asked for, raises an ``InputError`` that names file and
place; a full disk, where values pass through a temporary file, an ``OutputError``.
"""
