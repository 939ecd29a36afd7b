"""What each artifact holds, as data. The file-format page of the docs is generated from this."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
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
FIXED_SIZES = {"two": 2, "three": 3, "four": 4}  # dimensions that are called after theirs


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


# fmt: off


def _data(
    dims: tuple[str, ...], dtype: str, units: str, *rules: Rule, required: bool = True,
    beside: str = "", nan: bool = False, **described: str,
) -> tuple[DatasetSpec, ...]:
    """Return datasets that have all in common but name and description."""
    return tuple(
        DatasetSpec(name, dims, dtype, units, description, required, beside, nan, rules)
        for name, description in described.items()
    )


_optional = partial(_data, required=False)


def _in(folder: str, beside: str, *specs: DatasetSpec) -> tuple[DatasetSpec, ...]:
    """Put datasets into a folder, ``beside`` one of those there unless they name another."""
    others = ((spec, spec.beside or beside) for spec in specs)
    return tuple(
        replace(spec, name=folder + spec.name, beside=other and folder + other)
        for spec, other in others
    )


def _index(folder: str, number: str) -> tuple[DatasetSpec, ...]:
    """Return the arrays of an index over some points: of its cells or of NN-descent."""
    points, nodes, edges, cells, axes = (
        f"n_{what}{number}" for what in ("points", "nodes", "graph_edges", "search_cells", "axes")
    )
    return (
        *_in(
            folder, "cell_start",
            *_optional((points,), "int32", ONE, Permutation(points),
                cell_point="points, cell by cell"),
            *_optional((f"{cells}+1",), "int64", ONE, Offsets(points), beside="cell_point",
                cell_start="first of each cell"),
            *_optional((cells, "d_search"), "float32", DESCRIPTOR_UNITS,
                cell_center="centers of the cells"),
            *_optional((cells, axes, "d_search"), "float32", ONE,
                cell_axes="orthonormal axes of each cell"),
            *_optional((cells, axes), "float32", DESCRIPTOR_UNITS,
                cell_low="its points lie above this along each axis, from the center",
                cell_high="and below this"),
            *_optional((cells,), "float32", DESCRIPTOR_UNITS, FROM_0,
                cell_rest="and at most this far beside the axes",
                cell_radius="largest distance of a point of the cell from its center"),
        ),
        *_in(
            folder, "graph_indptr",
            *_optional((f"{points}+1",), "int64", ONE, Offsets(edges), beside="graph_indices",
                graph_indptr="search graph, CSR offsets"),
            *_optional((edges,), "int32", ONE, Number(points),
                graph_indices="search graph, CSR"),
            *_optional((nodes, "d_search"), "float32", ONE,
                tree_hyperplanes="search tree, split normals"),
            *_optional((nodes,), "float32", ONE,
                tree_offsets="search tree, split offsets"),
            *_optional((nodes, "two"), "int32", ONE, Tree(points),
                tree_children="search tree, children"),
            *_optional((points,), "int32", ONE, Number(points),
                tree_indices="search tree, points of the leaves"),
            *_optional((points,), "int32", ONE, Permutation(points),
                vertex_order="point of each graph vertex"),
        ),
    )


def _mean_and_max(
    name: str, dims: tuple[str, ...], units: str, rule: Rule, more: str = ""
) -> tuple[DatasetSpec, ...]:
    """Return the mean and the largest value of the rows of each structure."""
    of = f"{name.replace('_', ' ')}{more} of the rows of the structure"
    return tuple(
        DatasetSpec(f"{name}_{short}", dims, "float32", units, f"{word} {of}", False, rules=(rule,))
        for short, word in (("mean", "mean"), ("max", "largest"))
    )


FROM_0, SHARES = Within(0), Within(0, 1)
SORTED, SORTED_SHARES = (FROM_0, Growing()), (SHARES, Growing())
_EPOCH, _SAMPLE, _POINT, _ROW = ("n_epochs",), ("n_samples",), ("n_points",), ("n_rows",)
_STRUCTURE, _HELD = ("n_structures",), ("n_heldout",)
_ATOM, _FRAME, _VECTOR = ("n_atoms",), ("n_frames",), ("n_atoms", "three")

ERRORS = ArtifactSpec(
    kind="errors",
    version=1,
    description="The error of every training sample at every logged epoch.",
    made_by="ingest",
    parameters=attributes.ErrorsParameters,
    summary=results.IngestResult,
    fingerprint=False,
    datasets=(
        *_data(("n_epochs", "n_samples"), "float32", ERROR_UNITS, FROM_0, nan=True,
            errors="error of each sample at each epoch; NaN is missing"),
        *_data(_EPOCH, "int32", ONE, epoch="epoch number as logged"),
        *_data(_EPOCH, "int32", ONE, FROM_0, run="training run of each row, from 0"),
        *_data(_EPOCH, "float64", ERROR_UNITS, FROM_0, nan=True,
            epoch_mean="mean error over the samples logged in the epoch; NaN if none was",
            epoch_min="smallest error above 0 in the epoch; NaN if none was",
            epoch_max="largest error in the epoch; NaN if none was"),
        *_data(_EPOCH, "int64", ONE, Within(0, "n_samples"),
            epoch_missing="samples missing in the epoch",
            epoch_zeros="errors of exactly 0 in the epoch"),
        *_data(_SAMPLE, "int32", ONE, Within(0, "n_epochs"),
            n_logged="errors logged for each sample"),
        *_data(_SAMPLE, "float32", ERROR_UNITS, FROM_0, nan=True,
            sample_min="smallest error of each sample; NaN if it was never logged",
            sample_max="largest error of each sample; NaN if it was never logged"),
        *_optional(_SAMPLE, "label", ONE, sample_id="the user's own name of each sample"),
        *_optional(_SAMPLE, "int64", ONE, Number("n_samples"),
            structure="structure of each sample, from 0"),
        *_optional(_SAMPLE, "label", ONE,
            species="chemical symbol of each sample",
            config_type="config_type of each sample's frame",
            formula="formula of each sample, where it is a frame",
            group="the user's own group of each sample"),
        *_optional(_SAMPLE, "float32", ERROR_UNITS, FROM_0,
            magnitude="magnitude of each sample's target value, for relative tolerances"),
        *_optional((*_SAMPLE, "two"), "int64", ONE, FROM_0,
            fingerprint="of each sample's frame: two hashes of its species and positions"),
    ),
)

MODEL = ArtifactSpec(
    kind="model",
    version=1,
    description="Error CDFs of the training set and the search structure over its descriptors.",
    made_by="fit",
    parameters=attributes.ModelParameters,
    summary=results.FitResult,
    datasets=(
        *_data(("n_bins+1",), "float64", ERROR_UNITS, *SORTED,
            bin_edges="bin b holds errors in (bin_edges[b-1], bin_edges[b]]"),
        *_data(("n_thresholds",), "float64", ERROR_UNITS, *SORTED,
            thresholds="thresholds of `uncertainty`; each is a bin edge"),
        *_data(("n_points", "n_bins+2"), "unsigned", ONE, SomeInEachRow(),
            counts="errors per bin, pooled over the samples of the point: underflow, bins, "
            "overflow"),
        *_data(_POINT, "float32", ERROR_UNITS, FROM_0,
            mean_error="mean logged error of the point's samples",
            max_error="largest logged error of the point's samples"),
        *_data(("n_points", "n_thresholds"), "float32", ONE, SHARES,
            uncertainty="share of logged errors above each threshold"),
        *_data(_POINT, "int64", ONE, Within(1, "n_samples"),
            multiplicity="training samples with exactly these descriptors and as many logged "
            "errors"),
        *_data(_SAMPLE, "int64", ONE, Number("n_points", none=True),
            point="point of each training sample; -1 if it was never logged"),
        *_data(("d",), "float64", DESCRIPTOR_UNITS,
            descriptor_shift="subtracted from descriptors before `descriptor_transform`"),
        *_optional(("d", "d_search"), "float64", ONE,
            descriptor_transform="scales descriptors; without it they are searched as they are"),
        *_data(("n_points", "d_search"), "float32", DESCRIPTOR_UNITS,
            descriptors="distinct training descriptors, scaled"),
        *_data(_SAMPLE, "float32", DESCRIPTOR_UNITS, FROM_0, nan=True,
            loo_distance="mean distance of each sample to its k nearest other training samples; "
            "NaN if it was never logged"),
        *_data(_SAMPLE, "float32", ERROR_UNITS, FROM_0, nan=True,
            loo_expected_error="mean error of these neighbors: what ltau expects of the sample "
            "without seeing it"),
        *_data(("n_neighbors", "n_samples"), "float16", ONE, FROM_0, nan=True,
            loo_share="mean distance to the nearest 1, 2, ... k of them over `loo_distance`: the "
            "reference of a smaller k; NaN if never logged"),
        *_data(_POINT, "float32", ERROR_UNITS, FROM_0,
            last_epoch_error="mean of the last logged errors of the point's samples"),
        *_optional(_SAMPLE, "int64", ONE, Number("n_samples"),
            loo_group="samples that were left out together, with --loo structure"),
        *_optional(("n_shards+1",), "int64", ONE, Offsets("n_points", strictly=True),
            shard_start="first point of each shard, and the number of points, with --shards"),
        *_index("index/", ""),
        *_index("index/*/", "_*"),
    ),
)

# What a calibration is made of, as plain numbers; scores keep a copy under ``calibration/``.
_MAPS = (
    *_data(("n_coefficients",), "float64", ONE,
        coefficients="calibrated error = exp(coefficients[0]) * product of each feature to the "
        "power of its coefficient; features: expected error, relative distance, geometric mean "
        "of the structure's relative distances, neighbor distance, the third and the second "
        "again with a floor where the law bends, expected error of the last epoch, the second "
        "between 1.25 and 5 (of tables), and `user_features`"),
    *_optional(("n_user_features",), "label", ONE,
        user_features="names of the user's own features"),
    *_data(("n_features",), "float64", ONE, Above(0),
        feature_floors="features below these count as these, each in its own units; relative "
        "distances above 5 count as 5, those of structures above 3 as 3"),
    *_data(("n_features",), "float64", ONE, Within(-1e3, 1e3),
        exponent_center="mean logarithm of each feature over the rows that were fitted on"),
    *_data(("n_features", "n_features"), "float64", ONE, Within(-1e6, 1e6), Covariance(),
        exponent_covariance="covariance of the exponents: with the features x of a row as "
        "logarithms, less their center, the spread of its calibrated error is s = sqrt(x' "
        "covariance x)"),
    *_data(("n_draws", "four"), "float64", ONE, Above(0),
        draws="what was fitted on, by draw, structure or row: geometric mean of the relative "
        "distance and of the expected error, largest relative distance, and how many of them "
        "this one stands for"),
    *_data(("n_strata", "n_levels"), "float64", ONE, FROM_0,
        bound_ratio="conformal bound at level p over calibrated error times exp(z(p) s), z the "
        "normal's quantile and s the spread; a stratum is a group and a bin of relative "
        "distance, the last ones are of rows in no known group"),
    *_data(("n_strata", "n_ratio_levels"), "float64", ONE, FROM_0,
        ratio_quantiles="the same for quantiles at equally spaced levels"),
    *_optional(("n_bound_groups",), "label", ONE, Growing(),
        bound_groups="groups with their own bounds"),
    *_optional(("n_distance_edges",), "float64", ONE, *SORTED,
        distance_edges="inner edges of the bins of relative distance"),
    *_optional(("n_groups",), "label", ONE, Growing(), groups="groups of the calibration rows"),
    *_data(("n_groups+1",), "float64", ERROR_UNITS, FROM_0,
        group_error="mean true error of each group, then of all rows"),
    *_in(
        "baselines/", "",
        *_data(("n_baselines",), "label", ONE, names="names of the baselines"),
        *_data(("n_baselines", "n_features"), "float64", ONE, Within(-1e3, 1e3),
            exponent_center="as `exponent_center`"),
        *_data(("n_baselines", "n_features", "n_features"), "float64", ONE, Within(-1e6, 1e6),
            Covariance(),
            exponent_covariance="as `exponent_covariance`"),
        *_data(("n_baselines", "n_coefficients"), "float64", ONE,
            coefficients="baselines the method is compared with: a constant, the neighbor distance "
            "alone, the mean error of the row's group, and the method with the last epoch alone"),
        *_data(("n_baselines", "n_levels"), "float64", ONE, FROM_0,
            bound_ratio="their conformal bounds over their errors"),
        *_data(("n_baselines", "n_ratio_levels"), "float64", ONE, FROM_0,
            ratio_quantiles="as `ratio_quantiles`"),
    ),
)

SCORES = ArtifactSpec(
    kind="scores",
    version=1,
    description="Uncertainty of new predictions.",
    made_by="score",
    parameters=attributes.ScoresParameters,
    summary=results.ScoreResult,
    datasets=(
        *_data(_ROW, "float32", ERROR_UNITS, FROM_0,
            expected_error="mean logged error of the k nearest training samples"),
        *_data(("n_rows", "n_thresholds"), "float32", ONE, SHARES,
            uncertainty="probability that the error exceeds each threshold"),
        *_data(("n_thresholds",), "float64", ERROR_UNITS, *SORTED, thresholds="of `uncertainty`"),
        *_data(("n_rows", "n_quantiles"), "float32", ERROR_UNITS, Within(0),
            Growing(strictly=False),
            quantiles="error quantiles of the mixed CDF"),
        *_data(("n_quantiles",), "float64", ONE, *SORTED_SHARES, quantile_levels="of `quantiles`"),
        *_data(_ROW, "float32", DESCRIPTOR_UNITS, FROM_0,
            neighbor_distance="mean distance to the k nearest training samples"),
        *_data(_ROW, "float32", ONE, FROM_0,
            relative_distance="neighbor distance over the mean leave-one-out distance of the "
            "neighbors"),
        *_data(_ROW, "float64", ONE, SHARES,
            ood_pvalue="share of training samples at least as far from their neighbors; small: "
            "out of domain"),
        *_data(_ROW, "bool", ONE,
            in_training="rows whose descriptors are those of a training sample"),
        *_data(_ROW, "int64", ONE, FROM_0,
            row_hash="hash of the row's descriptors, which are known again in any file by it"),
        *_data(_ROW, "float32", ERROR_UNITS, FROM_0,
            last_epoch_error="mean of the last logged errors of the k nearest training samples"),
        *_optional(_ROW, "float32", ONE, FROM_0,
            local_distance="geometric mean of the relative distances of the atom and its spatial "
            "neighbors, with --frames"),
        *_optional(("n_rows", "n_own_features"), "float32", ONE, FROM_0, beside="feature_names",
            features="the trajectory of described rows, and the user's own features"),
        *_optional(("n_own_features",), "label", ONE, beside="features",
            feature_names="of `features`"),
        *_optional(_ROW, "float32", ERROR_UNITS, FROM_0, beside="calibration/coefficients",
            calibrated_error="calibrated expected error"),
        *_optional(("n_rows", "n_levels"), "float32", ERROR_UNITS, FROM_0,
            beside="calibrated_error",
            error_bound="bound that the error stays under with each probability of `levels`"),
        *_optional(("n_rows", "n_thresholds"), "float32", ONE, SHARES, beside="calibrated_error",
            calibrated_uncertainty="calibrated probability that the error exceeds each threshold"),
        *_optional(("n_levels",), "float64", ONE, *SORTED_SHARES, beside="calibrated_error",
            levels="coverage levels of `error_bound`"),
        *_optional(_ROW, "bool", ONE, beside="calibrated_error",
            in_calibration="rows that the calibration was fitted on: leave them out of any "
            "evaluation"),
        *_optional(_ROW, "int64", ONE, Number("n_rows"), beside="structures/n_samples",
            structure="structure of each row, from 0"),
        *_optional(_ROW, "label", ONE,
            group="the user's group of each row, such as species",
            sample_id="the user's own name of each row"),
        *_optional(_ROW, "float32", ERROR_UNITS, FROM_0, nan=True,
            reference_norm="norm of the reference force that each described atom comes with, by "
            "which it is known again in other files; NaN where it comes with none"),
        *_in(
            "structures/", "n_samples",
            *_optional(_STRUCTURE, "int64", ONE, Within(1, "n_rows"), beside="expected_error_mean",
                n_samples="rows of each structure"),
            *_mean_and_max("expected_error", _STRUCTURE, ERROR_UNITS, FROM_0),
            *_mean_and_max("uncertainty", ("n_structures", "n_thresholds"), ONE, SHARES),
            *_optional(_STRUCTURE, "float32", ONE, FROM_0,
                relative_distance_mean="mean relative neighbor distance of the rows of the "
                "structure"),
            *_optional(_STRUCTURE, "float32", ONE, SHARES,
                out_of_domain_share="share of the structure's rows that are out of domain"),
        ),
        *_in(
            "structures/", "",
            *_optional((*_STRUCTURE, "two"), "int64", ONE, FROM_0,
                fingerprint="of each frame: two hashes of its species and positions"),
        ),
        *_in(
            "structures/", "",
            *_mean_and_max("calibrated_error", _STRUCTURE, ERROR_UNITS, FROM_0),
            *_mean_and_max("error_bound", ("n_structures", "n_levels"), ERROR_UNITS, FROM_0,
                more=" at each level"),
            *_mean_and_max("calibrated_uncertainty", ("n_structures", "n_thresholds"), ONE, SHARES),
        ),
        *_optional(("n_rows", "n_edges"), "float32", ONE, Within(0, 1), Growing(strictly=False),
            beside="cdf_edges",
            cdf="P(error <= cdf_edges), with --cdf"),
        *_optional(("n_edges",), "float64", ERROR_UNITS, *SORTED, beside="cdf",
            cdf_edges="of `cdf`"),
        *(
            replace(
                spec, name=f"calibration/{spec.name}", required=False,
                beside="calibrated_error" if spec.required else "",
            )
            for spec in _MAPS
        ),
    ),
)

CALIBRATION = ArtifactSpec(
    kind="calibration",
    version=1,
    description="Fitted maps from predicted to observed errors, and how well they hold.",
    made_by="calibrate",
    parameters=attributes.CalibrationParameters,
    summary=results.CalibrateResult,
    datasets=(
        *_data(("n_thresholds",), "float64", ERROR_UNITS, *SORTED,
            thresholds="thresholds of the scores"),
        *_data(("n_thresholds",), "float64", ONE, FROM_0,
            threshold_scale="of --method threshold: P(error > threshold) is the mixed CDF's at "
            "threshold / s"),
        *_data(("n_levels",), "float64", ONE, *SORTED_SHARES,
            levels="coverage levels of `bound_ratio`"),
        *_MAPS,
        *_data(("n_fit",), "int64", ONE, *SORTED, fit_row="rows of the scores used for the fit"),
        *_data(("n_fit_hashes",), "int64", ONE, *SORTED,
            fit_hash="hashes of the descriptors of these rows, which are known again by it"),
        *_data(_HELD, "int64", ONE, *SORTED, heldout_row="rows that the fit did not see"),
        *_data(_HELD, "float32", ERROR_UNITS, FROM_0,
            heldout_true_error="their true errors",
            heldout_expected_error="their expected errors",
            heldout_calibrated_error="their calibrated errors"),
        *_data(_HELD, "float32", ONE, FROM_0, heldout_relative_distance="their relative distances"),
        *_optional(_HELD, "label", ONE, heldout_group="their groups, such as species"),
        *_data(_HELD, "float32", ONE, FROM_0,
            heldout_spread="standard deviation of the logarithms of their calibrated errors"),
        *_data(_HELD, "int64", ONE, Number("n_strata"),
            heldout_stratum="row of `bound_ratio` of each of them"),
        *_data(("n_heldout", "n_thresholds"), "float32", ONE, SHARES,
            heldout_uncertainty="their uncertainties",
            heldout_calibrated_uncertainty="their uncertainties as scores with this calibration "
            "have them"),
    ),
)

DESCRIBED = ArtifactSpec(
    kind="described",
    version=1,
    description="Descriptors and predictions of a trained network, and the references, of frames.",
    made_by="describe",
    parameters=attributes.DescribedParameters,
    summary=results.DescribeResult,
    fingerprint=False,
    datasets=(
        *_data(("n_atoms", "d"), "float32", DESCRIPTOR_UNITS,
            descriptors="invariant features of each atom, in the order of the frames"),
        *_data(_ATOM, "label", ONE, species="chemical symbol of each atom"),
        *_data(_ATOM, "int64", ONE, Number("n_frames"), structure="structure of each atom, from 0"),
        *_optional(_ATOM, "label", ONE, config_type="config_type of each atom's frame"),
        *_optional(_VECTOR, "float64", ERROR_UNITS, forces="predicted force on each atom"),
        *_optional(_ATOM, "float64", ERROR_UNITS, FROM_0,
            trajectory="mean distance of the forces by weights that were kept during the training "
            "from these, with --trajectory"),
        *_optional(_VECTOR, "float64", ERROR_UNITS, nan=True,
            reference_forces="force on each atom that the frames come with; NaN where they do not"),
        *_data(_VECTOR, "float64", "Å", positions="of each atom"),
        *_data(("n_frames", "three", "three"), "float64", "Å", cell="rows are vectors"),
        *_data(("n_frames", "three"), "bool", ONE, pbc="directions that are periodic"),
        *_data(_FRAME, "int64", ONE, Within(1, "n_atoms"), natoms="atoms of each structure"),
        *_data(_FRAME, "int64", ONE, *SORTED,
            frame="number of each structure among the frames that were given, from 0"),
        *_optional((*_FRAME, "two"), "int64", ONE, FROM_0,
            fingerprint="two hashes of the species and positions of each structure"),
        *_optional(_FRAME, "float64", "eV", energy="predicted energy of each structure"),
        *_optional(_FRAME, "float64", "eV", nan=True,
            reference_energy="energy that each frame comes with; NaN where it does not"),
    ),
)

# fmt: on

SPECS: dict[str, ArtifactSpec] = {
    spec.kind: spec for spec in (ERRORS, MODEL, SCORES, CALIBRATION, DESCRIBED)
}


def split_dim(dim: str) -> tuple[str, int]:
    """``"n_bins+1"`` is ``("n_bins", 1)``."""
    name, _, more = dim.partition("+")
    return name, int(more or 0)
