"""``--fail-if``: conditions on the metrics that end a command with exit code 7."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ltau_cli.cli import options
from ltau_cli.cli.console import number
from ltau_cli.errors import GateError

if TYPE_CHECKING:
    from ltau_cli.core.conditions import Condition

fail_if = options.add(
    "--fail-if",
    "gates",
    multiple=True,
    metavar="'METRIC OP NUMBER'",
    help="End with exit code 7 if this holds, such as 'coverage90 < 0.88'; repeatable. "
    "Metrics: coverage90, width90, rank_correlation, error_ratio, crps, ence, ause, "
    "miscalibration_area, flagged_share.",
)


def parse_gates(texts: Sequence[str]) -> list[Condition]:
    """Read all conditions before any work is done."""
    from ltau_cli.core.conditions import Condition

    return [Condition.parse(text) for text in texts]


def check_gates(
    gates: Sequence[Condition], sets: Iterable[tuple[object, Mapping[str, Any]]]
) -> None:
    """Compare the metrics of each set, which an object names, with the conditions; a GateError."""
    from ltau_cli.core.conditions import check_columns

    for name, metrics in sets:
        check_columns([gate.column for gate in gates], list(metrics), name, what="metric")
        for gate in gates:
            if gate.holds(metrics):
                raise GateError(
                    f"{name}: {gate.column} is {number(metrics[gate.column], 6)}, "
                    f"and --fail-if says {gate.column} {gate.sign} {gate.value:g}"
                )
