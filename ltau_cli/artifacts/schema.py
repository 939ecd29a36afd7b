"""What each artifact holds, as data. The file-format page of the docs is generated from this."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

FORMAT = "ltau"

ERROR_UNITS = "error units"  # stands for the units the user named at ingest
ONE = "1"
DESCRIPTOR_UNITS = "descriptor units"


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset.

    Parameters
    ----------
    name : str
        Path inside the file; ``*`` stands for a number, from 0.
    dims : tuple of str
        Name of each dimension; ``n_bins+1`` is one longer than ``n_bins``; ``*`` stands for the
        number in the name.
    dtype : str
        numpy dtype name, or ``unsigned`` (the smallest that holds the values), or ``label`` (int64,
        or fixed-length UTF-8 text).
    units, description : str
        Also written to the dataset's attributes.
    required : bool
        Whether every artifact of the kind has it.
    nan : bool
        Whether NaN is allowed (a missing value).
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    units: str
    description: str
    required: bool = True
    nan: bool = False

    def numbered(self, number: int) -> DatasetSpec:
        """Put a number in the place of ``*``."""
        dims = tuple(dim.replace("*", str(number)) for dim in self.dims)
        return replace(self, name=self.name.replace("*", str(number)), dims=dims)


@dataclass(frozen=True)
class ArtifactSpec:
    """One kind of artifact and the version of its layout."""

    kind: str
    version: int
    description: str
    made_by: str
    datasets: tuple[DatasetSpec, ...]
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
    name: str, dims: tuple[str, ...], dtype: str, units: str, description: str, nan: bool = False
) -> DatasetSpec:
    return DatasetSpec(name, dims, dtype, units, description, required=False, nan=nan)


def _index(folder: str, points: str, nodes: str, edges: str) -> tuple[DatasetSpec, ...]:
    """Return the arrays of an NN-descent index over some points."""
    return (
        _optional(
            f"{folder}/graph_indptr", (f"{points}+1",), "int64", ONE, "search graph, CSR offsets"
        ),
        _optional(f"{folder}/graph_indices", (edges,), "int32", ONE, "search graph, CSR"),
        _optional(
            f"{folder}/tree_hyperplanes", (nodes, "d_search"), "float32", ONE,
            "search tree, split normals"
        ),
        _optional(f"{folder}/tree_offsets", (nodes,), "float32", ONE, "search tree, split offsets"),
        _optional(f"{folder}/tree_children", (nodes, "two"), "int32", ONE, "search tree, children"),
        _optional(
            f"{folder}/tree_indices", (points,), "int32", ONE, "search tree, points of the leaves"
        ),
        _optional(f"{folder}/vertex_order", (points,), "int32", ONE, "point of each graph vertex"),
    )  # fmt: skip


_EPOCH, _SAMPLE, _POINT, _QUERY = ("n_epochs",), ("n_samples",), ("n_points",), ("n_queries",)
_STRUCTURE, _HELD = ("n_structures",), ("n_heldout",)

ERRORS = ArtifactSpec(
    kind="errors",
    version=1,
    description="The error of every training sample at every logged epoch.",
    made_by="ingest",
    datasets=(
        DatasetSpec(
            "errors", ("n_epochs", "n_samples"), "float32", ERROR_UNITS,
            "error of each sample at each epoch; NaN is missing", nan=True,
        ),
        DatasetSpec("epoch", _EPOCH, "int32", ONE, "epoch number as logged"),
        DatasetSpec("run", _EPOCH, "int32", ONE, "training run of each row, from 0"),
        DatasetSpec(
            "epoch_mean", _EPOCH, "float64", ERROR_UNITS,
            "mean error over the samples logged in the epoch; NaN if none was", nan=True,
        ),
        DatasetSpec(
            "epoch_min", _EPOCH, "float64", ERROR_UNITS,
            "smallest error above 0 in the epoch; NaN if none was", nan=True,
        ),
        DatasetSpec(
            "epoch_max", _EPOCH, "float64", ERROR_UNITS,
            "largest error in the epoch; NaN if none was", nan=True,
        ),
        DatasetSpec("epoch_missing", _EPOCH, "int64", ONE, "samples missing in the epoch"),
        DatasetSpec("epoch_zeros", _EPOCH, "int64", ONE, "errors of exactly 0 in the epoch"),
        DatasetSpec("n_logged", _SAMPLE, "int32", ONE, "errors logged for each sample"),
        DatasetSpec(
            "sample_min", _SAMPLE, "float32", ERROR_UNITS,
            "smallest error of each sample; NaN if it was never logged", nan=True,
        ),
        DatasetSpec(
            "sample_max", _SAMPLE, "float32", ERROR_UNITS,
            "largest error of each sample; NaN if it was never logged", nan=True,
        ),
        _optional("sample_id", _SAMPLE, "label", ONE, "the user's own name of each sample"),
        _optional("structure", _SAMPLE, "int64", ONE, "structure of each sample, from 0"),
        _optional("species", _SAMPLE, "label", ONE, "chemical symbol of each sample"),
        _optional("config_type", _SAMPLE, "label", ONE, "config_type of each sample's frame"),
        _optional("group", _SAMPLE, "label", ONE, "the user's own group of each sample"),
        _optional(
            "magnitude", _SAMPLE, "float32", ERROR_UNITS,
            "magnitude of each sample's target value, for relative tolerances",
        ),
    ),
)  # fmt: skip

MODEL = ArtifactSpec(
    kind="model",
    version=2,
    description="Error CDFs of the training set and the search structure over its descriptors.",
    made_by="fit",
    datasets=(
        DatasetSpec(
            "bin_edges", ("n_bins+1",), "float64", ERROR_UNITS,
            "bin b holds errors in (bin_edges[b-1], bin_edges[b]]",
        ),
        DatasetSpec(
            "thresholds", ("n_thresholds",), "float64", ERROR_UNITS,
            "thresholds of `uncertainty`; each is a bin edge",
        ),
        DatasetSpec(
            "counts", ("n_points", "n_bins+2"), "unsigned", ONE,
            "errors per bin, pooled over the samples of the point: underflow, bins, overflow",
        ),
        DatasetSpec(
            "mean_error", _POINT, "float32", ERROR_UNITS,
            "mean logged error of the point's samples",
        ),
        DatasetSpec(
            "max_error", _POINT, "float32", ERROR_UNITS,
            "largest logged error of the point's samples",
        ),
        DatasetSpec(
            "uncertainty", ("n_points", "n_thresholds"), "float32", ONE,
            "share of logged errors above each threshold",
        ),
        DatasetSpec(
            "multiplicity", _POINT, "int64", ONE,
            "training samples with exactly these descriptors and as many logged errors",
        ),
        DatasetSpec(
            "point", _SAMPLE, "int64", ONE,
            "point of each training sample; -1 if it was never logged",
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
            "never logged", nan=True,
        ),
        DatasetSpec(
            "loo_expected_error", _SAMPLE, "float32", ERROR_UNITS,
            "mean error of these neighbors: what ltau expects of the sample without seeing it",
            nan=True,
        ),
        _optional(
            "loo_group", _SAMPLE, "int64", ONE,
            "samples that were left out together, with --loo structure",
        ),
        _optional(
            "shard_start", ("n_shards+1",), "int64", ONE,
            "first point of each shard, and the number of points, with --shards",
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
        "floor where the law bends (not in version 1)",
    ),
    DatasetSpec(
        "feature_floors", ("n_features",), "float64", ONE,
        "features below these count as these, each in its own units",
    ),
    _optional(
        "exponent_center", ("n_features",), "float64", ONE,
        "mean logarithm of each feature over the rows that were fitted on",
    ),
    _optional(
        "exponent_covariance", ("n_features", "n_features"), "float64", ONE,
        "covariance of the exponents: with the features x of a row as logarithms, less their "
        "center, the spread of its calibrated error is s = sqrt(x' covariance x)",
    ),
    _optional(
        "knots", ("two", "n_knots"), "float64", ERROR_UNITS,
        "expected and calibrated errors of --method isotonic, linear in between",
    ),
    DatasetSpec(
        "bound_ratio", ("n_cells", "n_levels"), "float64", ONE,
        "conformal bound at level p over calibrated error times exp(z(p) s), z the normal's "
        "quantile and s the spread; a cell is a group and a bin of relative distance, the last "
        "ones are of rows in no known group",
    ),
    DatasetSpec(
        "ratio_quantiles", ("n_cells", "n_ratio_levels"), "float64", ONE,
        "the same for quantiles at equally spaced levels",
    ),
    _optional("bound_groups", ("n_bound_groups",), "label", ONE, "groups with their own bounds"),
    _optional(
        "distance_edges", ("n_distance_edges",), "float64", ONE,
        "inner edges of the bins of relative distance",
    ),
    _optional("groups", ("n_groups",), "label", ONE, "groups of the calibration rows"),
    DatasetSpec(
        "group_error", ("n_groups+1",), "float64", ERROR_UNITS,
        "mean true error of each group, then of all rows",
    ),
    DatasetSpec(
        "baselines/coefficients", ("n_baselines", "n_coefficients"), "float64", ONE,
        "baselines the method is compared with: a constant, the neighbor distance alone, and the "
        "mean error of the row's group",
    ),
    DatasetSpec(
        "baselines/bound_ratio", ("n_baselines", "n_levels"), "float64", ONE,
        "their conformal bounds over their errors",
    ),
    DatasetSpec(
        "baselines/ratio_quantiles", ("n_baselines", "n_ratio_levels"), "float64", ONE,
        "quantiles of true error over theirs",
    ),
)  # fmt: skip

SCORES = ArtifactSpec(
    kind="scores",
    version=2,
    description="Uncertainty of new predictions.",
    made_by="score",
    datasets=(
        DatasetSpec(
            "expected_error", _QUERY, "float32", ERROR_UNITS,
            "mean logged error of the k nearest training samples",
        ),
        DatasetSpec(
            "uncertainty", ("n_queries", "n_thresholds"), "float32", ONE,
            "probability that the error exceeds each threshold",
        ),
        DatasetSpec("thresholds", ("n_thresholds",), "float64", ERROR_UNITS, "of `uncertainty`"),
        DatasetSpec(
            "quantiles", ("n_queries", "n_quantiles"), "float32", ERROR_UNITS,
            "error quantiles of the mixed CDF",
        ),
        DatasetSpec("quantile_levels", ("n_quantiles",), "float64", ONE, "of `quantiles`"),
        DatasetSpec(
            "neighbor_distance", _QUERY, "float32", DESCRIPTOR_UNITS,
            "mean distance to the k nearest training samples",
        ),
        DatasetSpec(
            "relative_distance", _QUERY, "float32", ONE,
            "neighbor distance over the mean leave-one-out distance of the neighbors",
        ),
        DatasetSpec(
            "ood_pvalue", _QUERY, "float64", ONE,
            "share of training samples at least as far from their neighbors; small: out of domain",
        ),
        _optional(
            "calibrated_error", _QUERY, "float32", ERROR_UNITS, "calibrated expected error"
        ),
        _optional(
            "error_bound", ("n_queries", "n_levels"), "float32", ERROR_UNITS,
            "bound that the error stays under with each probability of `levels`",
        ),
        _optional(
            "calibrated_uncertainty", ("n_queries", "n_thresholds"), "float32", ONE,
            "calibrated probability that the error exceeds each threshold",
        ),
        _optional("levels", ("n_levels",), "float64", ONE, "coverage levels of `error_bound`"),
        _optional(
            "in_calibration", _QUERY, "bool", ONE,
            "rows that the calibration was fitted on: leave them out of any evaluation",
        ),
        _optional("structure", _QUERY, "int64", ONE, "structure of each row, from 0"),
        _optional("group", _QUERY, "label", ONE, "the user's group of each row, such as species"),
        _optional("sample_id", _QUERY, "label", ONE, "the user's own name of each row"),
        _optional("structures/n_samples", _STRUCTURE, "int64", ONE, "rows of each structure"),
        _optional(
            "structures/expected_error_mean", _STRUCTURE, "float32", ERROR_UNITS,
            "mean expected error of the structure",
        ),
        _optional(
            "structures/expected_error_max", _STRUCTURE, "float32", ERROR_UNITS,
            "largest expected error of the structure",
        ),
        _optional(
            "structures/uncertainty_mean", ("n_structures", "n_thresholds"), "float32", ONE,
            "mean uncertainty of the structure",
        ),
        _optional(
            "structures/uncertainty_max", ("n_structures", "n_thresholds"), "float32", ONE,
            "largest uncertainty of the structure",
        ),
        _optional(
            "structures/relative_distance_mean", _STRUCTURE, "float32", ONE,
            "mean relative neighbor distance of the structure",
        ),
        _optional(
            "structures/out_of_domain_share", _STRUCTURE, "float32", ONE,
            "share of the structure's rows with ood_pvalue below 0.01",
        ),
        *(
            _optional(f"structures/{name}_{short}", dims, "float32", units, f"{word} {what}")
            for name, dims, units, what in (
                (
                    "calibrated_error", _STRUCTURE, ERROR_UNITS,
                    "calibrated error of the structure",
                ),
                (
                    "error_bound", ("n_structures", "n_levels"), ERROR_UNITS,
                    "error bound of the structure's rows at each level",
                ),
                (
                    "calibrated_uncertainty", ("n_structures", "n_thresholds"), ONE,
                    "calibrated uncertainty of the structure",
                ),
            )
            for short, word in (("mean", "mean"), ("max", "largest"))
        ),
        _optional(
            "cdf", ("n_queries", "n_edges"), "float32", ONE, "P(error <= cdf_edges), with --cdf"
        ),
        _optional("cdf_edges", ("n_edges",), "float64", ERROR_UNITS, "of `cdf`"),
        *(
            replace(spec, name=f"calibration/{spec.name}", required=False)
            for spec in _MAPS
        ),
    ),
)  # fmt: skip

CALIBRATION = ArtifactSpec(
    kind="calibration",
    version=2,
    description="Fitted maps from predicted to observed errors, and how well they hold.",
    made_by="calibrate",
    datasets=(
        DatasetSpec(
            "thresholds", ("n_thresholds",), "float64", ERROR_UNITS, "thresholds of the scores"
        ),
        DatasetSpec(
            "threshold_scale", ("n_thresholds",), "float64", ONE,
            "of --method threshold: P(error > threshold) is the mixed CDF's at threshold / s",
        ),
        DatasetSpec("levels", ("n_levels",), "float64", ONE, "coverage levels of `bound_ratio`"),
        *_MAPS,
        DatasetSpec("fit_row", ("n_fit",), "int64", ONE, "rows of the scores used for the fit"),
        DatasetSpec("heldout_row", _HELD, "int64", ONE, "rows that the fit did not see"),
        DatasetSpec(
            "heldout_true_error", _HELD, "float32", ERROR_UNITS, "their true errors"
        ),
        DatasetSpec(
            "heldout_expected_error", _HELD, "float32", ERROR_UNITS, "their expected errors"
        ),
        DatasetSpec(
            "heldout_calibrated_error", _HELD, "float32", ERROR_UNITS, "their calibrated errors"
        ),
        DatasetSpec(
            "heldout_relative_distance", _HELD, "float32", ONE, "their relative distances"
        ),
        _optional("heldout_group", _HELD, "label", ONE, "their groups, such as species"),
        _optional(
            "heldout_spread", _HELD, "float32", ONE,
            "standard deviation of the logarithms of their calibrated errors",
        ),
        DatasetSpec("heldout_cell", _HELD, "int64", ONE, "row of `bound_ratio` of each of them"),
        DatasetSpec(
            "heldout_uncertainty", ("n_heldout", "n_thresholds"), "float32", ONE,
            "their uncertainties",
        ),
        _optional(
            "heldout_calibrated_uncertainty", ("n_heldout", "n_thresholds"), "float32", ONE,
            "their uncertainties as scores with this calibration have them",
        ),
    ),
)  # fmt: skip

SPECS: dict[str, ArtifactSpec] = {spec.kind: spec for spec in (ERRORS, MODEL, SCORES, CALIBRATION)}


def split_dim(dim: str) -> tuple[str, int]:
    """``"n_bins+1"`` is ``("n_bins", 1)``."""
    name, _, more = dim.partition("+")
    return name, int(more or 0)
