"""What each artifact holds, as data. The file-format page of the docs is generated from this."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from ltau_cli import results
from ltau_cli.artifacts import attributes
from ltau_cli.artifacts.rules import (
    Above,
    Covariance,
    Growing,
    Number,
    Offsets,
    Permutation,
    Rule,
    SomeInEachRow,
    Tree,
    Within,
    numbered,
)

FORMAT = "ltau"

ERROR_UNITS = "error units"  # stands for the units the user named at ingest
ONE = "1"
DESCRIPTOR_UNITS = "descriptor units"


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset."""

    name: str  # path inside the file; ``*`` stands for a number, from 0
    # name of each dimension; ``n_bins+1`` is one longer than ``n_bins``; ``*`` as in the name
    dims: tuple[str, ...]
    # numpy dtype name, or ``unsigned`` (the smallest that holds the values), or ``label`` (int64,
    # or fixed-length UTF-8 text)
    dtype: str
    units: str  # stands in the attributes of the dataset, as the description does
    description: str
    required: bool = True  # whether every artifact of the kind has it
    beside: str = ""  # name of a dataset that it must stand beside, where that is there
    nan: bool = False  # whether NaN is allowed (a missing value)
    rules: tuple[Rule, ...] = ()  # what must hold of the values when they are read

    def numbered(self, number: int) -> DatasetSpec:
        """Put a number in the place of ``*``."""
        dims = tuple(dim.replace("*", str(number)) for dim in self.dims)
        rules = tuple(numbered(rule, number) for rule in self.rules)
        name, beside = (text.replace("*", str(number)) for text in (self.name, self.beside))
        return replace(self, name=name, dims=dims, beside=beside, rules=rules)


@dataclass(frozen=True)
class ArtifactSpec:
    """One kind of artifact and the version of its layout."""

    kind: str
    version: int  # 1 or more
    description: str
    made_by: str
    datasets: tuple[DatasetSpec, ...]
    parameters: Any  # what the JSON attributes hold, see :mod:`ltau_cli.artifacts.attributes`
    summary: Any
    fingerprint: bool = True  # whether it is tied to a model
    by_name: dict[str, DatasetSpec] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {spec.name: spec for spec in self.datasets})

    def of(self, name: str) -> DatasetSpec:
        """Return the spec of a dataset, with its number if it has one."""
        number = re.search(r"/(\d+)/", name)
        if number is None:
            return self.by_name[name]
        return self.by_name[name.replace(number[0], "/*/")].numbered(int(number[1]))


def _optional(
    name: str,
    dims: tuple[str, ...],
    dtype: str,
    units: str,
    description: str,
    rules: tuple[Rule, ...] = (),
    beside: str = "",
) -> DatasetSpec:
    return DatasetSpec(
        name, dims, dtype, units, description, required=False, beside=beside, rules=rules
    )


