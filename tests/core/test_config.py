from pathlib import Path

import pytest

from shardwise.core.config import RunConfig, dump_config, load_config
from shardwise.core.errors import ConfigError


def config(**changes: object) -> RunConfig:
    return RunConfig.from_mapping({"data": "a.parquet", "target": "y", **changes})


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="'trials'"):
        config(trails=3)


@pytest.mark.parametrize(
    "changes",
    [{"quantile": 0.9}, {"quantile": "high", "task": "quantile"}, {"test_share": "0.2"}, {"class_weight": {"a": "b"}},
     {"class_weight": {"a": -1.0}}, {"params": {"trees": 3}}, {"space": [3]},
     {"trials": 0}, {"workers": -1}, {"folds": 1}, {"test_share": 1.5}, {"test_share": -0.1}, {"valid_share": 0},
     {"task": "bin"}, {"quantile": 1.0},
     {"rungs": "rows"}, {"rungs": "partitions", "pruner": "curve"},
     {"time": "soon"}, {"memory": "much"}, {"on_bad_row": "ignore"}, {"class_weight": "fair"}],
)  # fmt: skip
def test_values_that_cannot_be_meant_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({}, "--rungs partitions .* --pruner none.*asha"), ({"sampler": "pbt"}, "--rungs partitions .* --sampler pbt")],
)
def test_rungs_on_which_no_trial_rests_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(rungs="partitions", **changes)
    assert config(rungs="partitions", pruner="asha").rungs == "partitions"
    assert config(rungs="rounds", **changes).pruner == "none"


@pytest.mark.parametrize("missing", ["data", "target"])
def test_data_and_target_are_needed(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        RunConfig.from_mapping({"data": "a", "target": "y"} | {missing: None})


def test_bounds_do_not_change_the_identity_and_all_else_does() -> None:
    plain = config().identity()
    bounds = {"time": "5m", "memory": "2GB", "trials": 3, "workers": 2, "out": "m", "run": "r", "strict": True}
    assert config(**bounds, report=False).identity() == plain
    assert len({plain, config(seed=1).identity(), config(group="g").identity(), config(drop="a").identity()}) == 4


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("params: {linear: {l1: 1e-3, l2: -2E+1, name: 1e}}", encoding="utf8")
    assert load_config(path) == {"params": {"linear": {"l1": 0.001, "l2": -20.0, "name": "1e"}}}


def test_a_config_written_as_yaml_reads_back(tmp_path: Path) -> None:
    asked = config(drop=["a", "b"], kinds={"zip": "category"}, time="+5m")
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(asked), encoding="utf8")
    assert RunConfig.from_mapping(load_config(path)) == asked
    assert asked.extends
    assert asked.time_s == 300.0


@pytest.mark.parametrize("text", ["- a\n", "a: [", "5", "day: 2024-02-31", "a: " + "9" * 5_000, "a: " + "[" * 3_000])
def test_what_is_no_yaml_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf8")
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(path)
