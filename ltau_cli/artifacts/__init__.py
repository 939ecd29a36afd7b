"""The HDF5 files that connect the stages: schema, validated read, atomic write."""
