"""``python -m ltau_cli`` is ``ltau``."""

from ltau_cli.cli.main import main

main()
