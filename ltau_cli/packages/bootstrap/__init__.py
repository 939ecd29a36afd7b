"""The folder that ``ltau record`` puts on PYTHONPATH; it holds ``sitecustomize.py`` alone."""