def _index(folder: str, points: str, nodes: str, edges: str) -> tuple[DatasetSpec, ...]:
    """Return the arrays of an index over some points: of its cells or of NN-descent."""
    first, start = f"{folder}/graph_indptr", f"{folder}/cell_start"
    cells = nodes.replace("nodes", "search_cells")
    box = (cells, nodes.replace("nodes", "axes"))
    return (
        _optional(
            f"{folder}/cell_point", (points,), "int32", ONE, "points, cell by cell",
            rules=(Permutation(points),), beside=start,
        ),
        _optional(
            f"{folder}/cell_start", (f"{cells}+1",), "int64", ONE, "first of each cell",
            rules=(Offsets(points),), beside=f"{folder}/cell_point",
        ),
        _optional(
            f"{folder}/cell_center", (cells, "d_search"), "float32", DESCRIPTOR_UNITS,
            "centers of the cells", beside=start,
        ),
        _optional(
            f"{folder}/cell_axes", (*box, "d_search"), "float32", ONE,
            "orthonormal axes of each cell", beside=start,
        ),
        _optional(
            f"{folder}/cell_low", box, "float32", DESCRIPTOR_UNITS,
            "its points lie above this along each axis, from the center", beside=start,
        ),
        _optional(
            f"{folder}/cell_high", box, "float32", DESCRIPTOR_UNITS, "and below this", beside=start
        ),
        _optional(
            f"{folder}/cell_rest", (cells,), "float32", DESCRIPTOR_UNITS,
            "and at most this far beside the axes", rules=FROM_0, beside=start,
        ),
        _optional(
            f"{folder}/cell_radius", (cells,), "float32", DESCRIPTOR_UNITS,
            "largest distance of a point of the cell from its center", rules=FROM_0, beside=start,
        ),
        _optional(
            f"{folder}/graph_indptr", (f"{points}+1",), "int64", ONE, "search graph, CSR offsets",
            rules=(Offsets(edges),), beside=f"{folder}/graph_indices",
        ),
        _optional(
            f"{folder}/graph_indices", (edges,), "int32", ONE, "search graph, CSR",
            rules=(Number(points),), beside=first,
        ),
        _optional(
            f"{folder}/tree_hyperplanes", (nodes, "d_search"), "float32", ONE,
            "search tree, split normals", beside=first,
        ),
        _optional(
            f"{folder}/tree_offsets", (nodes,), "float32", ONE, "search tree, split offsets",
            beside=first,
        ),
        _optional(
            f"{folder}/tree_children", (nodes, "two"), "int32", ONE, "search tree, children",
            rules=(Tree(points),), beside=first,
        ),
        _optional(
            f"{folder}/tree_indices", (points,), "int32", ONE, "search tree, points of the leaves",
            rules=(Number(points),), beside=first,
        ),
        _optional(
            f"{folder}/vertex_order", (points,), "int32", ONE, "point of each graph vertex",
            rules=(Permutation(points),), beside=first,
        ),
    )  # fmt: skip


def _mean_and_max(
    name: str,
    dims: tuple[str, ...],
    units: str,
    what: str,
    rules: tuple[Rule, ...],
    beside: str = "structures/n_samples",
) -> tuple[DatasetSpec, ...]:
    """Return the mean and the largest value of the rows of each structure."""
    return tuple(
        _optional(
            f"structures/{name}_{short}", dims, "float32", units,
            f"{word} {what} of the rows of the structure", rules=rules, beside=beside,
        )
        for short, word in (("mean", "mean"), ("max", "largest"))
    )  # fmt: skip


FROM_0, SHARES = (Within(0),), (Within(0, 1),)
SORTED, SORTED_SHARES = (Within(0), Growing()), (Within(0, 1), Growing())
_EPOCH, _SAMPLE, _POINT, _ROW = ("n_epochs",), ("n_samples",), ("n_points",), ("n_rows",)
_STRUCTURE, _HELD = ("n_structures",), ("n_heldout",)

