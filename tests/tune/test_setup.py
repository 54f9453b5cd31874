"""What cannot be searched is refused before the data are read."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.test_tuning import config

from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError, DataError
from shardwise.core.events import Event, Events, StageStarted
from shardwise.models.families import FAMILIES, PARAMS, check_params
from shardwise.models.spaces import SPACES
from shardwise.testing.tables import people
from shardwise.tune.setup import check_search
from shardwise.tune.spaces import Cube
from shardwise.workflow import train


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"params": {"trees": {"num_leafs": 8}}}, "'num_leaves'"),
        ({"params": {"linear": {"l3": 8}}}, "no param 'l3'"),
        ({"params": {"trees": {"num_leaves": 1}}}, "num_leaves=1 is not allowed"),
        ({"space": {"trees": {"num_leafs": [8, 63]}}}, "'num_leaves'"),
        ({"space": {"trees": {"num_leafs": None}}}, "'num_leaves'"),
        ({"space": {"trees": {"num_leaves": {"values": [1]}}}}, "num_leaves=1 is not allowed"),
        ({"space": {"trees": {"categorical": ["natve"]}}}, "'natve'"),
        ({"params": {"cnn": {"channel": 8}}}, "no param 'channel'"),
        ({"space": {"forest": {"leaves": [8, 16]}}, "families": ("forest",)}, "no param 'leaves'"),
    ],
)
def test_unknown_params_and_values_are_refused_before_anything_is_read(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    asked = RunConfig(data=("none.parquet",), target="y", runs_folder=str(tmp_path / "runs"), **given)
    with pytest.raises(ConfigError, match=words):
        train(asked)
    assert not (tmp_path / "runs").exists()


def test_params_that_are_there_are_not_refused() -> None:
    assert PARAMS.keys() == FAMILIES.keys()
    for family, own in SPACES.items():
        check_params(family, Cube(own).default())
    params = {"trees": {"max_depth": 5, "objective": "l1"}, "svm": {"kernel": "rbf", "gamma": 0.5}}
    space: dict[str, Any] = {"trees": {"max_depth": [4, 5], "objective": ["l1", "l2"], "cat_smooth": None}}
    check_search(RunConfig(data=("d",), target="y", params=params, space=space))


@pytest.mark.parametrize(
    ("content", "words"), [('{"format": 99}', "the format 99"), ("[1]", "no archive"), (None, "no such file")]
)
def test_an_archive_that_cannot_be_read_is_refused_before_the_data_are(
    tmp_path: Path, content: str | None, words: str
) -> None:
    pq.write_table(people(100), tmp_path / "people.parquet")
    archive, started = tmp_path / "old.json", list[Event]()
    if content is not None:
        archive.write_text(content)
    asked = config(tmp_path / "people.parquet", sampler="meta", archive=str(archive), pruner="none", run="meta")
    with pytest.raises((ConfigError, DataError), match=words):
        train(asked, Events([started.append]))
    assert not [event for event in started if isinstance(event, StageStarted)]
    assert not (tmp_path / "runs" / "meta").exists()
