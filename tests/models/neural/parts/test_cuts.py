"""Pieces cover each tensor, each cell once for each copy; what does not fit is refused."""

import math
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError
from shardwise.core.parallel import Split
from shardwise.models.neural.grids.trunks import GruTrunk
from shardwise.models.neural.parts.cuts import Cuts, balanced, units_of
from shardwise.models.neural.shape import Shape, first_weights

SIZES: dict[str, Any] = {
    "numbers": 5, "codes": 2, "slots": 13, "scores": 3, "members": 2, "width": 10, "depth": 3, "knots": 4,
    "embedding": 6, "code_embedding": 3,
}  # fmt: skip
LIES = [("tensor", 2, 2), ("tensor", 2, 4), ("tensor", 4, 4), ("pipeline", 2, 4), ("pipeline", 4, 4),
        ("embedding", 4, 4), ("embedding", 3, 3)]  # fmt: skip


def cuts(kind: str, parts: int, size: int, **sizes: Any) -> Cuts:
    return Cuts(Shape(**{**SIZES, **sizes}), Split(kind=kind, parts=parts), size)


def _begun(pieces: Any = None) -> dict[str, np.ndarray]:
    knots = np.sort(np.random.default_rng(0).normal(size=(5, 5)), axis=1)
    return first_weights(Shape(**SIZES), knots, np.array([0.1, 0.2, 0.3]), 3, pieces)


@pytest.mark.parametrize("lies", LIES)
def test_owners_have_each_cell_once_and_begin_with_it(lies: tuple[str, int, int]) -> None:
    found = cuts(*lies)
    whole = _begun()
    seen = {name: np.zeros(size, int) for name, size in found.tensors.items()}
    for rank in range(found.size):
        pieces = found.pieces(rank)
        begun = _begun(pieces)
        assert begun.keys() == pieces.keys()
        for name, piece in pieces.items():
            np.testing.assert_array_equal(begun[name], whole[name][piece])
            seen[name][piece] += found.owner(name, rank) == rank
    assert all((count == 1).all() for count in seen.values())


def test_a_pipeline_has_its_layers_in_order_and_is_balanced() -> None:
    found = cuts("pipeline", 3, 3, depth=4)
    order = [name for unit in units_of(found.shape) for name in unit]
    assert [name for stage in found.stages for name in stage] == order
    sizes = [sum(math.prod(found.tensors[name]) for name in stage) for stage in found.stages]
    assert max(sizes) == found.largest < 0.5 * sum(sizes)


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=9), data=st.data())
def test_runs_are_balanced_as_the_best_of_all_are(sizes: list[int], data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, len(sizes)))

    def largest(bounds: tuple[int, ...]) -> int:
        return max(sum(sizes[start:stop]) for start, stop in pairwise(bounds))

    every = [(0, *ends, len(sizes)) for ends in combinations(range(1, len(sizes)), parts - 1)]
    assert tuple(balanced(sizes, parts)) == min(every, key=largest)


def test_a_deep_pipeline_is_cut_at_once() -> None:
    found = cuts("pipeline", 8, 8, depth=200)
    sizes = [sum(math.prod(found.tensors[name]) for name in stage) for stage in found.stages]
    assert len(sizes) == 8
    assert max(sizes) < 1.2 * sum(sizes) / 8


@pytest.mark.parametrize(
    ("kind", "parts", "sizes", "said"),
    [
        ("tensor", 4, {"width": 3}, "3 columns wide"),
        ("pipeline", 6, {}, "5 stages at most"),
        ("embedding", 2, {"codes": 0, "slots": 0}, "no category is looked up"),
        ("tensor", 2, {"trunk": GruTrunk(steps=4, channels=1, patch=1, hidden=3)}, "images and sequences stay whole"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, parts: int, sizes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        cuts(kind, parts, parts, **sizes)
    assert "--parallel auto" in caught.value.hint