ERRORS = ArtifactSpec(
    kind="errors",
    version=1,
    description="The error of every training sample at every logged epoch.",
    made_by="ingest",
    parameters=attributes.ErrorsParameters,
    summary=results.IngestResult,
    fingerprint=False,
    datasets=(
        DatasetSpec(
            "errors", ("n_epochs", "n_samples"), "float32", ERROR_UNITS,
            "error of each sample at each epoch; NaN is missing", nan=True, rules=FROM_0,
        ),
        DatasetSpec("epoch", _EPOCH, "int32", ONE, "epoch number as logged"),
        DatasetSpec(
            "run", _EPOCH, "int32", ONE, "training run of each row, from 0", rules=FROM_0
        ),
        DatasetSpec(
            "epoch_mean", _EPOCH, "float64", ERROR_UNITS,
            "mean error over the samples logged in the epoch; NaN if none was",
            nan=True, rules=FROM_0,
        ),
        DatasetSpec(
            "epoch_min", _EPOCH, "float64", ERROR_UNITS,
            "smallest error above 0 in the epoch; NaN if none was", nan=True, rules=FROM_0,
        ),
        DatasetSpec(
            "epoch_max", _EPOCH, "float64", ERROR_UNITS,
            "largest error in the epoch; NaN if none was", nan=True, rules=FROM_0,
        ),
        DatasetSpec(
            "epoch_missing", _EPOCH, "int64", ONE, "samples missing in the epoch",
            rules=(Within(0, "n_samples"),),
        ),
        DatasetSpec(
            "epoch_zeros", _EPOCH, "int64", ONE, "errors of exactly 0 in the epoch",
            rules=(Within(0, "n_samples"),),
        ),
        DatasetSpec(
            "n_logged", _SAMPLE, "int32", ONE, "errors logged for each sample",
            rules=(Within(0, "n_epochs"),),
        ),
        DatasetSpec(
            "sample_min", _SAMPLE, "float32", ERROR_UNITS,
            "smallest error of each sample; NaN if it was never logged", nan=True, rules=FROM_0,
        ),
        DatasetSpec(
            "sample_max", _SAMPLE, "float32", ERROR_UNITS,
            "largest error of each sample; NaN if it was never logged", nan=True, rules=FROM_0,
        ),
        _optional("sample_id", _SAMPLE, "label", ONE, "the user's own name of each sample"),
        _optional(
            "structure", _SAMPLE, "int64", ONE, "structure of each sample, from 0",
            rules=(Number("n_samples"),),
        ),
        _optional("species", _SAMPLE, "label", ONE, "chemical symbol of each sample"),
        _optional("config_type", _SAMPLE, "label", ONE, "config_type of each sample's frame"),
        _optional("group", _SAMPLE, "label", ONE, "the user's own group of each sample"),
        _optional(
            "magnitude", _SAMPLE, "float32", ERROR_UNITS,
            "magnitude of each sample's target value, for relative tolerances", rules=FROM_0,
        ),
    ),
)  # fmt: skip

MODEL = ArtifactSpec(
    kind="model",
    version=1,
    description="Error CDFs of the training set and the search structure over its descriptors.",
    made_by="fit",
    parameters=attributes.ModelParameters,
    summary=results.FitResult,
    datasets=(
        DatasetSpec(
            "bin_edges", ("n_bins+1",), "float64", ERROR_UNITS,
            "bin b holds errors in (bin_edges[b-1], bin_edges[b]]", rules=SORTED,
        ),
        DatasetSpec(
            "thresholds", ("n_thresholds",), "float64", ERROR_UNITS,
            "thresholds of `uncertainty`; each is a bin edge", rules=SORTED,
        ),
        DatasetSpec(
            "counts", ("n_points", "n_bins+2"), "unsigned", ONE,
            "errors per bin, pooled over the samples of the point: underflow, bins, overflow",
            rules=(SomeInEachRow(),),
        ),
        DatasetSpec(
            "mean_error", _POINT, "float32", ERROR_UNITS,
            "mean logged error of the point's samples", rules=FROM_0,
        ),
        DatasetSpec(
            "max_error", _POINT, "float32", ERROR_UNITS,
            "largest logged error of the point's samples", rules=FROM_0,
        ),
        DatasetSpec(
            "uncertainty", ("n_points", "n_thresholds"), "float32", ONE,
            "share of logged errors above each threshold", rules=SHARES,
        ),
        DatasetSpec(
            "multiplicity", _POINT, "int64", ONE,
            "training samples with exactly these descriptors and as many logged errors",
            rules=(Within(1, "n_samples"),),
        ),
        DatasetSpec(
            "point", _SAMPLE, "int64", ONE,
            "point of each training sample; -1 if it was never logged",
            rules=(Number("n_points", none=True),),
        ),
        DatasetSpec(
            "descriptor_shift", ("d",), "float64", DESCRIPTOR_UNITS,
            "subtracted from descriptors before `descriptor_transform`",
        ),
        _optional(
            "descriptor_transform", ("d", "d_search"), "float64", ONE,
            "scales descriptors; without it they are searched as they are",
        ),
        DatasetSpec(
            "descriptors", ("n_points", "d_search"), "float32", DESCRIPTOR_UNITS,
            "distinct training descriptors, scaled",
        ),
        DatasetSpec(
            "loo_distance", _SAMPLE, "float32", DESCRIPTOR_UNITS,
            "mean distance of each sample to its k nearest other training samples; NaN if it was "
            "never logged", nan=True, rules=FROM_0,
        ),
        DatasetSpec(
            "loo_expected_error", _SAMPLE, "float32", ERROR_UNITS,
            "mean error of these neighbors: what ltau expects of the sample without seeing it",
            nan=True, rules=FROM_0,
        ),
        DatasetSpec(
            "loo_share", ("n_neighbors", "n_samples"), "float16", ONE,
            "mean distance to the nearest 1, 2, ... k of them over `loo_distance`: the reference "
            "of a smaller k; NaN if never logged", nan=True, rules=FROM_0,
        ),
        DatasetSpec(
            "last_epoch_error", _POINT, "float32", ERROR_UNITS,
            "mean of the last logged errors of the point's samples", rules=FROM_0,
        ),
        _optional(
            "loo_group", _SAMPLE, "int64", ONE,
            "samples that were left out together, with --loo structure",
            rules=(Number("n_samples"),),
        ),
        _optional(
            "shard_start", ("n_shards+1",), "int64", ONE,
            "first point of each shard, and the number of points, with --shards",
            rules=(Offsets("n_points", strictly=True),),
        ),
        *_index("index", "n_points", "n_nodes", "n_graph_edges"),
        *_index("index/*", "n_points_*", "n_nodes_*", "n_graph_edges_*"),
    ),
)  # fmt: skip

