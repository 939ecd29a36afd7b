"""Tables: rows that are no atoms, and small networks for regression that are trained on them.

A network is a folder like those of ``networks.py``, but rows are no atoms of frames: there are no
``*_natoms.npy`` and no species. Where the noise of the labels is known, ``test_SET_noise.npy``
holds its standard deviation. All data come with scikit-learn.

Rows far away are those outside of the ranges that were trained on, of a category that was not
there, or of another picture.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scorecard.cases import Floats

SETS = ("in-domain", "farther", "far")
SEEDS = (0, 1, 2, 3)
EPOCHS = 60
KEPT = (20, 26, 32, 38)  # epochs whose weights give the trajectory
LAYERS = (64, 32)
RATE, DECAY = 3e-3, 0.95  # of learning
RANGE = {"train": (0.0, 1.0), "in-domain": (0.0, 1.0), "farther": (-0.1, 1.1), "far": (-0.5, 1.5)}
SIZES = {"train": 3000, "in-domain": 2000, "farther": 1000, "far": 1000}  # of tables without an end


class Part(NamedTuple):
    """Rows of a table: inputs (n, d), labels (n,), their noise (n,) where it is known."""

    x: Floats
    y: Floats
    noise: Floats | None = None


@dataclass(frozen=True)
class Table:
    """A table: its name and a function that makes ``train`` and :data:`SETS`."""

    name: str
    make: Callable[[], dict[str, Part]]


# Functions with noise ---------------------------------------------------------------------------


def friedman_1(x: Floats) -> Floats:
    return np.asarray(
        10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
        + 10 * x[:, 3] + 5 * x[:, 4]
    )  # fmt: skip


def circuit(x: Floats) -> tuple[Floats, ...]:
    """Ranges of Friedman's second and third function, for x in [0, 1]; the tiny fourth left out."""
    return 100 * x[:, 0], 40 * np.pi + 520 * np.pi * x[:, 1], x[:, 2]


def friedman_2(x: Floats) -> Floats:
    a, b, c = circuit(x)
    return np.asarray(np.hypot(a, b * c) / 100)


def friedman_3(x: Floats) -> Floats:
    a, b, c = circuit(x)
    return np.asarray(np.arctan2(b * c, np.abs(a)))


def noisy(
    function: Callable[[Floats], Floats], columns: int, noise: Callable[[Floats], Floats],
    seed: int, *, heavy: bool = False,
) -> dict[str, Part]:  # fmt: skip
    """Draw inputs evenly from ranges that grow, and normal noise, or with ``heavy`` tails."""
    random = np.random.default_rng(seed)
    found = {}
    for name, (low, high) in RANGE.items():
        x = random.uniform(low, high, (SIZES[name], columns))
        if name == "farther":  # one column at least is outside
            x[np.arange(len(x)), random.integers(0, columns, len(x))] = random.choice(
                [low, high], len(x)
            )
        size = noise(x)
        z = random.standard_t(3, len(x)) / np.sqrt(3) if heavy else random.standard_normal(len(x))
        found[name] = Part(x, function(x) + size * z, size)
    return found


def growing(column: int, low: float, high: float) -> Callable[[Floats], Floats]:
    return lambda x: np.asarray(low + (high - low) * np.clip(x[:, column], 0, 1))


def with_categories(
    function: Callable[[Floats], Floats], columns: int, noises: list[float], seed: int
) -> dict[str, Part]:
    """Beside the columns a category, one column for each; the last is in the set ``far`` alone.

    Each has an offset, a slope and a noise of its own, and the first ones are the more frequent.
    """
    random = np.random.default_rng(seed)
    n = len(noises)
    offset, slope = random.normal(0, 2, n), random.normal(1, 0.5, n)
    frequency = 1 / np.arange(1, n)
    found = {}
    for name, (low, high) in RANGE.items():
        x = random.uniform(max(low, -0.1), min(high, 1.1), (SIZES[name], columns))
        category = random.choice(n - 1, len(x), p=frequency / frequency.sum())
        if name == "far":
            category[:] = n - 1
        size = np.asarray(noises)[category]
        y = offset[category] + slope[category] * function(x)
        found[name] = Part(
            np.column_stack([x, np.eye(n)[category]]),
            y + size * random.standard_normal(len(x)), size,
        )  # fmt: skip
    return found


