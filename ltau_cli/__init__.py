"""Error bars from training logs (LTAU, doi 10.1088/2632-2153/adb4b9)."""

__version__ = "0.1.0"