# What a calibration is made of, as plain numbers; scores keep a copy under ``calibration/``.
_MAPS = (
    DatasetSpec(
        "coefficients", ("n_coefficients",), "float64", ONE,
        "calibrated error = exp(coefficients[0]) * product of each feature to the power of its "
        "coefficient; features: expected error, relative distance, geometric mean of the "
        "structure's relative distances, neighbor distance, the third and the second again with a "
        "floor where the law bends, expected error of the last epoch, and `user_features`",
    ),
    _optional(
        "user_features", ("n_user_features",), "label", ONE, "names of the user's own features",
    ),
    DatasetSpec(
        "feature_floors", ("n_features",), "float64", ONE,
        "features below these count as these, each in its own units", rules=(Above(0),),
    ),
    DatasetSpec(
        "exponent_center", ("n_features",), "float64", ONE,
        "mean logarithm of each feature over the rows that were fitted on",
        rules=(Within(-1e3, 1e3),),
    ),
    DatasetSpec(
        "exponent_covariance", ("n_features", "n_features"), "float64", ONE,
        "covariance of the exponents: with the features x of a row as logarithms, less their "
        "center, the spread of its calibrated error is s = sqrt(x' covariance x)",
        rules=(Within(-1e6, 1e6), Covariance()),
    ),
    DatasetSpec(
        "draws", ("n_draws", "four"), "float64", ONE,
        "what was fitted on, by draw, structure or row: geometric mean of the relative distance "
        "and of the expected error, largest relative distance, and how many of them this one "
        "stands for", rules=(Above(0),),
    ),
    DatasetSpec(
        "bound_ratio", ("n_strata", "n_levels"), "float64", ONE,
        "conformal bound at level p over calibrated error times exp(z(p) s), z the normal's "
        "quantile and s the spread; a stratum is a group and a bin of relative distance, the last "
        "ones are of rows in no known group", rules=FROM_0,
    ),
    DatasetSpec(
        "ratio_quantiles", ("n_strata", "n_ratio_levels"), "float64", ONE,
        "the same for quantiles at equally spaced levels", rules=FROM_0,
    ),
    _optional(
        "bound_groups", ("n_bound_groups",), "label", ONE, "groups with their own bounds",
        rules=(Growing(),),
    ),
    _optional(
        "distance_edges", ("n_distance_edges",), "float64", ONE,
        "inner edges of the bins of relative distance", rules=SORTED,
    ),
    _optional(
        "groups", ("n_groups",), "label", ONE, "groups of the calibration rows",
        rules=(Growing(),),
    ),
    DatasetSpec(
        "group_error", ("n_groups+1",), "float64", ERROR_UNITS,
        "mean true error of each group, then of all rows", rules=FROM_0,
    ),
    DatasetSpec("baselines/names", ("n_baselines",), "label", ONE, "names of the baselines"),
    DatasetSpec(
        "baselines/exponent_center", ("n_baselines", "n_features"), "float64", ONE,
        "as `exponent_center`", rules=(Within(-1e3, 1e3),),
    ),
    DatasetSpec(
        "baselines/exponent_covariance", ("n_baselines", "n_features", "n_features"), "float64",
        ONE, "as `exponent_covariance`", rules=(Within(-1e6, 1e6), Covariance()),
    ),
    DatasetSpec(
        "baselines/coefficients", ("n_baselines", "n_coefficients"), "float64", ONE,
        "baselines the method is compared with: a constant, the neighbor distance alone, the mean "
        "error of the row's group, and the method with the last epoch alone",
    ),
    DatasetSpec(
        "baselines/bound_ratio", ("n_baselines", "n_levels"), "float64", ONE,
        "their conformal bounds over their errors", rules=FROM_0,
    ),
    DatasetSpec(
        "baselines/ratio_quantiles", ("n_baselines", "n_ratio_levels"), "float64", ONE,
        "as `ratio_quantiles`", rules=FROM_0,
    ),
)  # fmt: skip


