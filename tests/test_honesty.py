"""Calibration, decisions, coverage, looks and constraints in whole runs, and from the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.cli import run as shell
from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError, TargetError
from shardwise.store.journal import SqliteJournal
from shardwise.train.postprocess import OutOfFold
from shardwise.workflow import TrainResult, train


def rare(rows: int = 3000, seed: int = 0) -> pa.Table:
    """`y` is yes in a tenth of the rows; `a` tells it, `b` drives the number `z`."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, rows))
    y = rng.random(rows) < 1 / (1 + np.exp(-(1.5 * a - 3)))
    return pa.table({"a": a, "b": b, "when": rng.random(rows), "y": np.where(y, "yes", "no"),
                     "z": 3 * b + rng.normal(size=rows)})  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pq.write_table(rare(), tmp_path / "rare.parquet")
    return tmp_path


def run(data: Path, target: str = "y", **changes: Any) -> TrainResult:
    drop = ("when", "z" if target == "y" else "y")
    asked = {"trials": 2, "folds": 3, "families": "trees", "drop": drop, "report": False, "select": "none"}
    held = {"trees": {"learning_rate": 0.2, "num_leaves": 8}}
    content = {"data": str(data / "rare.parquet"), "target": target, "params": held, **asked, **changes}
    return train(RunConfig.from_mapping(content))


def found(result: TrainResult, code: str) -> dict[str, Any]:
    return next(finding for finding in result.findings if finding["code"] == code)


def test_a_threshold_is_chosen_for_f1_and_the_scores_are_those_of_its_labels(data: Path) -> None:
    result = run(data, metric="f1")
    decision = found(result, "decision")
    assert decision["evidence"]["gain"] > 0
    predictor = shardwise.load(result.package)
    assert predictor.target.decision[0] == pytest.approx(decision["evidence"]["weights"]["no"])
    assert predictor.target.decision[0] < 0.5
    fresh = rare(4000, seed=1)
    labels = np.array(predictor.answer(fresh).column("prediction").to_pylist())
    truth = np.array(fresh.column("y").to_pylist())
    hits = ((labels == "yes") & (truth == "yes")).sum()
    f1 = 2 * hits / ((labels == "yes").sum() + (truth == "yes").sum())
    assert result.score["low"] - 0.03 <= f1 <= result.score["high"] + 0.03
    plain = predictor.predict(fresh)[:, 1] > 0.5
    assert f1 > 2 * (plain & (truth == "yes")).sum() / (plain.sum() + (truth == "yes").sum())


def test_the_estimator_predicts_the_labels_that_are_decided() -> None:
    X = rare(1500).select(["a", "b"]).to_pandas()
    y = np.array(rare(1500)["y"].to_pylist())
    model = shardwise.ShardwiseClassifier(metric="f1", trials=2, families="linear", random_state=0).fit(X, y)
    target = model._predictor.target
    expected = model.classes_[target.classes_of(model.predict_proba(X))]
    assert target.decision
    np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize("target", ["y", "z"])
def test_fresh_rows_are_covered_as_was_promised(data: Path, target: str) -> None:
    result = run(data, target)
    predictor, fresh = shardwise.load(result.package), rare(6000, seed=1)
    answer = predictor.answer(fresh, confidence_level=0.8)
    if target == "z":
        z, low, high = (np.array(each) for each in (fresh["z"], answer["prediction_low"], answer["prediction_high"]))
        held = (low <= z) & (z <= high)
    else:
        truth = np.array(fresh["y"].to_pylist())
        held = np.where(truth == "yes", answer["in_set_yes"].to_pylist(), answer["in_set_no"].to_pylist())
    assert held.mean() == pytest.approx(0.8, abs=0.03)
    coverage = found(result, "coverage")
    assert coverage["severity"] == "info"
    assert coverage["evidence"]["low"] < 0.9 < coverage["evidence"]["high"] + 0.02


def test_the_bytes_are_the_same_whatever_was_looked_at_before_and_the_interval_is_not(data: Path) -> None:
    first = run(data, metric="f1", run="first")
    second = run(data, metric="f1", run="second", seed=1, key=("a",))
    again = run(data, metric="f1", run="again")
    assert (first.looks, second.looks, again.looks) == (1, 1, 1)  # other seeds seal other rows
    third = run(data, metric="f1", run="third", params={"trees": {"num_leaves": 4}})
    assert third.looks == 2
    once = shardwise.load(third.package).package.manifest.metrics["test"]["f1"]
    assert third.score["value"] == once["value"]
    assert third.score["low"] < once["low"] < once["high"] < third.score["high"]
    assert first.package_hash == again.package_hash
    assert first.score == again.score


