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


@pytest.fixture
def people_file(tmp_path: Path) -> Path:
    path = tmp_path / "people.parquet"
    pq.write_table(people(100), path)
    return path


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
    params = {"trees": {"num_leaves": 5, "extra_trees": True}, "svm": {"kernel": "rbf", "gamma": 0.5}}
    space: dict[str, Any] = {"trees": {"objective": ["l1", "l2"], "cat_smooth": None}}
    for depths in ({"values": [4, 5]}, {"low": 4, "high": 5}):
        space["trees"]["max_depth"] = depths
        check_search(RunConfig(data=("d",), target="y", params=params, space=space))
    space["trees"]["max_depth"] = [4, 5]
    with pytest.raises(ConfigError, match=r"max_depth is .*values"):
        check_search(RunConfig(data=("d",), target="y", params=params, space=space))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"families": ("linear",), "params": {"trees": {"num_leaves": 8}}},
            r"--param trees.num_leaves .* --families linear .*--families linear,trees",
        ),
        (
            {"params": {"trees": {"num_leaves": 8}}, "space": {"trees": {"num_leaves": [4, 16]}}},
            r"--param trees.num_leaves=8 .* --space trees.num_leaves .*one of the two",
        ),
        ({"archive": "gone.json"}, r"no such file: --archive gone.json.*auto, shipped, none, or a file"),
        ({"archive": "gone.json", "sampler": "gp", "pruner": "asha"}, "no such file: --archive gone.json"),
        ({"archive": "gone.json", "sampler": "meta"}, "gone.json"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    people_file: Path, tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    asked = RunConfig(data=(str(people_file),), target="bought", runs_folder=str(tmp_path / "runs"), **given)
    with pytest.raises((ConfigError, DataError), match=words):
        train(asked)
    assert not list(tmp_path.glob("runs/*"))


def test_what_has_an_effect_is_not_refused(tmp_path: Path) -> None:
    archive = tmp_path / "past.json"
    archive.touch()
    for given in (
        {"families": ("linear",), "params": {"baseline": {}, "linear": {"l2": 0.1}, "trees": {}}},
        {"params": {"svm": {"kernel": "rbf"}}},  # of a family that may come with another search
        {"params": {"trees": {"max_depth": 8}}, "space": {"trees": {"num_leaves": [4, 16]}}},
        *({"archive": name} for name in ("auto", "shipped", "none", str(archive))),
    ):
        check_search(RunConfig(data=("d",), target="y", **given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "words"), [('{"format": 99}', "the format 99"), ("[1]", "no archive"), (None, "no such file")]
)
def test_an_archive_that_cannot_be_read_is_refused_before_the_data_are(
    people_file: Path, tmp_path: Path, content: str | None, words: str
) -> None:
    archive, started = tmp_path / "old.json", list[Event]()
    if content is not None:
        archive.write_text(content)
    asked = config(people_file, sampler="meta", archive=str(archive), pruner="none", run="meta")
    with pytest.raises((ConfigError, DataError), match=words):
        train(asked, Events([started.append]))
    assert not [event for event in started if isinstance(event, StageStarted)]
    assert not (tmp_path / "runs" / "meta").exists()