SCORES = ArtifactSpec(
    kind="scores",
    version=1,
    description="Uncertainty of new predictions.",
    made_by="score",
    parameters=attributes.ScoresParameters,
    summary=results.ScoreResult,
    datasets=(
        DatasetSpec(
            "expected_error", _ROW, "float32", ERROR_UNITS,
            "mean logged error of the k nearest training samples", rules=FROM_0,
        ),
        DatasetSpec(
            "uncertainty", ("n_rows", "n_thresholds"), "float32", ONE,
            "probability that the error exceeds each threshold", rules=SHARES,
        ),
        DatasetSpec(
            "thresholds", ("n_thresholds",), "float64", ERROR_UNITS, "of `uncertainty`",
            rules=SORTED,
        ),
        DatasetSpec(
            "quantiles", ("n_rows", "n_quantiles"), "float32", ERROR_UNITS,
            "error quantiles of the mixed CDF", rules=(Within(0), Growing(strictly=False)),
        ),
        DatasetSpec(
            "quantile_levels", ("n_quantiles",), "float64", ONE, "of `quantiles`",
            rules=SORTED_SHARES,
        ),
        DatasetSpec(
            "neighbor_distance", _ROW, "float32", DESCRIPTOR_UNITS,
            "mean distance to the k nearest training samples", rules=FROM_0,
        ),
        DatasetSpec(
            "relative_distance", _ROW, "float32", ONE,
            "neighbor distance over the mean leave-one-out distance of the neighbors", rules=FROM_0,
        ),
        DatasetSpec(
            "ood_pvalue", _ROW, "float64", ONE,
            "share of training samples at least as far from their neighbors; small: out of domain",
            rules=SHARES,
        ),
        DatasetSpec(
            "in_training", _ROW, "bool", ONE,
            "rows whose descriptors are those of a training sample",
        ),
        DatasetSpec(
            "row_hash", _ROW, "int64", ONE,
            "hash of the row's descriptors, which are known again in any file by it", rules=FROM_0,
        ),
        DatasetSpec(
            "last_epoch_error", _ROW, "float32", ERROR_UNITS,
            "mean of the last logged errors of the k nearest training samples", rules=FROM_0,
        ),
        _optional(
            "local_distance", _ROW, "float32", ONE,
            "geometric mean of the relative distances of the atom and its spatial neighbors, with "
            "--frames", rules=FROM_0,
        ),
        _optional(
            "features", ("n_rows", "n_own_features"), "float32", ONE,
            "the user's own features, with --feature", rules=FROM_0, beside="feature_names",
        ),
        _optional(
            "feature_names", ("n_own_features",), "label", ONE, "of `features`",
            beside="features",
        ),
        _optional(
            "calibrated_error", _ROW, "float32", ERROR_UNITS, "calibrated expected error",
            rules=FROM_0,
            beside="calibration/coefficients",
        ),
        _optional(
            "error_bound", ("n_rows", "n_levels"), "float32", ERROR_UNITS,
            "bound that the error stays under with each probability of `levels`", rules=FROM_0,
            beside="calibrated_error",
        ),
        _optional(
            "calibrated_uncertainty", ("n_rows", "n_thresholds"), "float32", ONE,
            "calibrated probability that the error exceeds each threshold", rules=SHARES,
            beside="calibrated_error",
        ),
        _optional(
            "levels", ("n_levels",), "float64", ONE, "coverage levels of `error_bound`",
            rules=SORTED_SHARES,
            beside="calibrated_error",
        ),
        _optional(
            "in_calibration", _ROW, "bool", ONE,
            "rows that the calibration was fitted on: leave them out of any evaluation",
            beside="calibrated_error",
        ),
        _optional(
            "structure", _ROW, "int64", ONE, "structure of each row, from 0",
            rules=(Number("n_rows"),),
            beside="structures/n_samples",
        ),
        _optional("group", _ROW, "label", ONE, "the user's group of each row, such as species"),
        _optional("sample_id", _ROW, "label", ONE, "the user's own name of each row"),
        _optional(
            "structures/n_samples", _STRUCTURE, "int64", ONE, "rows of each structure",
            rules=(Within(1, "n_rows"),),
            beside="structures/expected_error_mean",
        ),
        *_mean_and_max("expected_error", _STRUCTURE, ERROR_UNITS, "expected error", FROM_0),
        *_mean_and_max("uncertainty", ("n_structures", "n_thresholds"), ONE, "uncertainty", SHARES),
        _optional(
            "structures/relative_distance_mean", _STRUCTURE, "float32", ONE,
            "mean relative neighbor distance of the rows of the structure", rules=FROM_0,
            beside="structures/n_samples",
        ),
        _optional(
            "structures/out_of_domain_share", _STRUCTURE, "float32", ONE,
            "share of the structure's rows with ood_pvalue below 0.01", rules=SHARES,
            beside="structures/n_samples",
        ),
        *_mean_and_max(
            "calibrated_error", _STRUCTURE, ERROR_UNITS, "calibrated error", FROM_0, beside=""
        ),
        *_mean_and_max(
            "error_bound", ("n_structures", "n_levels"), ERROR_UNITS, "error bound at each level",
            FROM_0, beside="",
        ),
        *_mean_and_max(
            "calibrated_uncertainty", ("n_structures", "n_thresholds"), ONE,
            "calibrated uncertainty", SHARES, beside="",
        ),
        _optional(
            "cdf", ("n_rows", "n_edges"), "float32", ONE, "P(error <= cdf_edges), with --cdf",
            rules=(Within(0, 1), Growing(strictly=False)),
            beside="cdf_edges",
        ),
        _optional("cdf_edges", ("n_edges",), "float64", ERROR_UNITS, "of `cdf`", rules=SORTED,
            beside="cdf",
        ),
        *(
            replace(
                spec,
                name=f"calibration/{spec.name}",
                required=False,
                beside="calibrated_error" if spec.required else "",
            )
            for spec in _MAPS
        ),
    ),
)  # fmt: skip

