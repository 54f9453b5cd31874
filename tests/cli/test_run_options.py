from pathlib import Path
from typing import Any

import click
import pytest

from shardwise.cli import plan, train, tune
from shardwise.cli.options import read_options
from shardwise.cli.profile import command as profile
from shardwise.cli.run_options import make_config
from shardwise.core.config import RunConfig
from shardwise.data.dataset import ReadOptions

FILE = """
data: people.parquet
target: bought
families: [trees, linear]
params:
  trees: {num_leaves: 8, subsample: 0.5}
  linear: {l1: 0.1}
space:
  trees: {learning_rate: [0.1, 0.2], max_depth: {low: 2, high: 9}}
kinds: {age: number, city: text}
types: {age: int32}
storage: {anon: "true"}
drop: [id]
class-weight: {0: 1.0, 1: 2.0}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(FILE, encoding="utf8")
    return str(path)


def given_to(command: click.Command, *words: str) -> dict[str, Any]:
    """What a command is called with, but for options that are not the run's."""
    of_others = ("as_json", "history", "export", "accuracy", "name", "registry")
    params = command.make_context("shardwise", list(words)).params
    return {name: value for name, value in params.items() if name not in of_others}


def asked(file: str, *words: str, command: click.Command = tune.command) -> RunConfig:
    given = given_to(command, "people.parquet", "--config", file, *words)
    return make_config(given.pop("config_file"), given)


def test_an_option_takes_the_place_of_its_like_in_the_file_and_of_no_other(file: str) -> None:
    config = asked(
        file, "--param", "trees.subsample=1.0", "--param", "svm.l2=0.5", "--space", "trees.max_depth=[3, 4]", "--kind",
        "city=category", "--kind", "job=text", "--type", "city=string", "--storage", "key=k", "--class-weight", "1=3",
        "--drop", "weight",
    )  # fmt: skip
    assert config.params == {"trees": {"num_leaves": 8, "subsample": 1.0}, "linear": {"l1": 0.1}, "svm": {"l2": 0.5}}
    assert config.space == {"trees": {"learning_rate": [0.1, 0.2], "max_depth": [3, 4]}}
    assert config.kinds == {"age": "number", "city": "category", "job": "text"}
    assert config.types == {"age": "int32", "city": "string"}
    assert config.storage == {"anon": "true", "key": "k"}
    assert config.class_weight == {"0": 1.0, "1": 3}
    assert config.drop == ("weight",)
    assert len(config.identity()) == 12


def test_without_options_the_file_stands(file: str) -> None:
    config = asked(file)
    assert config.params == {"trees": {"num_leaves": 8, "subsample": 0.5}, "linear": {"l1": 0.1}}
    assert str(config.class_weight) == "{0: 1.0, 1: 2.0}"


def test_weights_of_classes_take_the_place_of_balanced_ones(file: str) -> None:
    Path(file).write_text("target: bought\nclass_weight: balanced\n", encoding="utf8")
    assert asked(file, "--class-weight", "yes=3").class_weight == {"yes": 3}


READING = "target: bought\nencoding: latin-1\non_bad_row: skip\nskip_corrupt: true\n"


def test_what_is_given_wins_where_it_is_what_is_usual_too(file: str) -> None:
    Path(file).write_text(READING, encoding="utf8")
    config = asked(file)
    assert (config.encoding, config.on_bad_row, config.skip_corrupt) == ("latin-1", "skip", True)
    config = asked(file, "--on-bad-row", "error", "--encoding", "utf8")
    assert (config.encoding, config.on_bad_row, config.skip_corrupt) == ("utf8", "error", True)


def test_where_nothing_is_said_of_reading_the_defaults_are_meant() -> None:
    given = given_to(profile, "people.parquet")
    assert read_options(given) == ReadOptions()
    given = given_to(profile, "people.csv", "--encoding", "latin-1", "--on-bad-row", "skip", "--storage", "anon=true")
    assert read_options(given) == ReadOptions(encoding="latin-1", on_bad_row="skip", storage={"anon": "true"})


@pytest.mark.parametrize("command", [train.command, tune.command, plan.command])
def test_the_data_may_be_named_by_the_file(file: str, command: click.Command) -> None:
    given = given_to(command, "--config", file)
    assert make_config(given.pop("config_file"), given).data == ("people.parquet",)
    assert asked(file, "others.parquet", command=command).data == ("people.parquet", "others.parquet")
