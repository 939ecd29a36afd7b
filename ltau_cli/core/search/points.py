"""Identical descriptors become one point with a multiplicity."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Integers, Singles

COMPARED = 4_096  # rows compared at a time


@dataclass
class Points:
    """Distinct training points and the samples that coincide on them."""

    first: Integers  # (n_points,): the first sample of each point; increasing
    of_sample: Integers  # (n_samples,): the point of each sample
    multiplicity: Integers  # (n_points,): samples per point


def find_points(
    descriptors: Singles, n_logged: npt.NDArray[np.integer], *, merge_within: float = 0.0
) -> Points:
    """Group samples (n_samples, d) with identical descriptors and equally many logged errors.

    Samples are told apart by ``n_logged`` (n_samples,) too, because only then does pooling their
    counts give the mean of their CDFs exactly. Samples in the same cell of a grid with a spacing
    of ``merge_within`` (descriptor units) count as identical too. Points are in the order of first
    appearance.
    """
    n = len(descriptors)
    if merge_within > 0:
        descriptors = np.floor(descriptors / merge_within).astype(np.float32)
    words = np.empty((n, descriptors.shape[1] + 1), dtype=np.uint32)
    np.add(descriptors, np.float32(0), out=words.view(np.float32)[:, :-1])
    words[:, -1] = n_logged
    hashes = _hash_rows(words)
    order = np.argsort(hashes, kind="stable")
    same_hash = hashes[order[1:]] == hashes[order[:-1]]
    same_row = same_hash.copy()
    places = np.flatnonzero(same_hash)
    for start in range(0, len(places), COMPARED):
        part = places[start : start + COMPARED]
        same_row[part] = (words[order[part + 1]] == words[order[part]]).all(axis=1)
    if (same_hash != same_row).any():  # rows that share a hash but differ: sort by content
        order = np.lexsort(words.T[::-1])
        same_row = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    new_group = np.concatenate([[True], ~same_row])
    group_of_sample = np.empty(n, dtype=np.int64)
    group_of_sample[order] = np.cumsum(new_group) - 1
    group_first = order[new_group]  # both sorts are stable: the first sample of each group
    by_appearance = np.argsort(group_first, kind="stable")
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(by_appearance))
    of_sample = rank[group_of_sample]
    return Points(group_first[by_appearance], of_sample, np.bincount(of_sample))


def _hash_rows(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    multipliers: npt.NDArray[np.uint64] = np.random.default_rng(0).integers(
        1, 2**63, size=(words.shape[1],), dtype=np.uint64
    )
    hashes = np.zeros(len(words), dtype=np.uint64)
    for column, multiplier in enumerate(multipliers):
        hashes = (hashes ^ words[:, column].astype(np.uint64)) * (multiplier | np.uint64(1))
        hashes ^= hashes >> np.uint64(29)
    return hashes
