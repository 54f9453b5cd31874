"""The words of `--parallel`, as a configuration takes them."""

from typing import Any

import pytest

from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError
from shardwise.core.parallel import Parallel, Split


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parallel": "tensr", "families": ("neural",)}, "parallel is 'tensr'"),
        ({"parallel": "tensor"}, "the families are those that are tried by themselves"),
        ({"parallel": "pipeline", "families": ("cnn", "trees")}, "the families are cnn, trees"),
        ({"parallel": "tensor:4", "families": ("neural",), "workers": 2}, "in 4 parts was asked for, of 2 worker"),
        ({"parallel": "tensor", "families": ("neural",), "workers": 1}, "in 2 parts was asked for, of 1 worker"),
        ({"parallel": "embedding", "families": ("neural",), "engine": "dask"}, "cannot start workers together"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        RunConfig(data=("a.parquet",), target="y", **changes)
    assert caught.value.hint


def test_parts_are_the_workers_unless_they_are_given() -> None:
    assert Parallel.parse("pipeline").split(4) == Split(kind="pipeline", parts=4)
    assert Parallel.parse("pipeline:2").split(4) == Split(kind="pipeline", parts=2)


def test_parts_that_find_no_place_are_on_fewer_workers_or_the_whole_on_one() -> None:
    assert [Split(kind="pipeline", parts=3).fitting(most) for most in range(1, 8)] == [1, 1, 3, 3, 3, 6, 6]
    assert [Split(kind="embedding", parts=4).fitting(most) for most in range(1, 5)] == [1, 2, 3, 4]


def test_after_a_loss_a_table_has_other_parts_and_layers_have_none() -> None:
    assert Split(kind="embedding", parts=4).on(3) == Split(kind="embedding", parts=3)
    assert Split(kind="tensor", parts=2).on(4) == Split(kind="tensor", parts=2)
    with pytest.raises(ConfigError, match="in 4 parts was asked for, of 3 worker"):
        Split(kind="tensor", parts=4).on(3)