CALIBRATION = ArtifactSpec(
    kind="calibration",
    version=1,
    description="Fitted maps from predicted to observed errors, and how well they hold.",
    made_by="calibrate",
    parameters=attributes.CalibrationParameters,
    summary=results.CalibrateResult,
    datasets=(
        DatasetSpec(
            "thresholds", ("n_thresholds",), "float64", ERROR_UNITS, "thresholds of the scores",
            rules=SORTED,
        ),
        DatasetSpec(
            "threshold_scale", ("n_thresholds",), "float64", ONE,
            "of --method threshold: P(error > threshold) is the mixed CDF's at threshold / s",
            rules=FROM_0,
        ),
        DatasetSpec(
            "levels", ("n_levels",), "float64", ONE, "coverage levels of `bound_ratio`",
            rules=SORTED_SHARES,
        ),
        *_MAPS,
        DatasetSpec(
            "fit_row", ("n_fit",), "int64", ONE, "rows of the scores used for the fit",
            rules=SORTED,
        ),
        DatasetSpec(
            "fit_hash", ("n_fit_hashes",), "int64", ONE,
            "hashes of the descriptors of these rows, which are known again by it", rules=SORTED,
        ),
        DatasetSpec(
            "heldout_row", _HELD, "int64", ONE, "rows that the fit did not see",
            rules=SORTED,
        ),
        DatasetSpec(
            "heldout_true_error", _HELD, "float32", ERROR_UNITS, "their true errors", rules=FROM_0
        ),
        DatasetSpec(
            "heldout_expected_error", _HELD, "float32", ERROR_UNITS, "their expected errors",
            rules=FROM_0,
        ),
        DatasetSpec(
            "heldout_calibrated_error", _HELD, "float32", ERROR_UNITS, "their calibrated errors",
            rules=FROM_0,
        ),
        DatasetSpec(
            "heldout_relative_distance", _HELD, "float32", ONE, "their relative distances",
            rules=FROM_0,
        ),
        _optional("heldout_group", _HELD, "label", ONE, "their groups, such as species"),
        DatasetSpec(
            "heldout_spread", _HELD, "float32", ONE,
            "standard deviation of the logarithms of their calibrated errors", rules=FROM_0,
        ),
        DatasetSpec(
            "heldout_stratum", _HELD, "int64", ONE, "row of `bound_ratio` of each of them",
            rules=(Number("n_strata"),),
        ),
        DatasetSpec(
            "heldout_uncertainty", ("n_heldout", "n_thresholds"), "float32", ONE,
            "their uncertainties", rules=SHARES,
        ),
        DatasetSpec(
            "heldout_calibrated_uncertainty", ("n_heldout", "n_thresholds"), "float32", ONE,
            "their uncertainties as scores with this calibration have them", rules=SHARES,
        ),
    ),
)  # fmt: skip

