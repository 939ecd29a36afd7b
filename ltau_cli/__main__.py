"""``python -m ltau_cli`` is ``ltau``."""

from ltau_cli import stop


def main() -> None:
    """Run the command line, deaf to no signal while it is imported."""
    stop.listen()
    from ltau_cli.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
