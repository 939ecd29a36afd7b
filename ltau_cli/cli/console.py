"""What goes to which stream, and how it looks."""

import contextlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ltau_cli import stop
from ltau_cli.errors import LtauWarning, printable
from ltau_cli.results import Result


class Console:
    """Standard output carries results, standard error everything else.

    When ``quiet``, neither summary nor progress is printed; when ``verbose``, also how long each
    step took; ``as_json`` prints results as JSON. When ``piped``, standard output carries a result
    already: the summary goes to standard error.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        as_json: bool = False,
        piped: bool = False,
    ) -> None:
        self.quiet, self.verbose, self.as_json, self.piped = quiet, verbose, as_json, piped

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Any]:
        """Show a bar on standard error, if that is a terminal; heed signals at every step."""
        began = time.perf_counter()
        if self.quiet or sys.stderr is None or not sys.stderr.isatty():
            yield lambda _steps: stop.look()
        else:
            with click.progressbar(
                length=total, label=label, file=sys.stderr, show_pos=total > 1
            ) as bar:

                def advance(steps: int) -> None:
                    stop.look()
                    bar.update(steps)

                yield advance
        if self.verbose:
            self.log(f"{label}: {time.perf_counter() - began:.2f} s")

    def log(self, line: str) -> None:
        """Print a line on standard error."""
        if not self.quiet:
            click.echo(printable(line), err=True)

    def warn(self, line: str) -> None:
        """Print a warning on standard error, even when quiet."""
        click.echo(f"warning: {printable(line)}", err=True)

    def result(self, result: Result, lines: Sequence[str]) -> None:
        """Print a result, as JSON or by the lines of its summary."""
        if self.as_json:
            self.json(result.to_dict())
        else:
            self.summary(lines)

    def summary(self, lines: Sequence[str]) -> None:
        """Print the short summary a stage ends with."""
        if not self.quiet:
            for line in lines:
                click.echo(printable(line), err=self.piped)

    def json(self, value: Any) -> None:
        """Print JSON on standard output."""
        from ltau_cli.artifacts.write import to_json

        click.echo(json.dumps(json.loads(to_json(value)), indent=2, ensure_ascii=False))

    @contextlib.contextmanager
    def warnings_as_lines(self) -> Iterator[None]:
        """Print the warnings of ltau as ``warning:`` lines, and its log on standard error."""
        handler = logging.Handler()
        handler.emit = lambda record: self.log(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("ltau")
        logger.handlers, logger.propagate = [handler], False

        def show(message: Warning | str, *_: Any, **__: Any) -> None:
            self.warn(str(message))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other libraries' warnings are not for the user
            warnings.simplefilter("always", LtauWarning)
            warnings.showwarning = show
            yield


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; the first column is flush left, the others flush right.

    Columns that hold only dashes are left out.
    """
    used = [i for i in range(len(header)) if any(row[i] != "-" for row in rows) or not rows]
    header, rows = [header[i] for i in used], [[row[i] for i in used] for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def number(value: float | None, digits: int = 3) -> str:
    """Format a number for reading; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}g}"


def quantity(value: float | None, units: str) -> str:
    """Format a number with its units."""
    return number(value) + (f" {units}" if units and value is not None else "")


def percent(share: float, digits: int = 1) -> str:
    """Format a share in per cent."""
    return f"{100 * share:.{digits}f} %"