def test_looks_are_remembered_where_files_and_folders_are_moved(data: Path) -> None:
    table, moved = pq.read_table(data / "rare.parquet"), data / "moved"
    moved.mkdir()
    pq.write_table(table.append_column("more", table["when"]), moved / "rare.parquet")
    first = run(data, run="first", key=("a",))
    second = run(moved, run="second", key=("a",))
    assert (first.looks, second.looks) == (1, 2)  # the same rows are sealed, in another file with a column more
    (data / "runs" / "looks").rename(data / "elsewhere")
    again = run(moved, run="second", key=("a",), trials=1)
    assert again.looks == 2  # the run's own journal knows of one


def test_evaluate_counts_the_packages_that_were_scored_on_the_same_data(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = [run(data, run=name, seed=seed).package for seed, name in enumerate(("one", "two"))]
    pq.write_table(rare(1000, seed=5), data / "new.parquet")
    scores = []
    (data / "copy.parquet").write_bytes((data / "new.parquet").read_bytes())
    for package, file, folder in (
        (packages[0], "new", "runs"), (packages[0], "new", "runs"), (packages[1], "copy", "runs"),
        (packages[1], "new", "none"),
    ):  # fmt: skip
        capsys.readouterr()
        assert shell(["evaluate", package, f"{file}.parquet", "--json", "--runs-folder", folder]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert [each["looks"] for each in scores] == [1, 1, 2, 1]
    assert scores[0]["metrics"] == scores[1]["metrics"]
    widths = [each["metrics"]["roc_auc"]["high"] - each["metrics"]["roc_auc"]["low"] for each in scores]
    assert widths[2] > 1.1 * widths[3]
    assert not (data / "none").exists()


def test_the_command_line_writes_intervals_and_refuses_levels_that_are_none(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = run(data, "z").package
    assert shell(["predict", package, "rare.parquet", "--out", "o.csv", "--confidence-level", "0.9"]) == 0
    assert (data / "o.csv").read_text(encoding="utf8").startswith('"prediction","prediction_low","prediction_high"')
    capsys.readouterr()
    assert shell(["predict", package, "rare.parquet", "--out", "o.csv", "--confidence-level", "90"]) == 2
    assert "outside (0, 1)" in capsys.readouterr().err


def test_a_split_by_time_says_how_far_coverage_is_off(data: Path) -> None:
    table = rare()
    late = np.array(table["when"]) ** 4 * 6
    drifting = table.set_column(table.column_names.index("z"), "z", pa.array(np.array(table["z"]) + late))
    pq.write_table(drifting, data / "rare.parquet")
    result = run(data, "z", time_column="when", drop=("y",))
    told = found(result, "not_exchangeable")
    assert told["severity"] == "warning"
    assert told["evidence"]["lowest"] < 0.85
    assert found(result, "coverage")["severity"] == "warning"
    gap = found(result, "score_gap")["evidence"]
    assert gap["random"] - gap["apart"] == pytest.approx(gap["gap"], abs=2e-4)
    assert gap["gap"] > 0


def test_a_constraint_is_held_by_the_whole_answer(data: Path) -> None:
    result = run(data, "z", monotone={"b": "-1"}, families=())
    predictor = shardwise.load(result.package)
    b = np.linspace(-3, 3, 200)
    falling = predictor.predict(pa.table({"a": np.zeros(200), "b": b}))
    assert (np.diff(falling) <= 0).all()
    risen = shardwise.load(run(data, "z", monotone={"b": "+1"}).package)
    rising = risen.predict(pa.table({"a": np.zeros(200), "b": b}))
    assert (np.diff(rising) >= 0).all()
    assert np.ptp(rising) > 5
    with pytest.raises(ConfigError, match="linear models hold no monotone"):
        run(data, "z", monotone={"b": 1}, families=("linear",))
    with pytest.raises(ConfigError, match="no feature of numbers 'c'"):
        run(data, "z", monotone={"c": 1})


@pytest.mark.parametrize("target", ["number", "two", "rare"])
def test_ten_rows_are_scored_by_their_folds_with_a_wide_interval(data: Path, target: str) -> None:
    rng = np.random.default_rng(1)
    columns = {"number": rng.normal(size=10), "two": ["a", "b"] * 5, "rare": ["b"] * 2 + ["a"] * 8}
    pq.write_table(pa.table({"x": rng.normal(size=10), "y": columns[target]}), data / "ten.parquet")
    asked = {"data": str(data / "ten.parquet"), "target": "y", "trials": 3, "report": False}
    result = train(RunConfig.from_mapping(asked))
    told = found(result, "few_rows")
    assert (told["severity"], told["evidence"]["rows"], result.score) == ("warning", 10, {})
    assert told["evidence"]["folds"] == (2 if target == "rare" else 5)
    low, high = told["evidence"]["low"], told["evidence"]["high"]
    assert low <= told["evidence"]["value"] <= high
    assert told["evidence"]["value"] == pytest.approx(result.valid_score)
    assert high - low > 0.3  # with ten rows little is known
    assert not [finding for finding in result.findings if finding["code"] == "empty_fold"]
    assert len(shardwise.load(result.package).predict(pa.table({"x": [0.1]}))) == 1


def test_ten_rows_of_which_one_is_of_another_class_are_refused(data: Path) -> None:
    pq.write_table(pa.table({"x": range(10), "y": ["b"] + ["a"] * 9}), data / "ten.parquet")
    asked = {"data": str(data / "ten.parquet"), "target": "y", "trials": 3, "report": False}
    with pytest.raises(TargetError, match=r"9 of 'a', 1 of 'b'; two classes need at least two rows each"):
        train(RunConfig.from_mapping(asked))


def test_few_rows_get_a_nested_score_and_the_report_shows_the_models(data: Path) -> None:
    result = run(data, trials=3, folds=4, report=True)
    assert found(result, "nested")["evidence"]["folds"] == 4
    page = Path(result.report).read_text(encoding="utf8")
    assert "Models of the package" in page


def test_more_folds_are_no_other_test(data: Path) -> None:
    first, second = run(data, run="first", folds=3), run(data, run="second", folds=4)
    assert (first.looks, second.looks) == (1, 2)


@pytest.mark.parametrize("target", ["y", "z"])
def test_a_fold_without_rows_is_left_out(data: Path, target: str) -> None:
    table = pq.read_table(data / "rare.parquet")
    groups = np.random.default_rng(1).integers(6, size=table.num_rows)
    pq.write_table(table.append_column("shop", pa.array(groups)), data / "rare.parquet")
    counts = set()
    for seed in range(3):
        result = run(data, target, group="shop", folds=5, seed=seed, run=f"{target}{seed}", families=())
        with SqliteJournal(data / "runs" / f"{target}{seed}" / "journal.db", read_only=True) as journal:
            counts |= {len(record["folds"]) for record in journal.read() if record["kind"] == "trial"}
        assert result.ensemble
    assert min(counts) < 5


def test_sealed_rows_that_do_not_count_leave_the_score_out_of_fold(data: Path) -> None:
    table = pq.read_table(data / "rare.parquet")
    early = (np.asarray(table["when"]) <= 0.7).astype(float)
    pq.write_table(table.append_column("w", pa.array(early)), data / "rare.parquet")
    result = run(data, drop=("z",), time_column="when", weight="w", run="late")
    assert result.score == {}
    assert result.valid_score > 0.7


def test_a_count_that_is_nearly_always_zero_is_learned(data: Path) -> None:
    table = pq.read_table(data / "rare.parquet")
    counts = np.zeros(table.num_rows, np.int64)
    counts[:2] = 3
    pq.write_table(table.append_column("n", pa.array(counts)), data / "rare.parquet")
    result = run(data, "n", task="count", drop=("when", "y", "z"), families=(), select="auto")
    assert result.package


def test_the_unit_of_weights_does_not_matter() -> None:
    y, prediction, parts = np.zeros(4), np.zeros((4, 2)), np.arange(4)
    pairs = [OutOfFold(y=y, prediction=prediction, weight=scale * np.arange(1.0, 5.0), parts=parts).pairs
             for scale in (1e-6, 1.0, 1e6)]  # fmt: skip
    for each in pairs:
        np.testing.assert_allclose(each.weight, np.arange(1.0, 5.0) / 2.5)
