"""Error logs of every format, as runs of epochs."""
