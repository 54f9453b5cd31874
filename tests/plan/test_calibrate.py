"""Calibration: the sizes of a real run are found on a slice, rounds follow the fits, and nothing is left behind."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from tests.plan.shapes import sizes

from shardwise.core.config import RunConfig
from shardwise.core.errors import DataError, TargetError
from shardwise.core.events import Events
from shardwise.plan import saved
from shardwise.plan.calibrate import Calibration, slice_of
from shardwise.plan.knowledge import calibrated, defaults, rounds_from
from shardwise.plan.past import read_runs
from shardwise.plan.probe import Coded, Fitted
from shardwise.plan.training import Rounds
from shardwise.testing.tables import people
from shardwise.train.forecast import plan_run
from shardwise.workflow import open_data, train

DROP = ("id", "weight", "spent", "visits")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.chdir(tmp_path)
    pq.write_table(people(1_500), "people.parquet")
    return RunConfig(
        data=("people.parquet",), target="bought", drop=DROP, folds=2, trials=2, report=False, select="none"
    )


def test_sizes_and_prediction_are_those_of_the_run_that_follows(config: RunConfig) -> None:
    plan = plan_run(config, open_data(config))
    assert plan.fits
    assert sorted(path.name for path in Path("runs").iterdir()) == [saved.FOLDER]
    train(config, Events())
    (run,), refused = read_runs(Path("runs"))
    assert refused == []
    assert run.plan is not None
    assert run.plan["time_s"] == plan.expected.time_s.to_json()
    for name in ("rows", "columns", "features", "binned", "encoded", "texts", "outputs", "task", "folds", "encodings"):
        assert getattr(plan.sizes, name) == getattr(run.sizes, name), name
    assert plan.sizes.train_rows == pytest.approx(run.sizes.train_rows, rel=0.1)
    assert [trial["family"] for trial in run.trials] == ["baseline", "trees"]
    assert {"profile", "leaks", "encode", "train", "test", "package"} <= run.stages.keys()


def test_a_run_without_a_plan_journals_a_prediction_of_its_own(config: RunConfig) -> None:
    train(config, Events())
    (run,), _ = read_runs(Path("runs"))
    assert run.plan is not None
    assert run.plan["memory_bytes"]["value"] > 0


def test_a_prediction_for_other_options_does_not_count(config: RunConfig) -> None:
    dataset = open_data(config)
    plan_run(config, dataset)
    assert saved.kept(config, dataset.fingerprint) is not None
    assert saved.kept(replace(config, trials=3), dataset.fingerprint) is None
    assert saved.kept(replace(config, seed=1), dataset.fingerprint) is None
    assert saved.kept(config, "0" * 24) is None


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"format": 99}'])
def test_a_damaged_prediction_does_not_count(config: RunConfig, content: str) -> None:
    saved.keep(config, "a" * 24, {"format": 1})
    assert saved.kept(config, "a" * 24) == {"format": 1}
    (path,) = Path("runs", saved.FOLDER).iterdir()
    path.write_text(content)
    assert saved.kept(config, "a" * 24) is None


def test_text_files_are_counted(config: RunConfig) -> None:
    arrow_csv.write_csv(people(900), "people.csv")
    plan = plan_run(replace(config, data=("people.csv",)), open_data(replace(config, data=("people.csv",))))
    assert plan.sizes.rows == 900


def test_a_missing_target_names_the_nearest(config: RunConfig) -> None:
    wrong = replace(config, target="bougth")
    with pytest.raises(TargetError, match="bought"):
        plan_run(wrong, open_data(wrong))


def test_a_target_that_cannot_be_learned_is_refused(config: RunConfig) -> None:
    pq.write_table(pa.table({"x": np.arange(100), "y": ["same"] * 100}), "same.parquet")
    same = RunConfig(data=("same.parquet",), target="y")
    with pytest.raises(TargetError):
        plan_run(same, open_data(same))


def test_too_few_rows_are_refused(config: RunConfig) -> None:
    pq.write_table(people(8), "few.parquet")
    few = replace(config, data=("few.parquet",))
    with pytest.raises(DataError, match="rows"):
        plan_run(few, open_data(few))


def fitted(rows: int, best: int, **changes: Any) -> Fitted:
    return replace(
        Fitted(rows=rows, valid_rows=1_000, best=best, steps=best, seconds=1.0, cut=False), **changes
    )  # fmt: skip


def test_rounds_of_all_rows_are_taken_as_they_are() -> None:
    rounds, spread = rounds_from([fitted(4_000, 50), fitted(150_000, 120)], sizes(), defaults())
    assert rounds.at(150_000) == pytest.approx(120)
    assert spread < 0.2


def test_rounds_that_grow_are_expected_to_grow_on() -> None:
    known = replace(defaults(), rounds=Rounds(100.0, 10_000, 0.2))
    flat, _ = rounds_from([fitted(4_000, 100), fitted(16_000, 100)], sizes(), known)
    steep, spread = rounds_from([fitted(4_000, 100), fitted(16_000, 200)], sizes(), known)
    assert 100 <= flat.at(150_000) < steep.at(150_000)
    assert steep.at(16_000) == pytest.approx(200)
    assert spread > rounds_from([fitted(4_000, 100), fitted(64_000, 200)], sizes(), known)[1]


def test_a_fit_that_time_cut_tells_that_it_takes_longer() -> None:
    known = replace(defaults(), rounds=Rounds(100.0, 10_000, 0.2))
    rounds, spread = rounds_from([fitted(4_000, 400, cut=True)], sizes(), known)
    assert rounds.at(4_000) > 400
    assert spread > rounds_from([fitted(4_000, 400)], sizes(), known)[1]


def test_several_folds_say_more_than_one() -> None:
    one, several = (rounds_from([fitted(4_000, 100, folds=folds)], sizes(), defaults())[1] for folds in (1, 4))
    assert several < one


def test_small_data_is_fitted_on_several_folds(config: RunConfig) -> None:
    plan = plan_run(config, open_data(config))
    assert plan.calibration is not None
    assert plan.calibration.fits[-1].folds > 1


def test_features_that_tell_nothing_are_left_out_as_in_the_run(config: RunConfig) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2_400, 12))
    columns = {f"x{i}": X[:, i] for i in range(12)}
    pq.write_table(pa.table({**columns, "y": X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=2_400)}), "noisy.parquet")
    plain = RunConfig(data=("noisy.parquet",), target="y", folds=2, trials=2, report=False, select="none")
    asked = replace(plain, select="auto")
    plan = plan_run(asked, open_data(asked))
    train(asked, Events())
    (run,), _ = read_runs(Path("runs"))
    assert plan.sizes.features == pytest.approx(run.sizes.features, abs=2)
    assert plan.sizes.features < plan_run(plain, open_data(plain)).sizes.features - 5
    assert plan.calibration is not None
    assert plan.calibration.passes_s["select"] > 0


def test_a_slice_is_split_by_time_where_the_run_is(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fold is scored by what lies before it, and what the run seals is in none."""
    days = pa.array(np.arange(2_000) * 86_400, pa.timestamp("s"))
    pq.write_table(pa.table({"x": np.arange(2_000.0), "y": np.arange(2_000.0), "when": days}), "times.parquet")
    seen: list[Coded] = []

    def keep(rows: Coded, *_: object) -> tuple[Fitted, ...]:
        seen.append(rows)
        return ()

    monkeypatch.setattr(sys.modules["shardwise.plan.calibrate"], "probe", keep)  # `shardwise.plan` is a function
    for column in (None, "when"):
        asked = RunConfig(data=("times.parquet",), target="y", trials=2, time_column=column)
        plan_run(asked, open_data(asked))
    mixed, apart = (rows.evaluations for rows in seen)
    assert all(max(fold.train) < min(fold.valid) for fold in apart)
    assert not all(max(fold.train) < min(fold.valid) for fold in mixed)


def test_nothing_fitted_leaves_what_is_usual() -> None:
    known = defaults()
    assert rounds_from([], sizes(), known) == (known.rounds, known.rounds_spread)


def test_a_slow_slice_makes_slow_passes() -> None:
    part = slice_of(sizes(), 50_000)
    assert part.rows == 50_000
    assert part.memory_bytes == pytest.approx(sizes().memory_bytes / 4)

    def found(seconds: float) -> float:
        measured = Calibration(
            sizes=sizes(), rows=50_000, passes_s={"profile": seconds, "recipe": 0.1, "encode": 0.1}, trees=None,
            fits=(), write_bytes_s=1e9, base_bytes=10**8, seconds=1.0,
        )  # fmt: skip
        return calibrated(defaults(), measured).factors["profile"]

    assert found(0.1) < found(1.0) < found(2.0)
