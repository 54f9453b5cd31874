import json
from pathlib import Path

import pytest

from shardwise.core.errors import ConfigError, PackageError
from shardwise.core.target import Task
from shardwise.models.base import FitRun
from shardwise.models.families import FAMILIES, build, load_model, save_model
from shardwise.models.spaces import SPACES
from shardwise.testing.models import FEATURES, on_disk, tiny_table, tiny_target

TARGET = tiny_target(Task.BINARY)


def test_an_unknown_family_names_the_nearest_or_all() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'trees'"):
        build("tree", TARGET, FEATURES, {})
    with pytest.raises(ConfigError, match="adaboost, baseline, catboost, cnn, forest, linear, neural, rnn, svm, trees"):
        build("zzz", TARGET, FEATURES, {})


def test_an_unknown_param_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'num_leaves'"):
        build("trees", TARGET, FEATURES, {"num_leafs": 3})


def test_every_param_of_the_search_spaces_exists() -> None:
    for family, space in SPACES.items():
        for name in space:
            assert name in type(FAMILIES[family](TARGET, FEATURES).params).__dataclass_fields__  # type: ignore[attr-defined]


def test_loading_checks_family_and_format(tmp_path: Path) -> None:
    model = build("baseline", TARGET, FEATURES, {})
    model.fit(*on_disk(tmp_path / "rows", tiny_table(Task.BINARY)), FitRun(seed=1))
    save_model("baseline", model, tmp_path / "model")
    assert type(load_model(tmp_path / "model")) is FAMILIES["baseline"]
    path = tmp_path / "model" / "model.json"
    content = json.loads(path.read_text())
    for change, message in (({"family": "wood"}, "wood"), ({"format": 99}, "99"), ({"target": None}, "damaged")):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(PackageError, match=message):
            load_model(tmp_path / "model")
    path.write_text("{")
    with pytest.raises(PackageError, match="damaged"):
        load_model(tmp_path / "model")


def test_saving_under_another_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="linear"):
        save_model("linear", build("baseline", TARGET, FEATURES, {}), tmp_path)