def swiss_roll() -> dict[str, Part]:
    """Where on the roll a point in space lies: no noise; the roll goes on where none was seen."""
    random = np.random.default_rng(5)
    ends = {"train": (0.0, 1.0), "in-domain": (0.0, 1.0), "farther": (1.0, 1.1), "far": (1.1, 1.5)}
    found = {}
    for name, (low, high) in ends.items():
        t = 1.5 * np.pi * (1 + 2 * random.uniform(low, high, SIZES[name]))
        x = np.column_stack([t * np.cos(t), 21 * random.uniform(0, 1, len(t)), t * np.sin(t)])
        found[name] = Part(x, t)
    return found


# Bundled sets -----------------------------------------------------------------------------------


def pixels(name: str, other: str, seed: int) -> dict[str, Part]:
    """Brightness of a pixel from those around it, two away; farther off the picture's other half.

    Far away is another picture, of which contrast and brightness differ.
    """
    from sklearn.datasets import load_sample_image

    random = np.random.default_rng(seed)

    def grey(which: str) -> Floats:
        return np.asarray(load_sample_image(which).mean(axis=2) / 255)

    def take(image: Floats, rows: tuple[float, float], n: int) -> Part:
        low, high = (int(share * (len(image) - 4)) + 2 for share in rows)
        i, j = random.integers(low, high, n), random.integers(2, image.shape[1] - 2, n)
        steps = [(a, b) for a in (-2, 0, 2) for b in (-2, 0, 2) if (a, b) != (0, 0)]
        return Part(np.stack([image[i + a, j + b] for a, b in steps], axis=1), image[i, j])

    own = grey(name)
    return {
        "train": take(own, (0.4, 1.0), SIZES["train"]),
        "in-domain": take(own, (0.4, 1.0), SIZES["in-domain"]),
        "farther": take(own, (0.0, 0.4), SIZES["farther"]),
        "far": take(grey(other) ** 2 * 1.5, (0.0, 1.0), SIZES["far"]),
    }


def digits() -> dict[str, Part]:
    """How dark the lower half of a written digit is, from its upper half; not trained on 8 and 9.

    Far away are digits lying on their side.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    turned = data.images.transpose(0, 2, 1).reshape(len(data.images), -1)
    order = np.random.default_rng(6).permutation(len(data.data))
    seen = order[data.target[order] < 8]
    parts = {
        "train": data.data[seen[:700]], "in-domain": data.data[seen[700:]],
        "farther": data.data[data.target >= 8], "far": turned[order[:800]],
    }  # fmt: skip
    return {name: Part(x[:, :32] / 16, x[:, 32:].mean(axis=1)) for name, x in parts.items()}


def cut_by_size(x: Floats, y: Floats, column: int, train: int, seed: int) -> dict[str, Part]:
    """Train on the rows below 75 % of one column; above 90 % is far."""
    middle, high = np.quantile(x[:, column], [0.75, 0.9])
    order = np.random.default_rng(seed).permutation(len(x))
    near = order[x[order, column] <= middle]
    parts = {
        "train": near[:train], "in-domain": near[train:],
        "farther": np.flatnonzero((x[:, column] > middle) & (x[:, column] <= high)),
        "far": np.flatnonzero(x[:, column] > high),
    }  # fmt: skip
    return {name: Part(x[rows], y[rows]) for name, rows in parts.items()}


def tumors(target: int, column: int, seed: int) -> dict[str, Part]:
    """One measured quantity of a tumor from the ten means of the others."""
    from sklearn.datasets import load_breast_cancer

    x = load_breast_cancer().data
    return cut_by_size(x[:, :10], np.log(x[:, target]), column, 220, seed)


def diabetes() -> dict[str, Part]:
    """The progress of the illness; far away is whoever weighs more than those trained on."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    return cut_by_size(data.data, data.target, 2, 160, 8)