_ATOM, _FRAME = ("n_atoms",), ("n_frames",)
_VECTOR = ("n_atoms", "three")

DESCRIBED = ArtifactSpec(
    kind="described",
    version=1,
    description="Descriptors and predictions of a trained network, and the references, of frames.",
    made_by="describe",
    parameters=attributes.DescribedParameters,
    summary=results.DescribeResult,
    fingerprint=False,
    datasets=(
        DatasetSpec(
            "descriptors", ("n_atoms", "d"), "float32", DESCRIPTOR_UNITS,
            "invariant features of each atom, in the order of the frames",
        ),
        DatasetSpec("species", _ATOM, "label", ONE, "chemical symbol of each atom"),
        DatasetSpec(
            "structure", _ATOM, "int64", ONE, "structure of each atom, from 0",
            rules=(Number("n_frames"),),
        ),
        _optional("config_type", _ATOM, "label", ONE, "config_type of each atom's frame"),
        _optional("forces", _VECTOR, "float64", ERROR_UNITS, "predicted force on each atom"),
        DatasetSpec(
            "reference_forces", _VECTOR, "float64", ERROR_UNITS,
            "force on each atom that the frames come with; NaN where they do not",
            required=False, nan=True,
        ),
        DatasetSpec("positions", _VECTOR, "float64", "Å", "of each atom"),
        DatasetSpec("cell", ("n_frames", "three", "three"), "float64", "Å", "rows are vectors"),
        DatasetSpec("pbc", ("n_frames", "three"), "bool", ONE, "directions that are periodic"),
        DatasetSpec(
            "natoms", _FRAME, "int64", ONE, "atoms of each structure", rules=(Within(1, "n_atoms"),)
        ),
        DatasetSpec(
            "frame", _FRAME, "int64", ONE,
            "number of each structure among the frames that were given, from 0",
            rules=(Within(0), Growing()),
        ),
        _optional("energy", _FRAME, "float64", "eV", "predicted energy of each structure"),
        DatasetSpec(
            "reference_energy", _FRAME, "float64", "eV",
            "energy that each frame comes with; NaN where it does not", required=False, nan=True,
        ),
    ),
)  # fmt: skip

SPECS: dict[str, ArtifactSpec] = {
    spec.kind: spec for spec in (ERRORS, MODEL, SCORES, CALIBRATION, DESCRIBED)
}


def split_dim(dim: str) -> tuple[str, int]:
    """``"n_bins+1"`` is ``("n_bins", 1)``."""
    name, _, more = dim.partition("+")
    return name, int(more or 0)
