from pathlib import Path
from typing import Any

import pytest

from shardwise.cli.run_options import make_config
from shardwise.cli.tune import command
from shardwise.core.config import RunConfig

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


def asked(file: str, *words: str) -> RunConfig:
    context = command.make_context("tune", ["people.parquet", "--config", file, *words])
    given: dict[str, Any] = dict(context.params)
    for name in ("as_json", "history", "export"):
        del given[name]
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