# What the law of tables was measured on, and what it is judged on: no table is in both.
DEVELOPMENT = (
    Table("friedman 2, constant noise",
          lambda: noisy(friedman_2, 4, growing(0, 1.0, 1.0), 1)),
    Table("friedman 2, noise grows",
          lambda: noisy(friedman_2, 6, growing(1, 0.1, 2.0), 2)),
    Table("friedman 3, heavy tails",
          lambda: noisy(friedman_3, 4, growing(0, 0.05, 0.3), 3, heavy=True)),
    Table("linear, categories",
          lambda: with_categories(lambda x: x @ np.arange(1.0, 6.0), 5, [0.2, 1, 0.5, 2, 1], 4)),
    Table("swiss roll", swiss_roll),
    Table("pixels of china.jpg", lambda: pixels("china.jpg", "flower.jpg", 7)),
    Table("digits", digits),
    Table("tumors: worst concavity", lambda: tumors(24, 0, 9)),
)  # fmt: skip
TABLES = (
    Table("friedman 1, noise grows",
          lambda: noisy(friedman_1, 10, growing(0, 0.2, 2.2), 11)),
    Table("friedman 3, categories",
          lambda: with_categories(lambda x: 3 * friedman_3(x), 4, [0.1, 0.3, 0.6, 1.0, 0.3], 12)),
    Table("pixels of flower.jpg", lambda: pixels("flower.jpg", "china.jpg", 13)),
    Table("diabetes", diabetes),
)  # fmt: skip


# Networks ---------------------------------------------------------------------------------------


def make_table(name: str, cache: Path) -> list[Path]:
    """Make the networks of a table, or what is missing of them; return their folders."""
    table = next(table for table in (*DEVELOPMENT, *TABLES) if table.name == name)
    folders = [cache / "tables" / name / f"seed_{seed}" for seed in SEEDS]
    if not all(folder.exists() for folder in folders):
        parts = table.make()
        for seed, folder in zip(SEEDS, folders, strict=True):
            if not folder.exists():
                make_network(parts, seed, folder)
    return folders


def make_network(parts: dict[str, Part], seed: int, folder: Path) -> None:
    """Train, and write the folder at once when all is done."""
    from sklearn.neural_network import MLPRegressor

    train = parts["train"]
    center, scale = train.x.mean(axis=0), train.x.std(axis=0)
    scale[scale == 0] = 1.0
    mean, size = train.y.mean(), train.y.std()
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "logs").mkdir(parents=True)
    began = time.process_time()
    network = MLPRegressor(
        hidden_layer_sizes=LAYERS, batch_size=50, learning_rate_init=RATE, random_state=seed
    )
    inputs, kept = (train.x - center) / scale, []
    for epoch in range(EPOCHS):
        if epoch:
            network._optimizer.learning_rate_init = RATE * DECAY**epoch
        network.partial_fit(inputs, (train.y - mean) / size)
        weights = [
            (w.copy(), b.copy()) for w, b in zip(network.coefs_, network.intercepts_, strict=True)
        ]
        if epoch in KEPT:
            kept.append(weights)
        error = mean + size * forward(weights, inputs)[1] - train.y
        np.save(part / "logs" / f"epoch_{epoch}.npy", np.abs(error))
    seconds = time.process_time() - began
    for name, (x, y, noise) in parts.items():
        descriptors, predicted = forward(weights, (x - center) / scale)
        on_the_way = [forward(one, (x - center) / scale)[1] for one in kept]
        arrays = {
            "descriptors": descriptors.astype(np.float32),
            "forces_pred": mean + size * predicted[:, None],
            "forces_true": y[:, None],
            "trajectory": size * np.abs(np.stack(on_the_way) - predicted).mean(axis=0),
            "noise": noise,
        }
        for what, values in arrays.items():
            if values is not None:
                prefix = name if name == "train" else f"test_{name}"
                np.save(part / f"{prefix}_{what}.npy", values)
    (part / "seconds.json").write_text(json.dumps(seconds))
    part.rename(folder)


def forward(weights: list[tuple[Floats, Floats]], x: Floats) -> tuple[Floats, Floats]:
    """Return the last hidden layer of some inputs, (n, d), and the prediction, (n,)."""
    for weight, bias in weights[:-1]:
        x = np.maximum(x @ weight + bias, 0)
    weight, bias = weights[-1]
    return x, np.asarray((x @ weight + bias)[:, 0])
