"""The HDF5 files that connect the stages: schema, validated read, atomic write.

A missing file or input raises an ``InputError``; what is no artifact, of another kind, of a newer
version or damaged, an ``ArtifactError``; what may not or cannot be written, an ``OutputError``.
"""
