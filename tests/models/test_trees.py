from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import ConfigError, OverBudget, PackageError, TargetError, TaskFailed
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Task
from shardwise.data.bins import MISSING, Binner
from shardwise.models import trees, trees_params, trees_scores
from shardwise.models.base import FitRun
from shardwise.models.boosting import Curve
from shardwise.models.trees import Trees
from shardwise.models.trees_data import DATASETS, GROWN_LEAF_BYTES, DatasetCache
from shardwise.models.trees_params import TreesParams, unused
from shardwise.models.trees_text import ModelText, PackedText, on_raw_values
from shardwise.testing.models import FEATURES, TRAIN, ModelConformance, Table, on_disk, tiny_table, tiny_target


class TestTrees(ModelConformance):
    family = "trees"
    params: ClassVar[dict[str, Any]] = {
        "n_estimators": 40, "learning_rate": 0.2, "num_leaves": 7, "min_child_samples": 5,
    }  # fmt: skip


class TestManyThreads(ModelConformance):
    """Large data are learned column-wise on all threads; here with sampling of rows and features."""

    family = "trees"
    tasks = (Task.MULTICLASS, Task.QUANTILE)
    params: ClassVar[dict[str, Any]] = {
        "n_estimators": 30, "learning_rate": 0.2, "num_leaves": 15, "subsample": 0.7, "feature_fraction": 0.7,
        "categorical": "ordinal",
    }  # fmt: skip

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def everything_is_large(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trees, "ONE_THREAD_CELLS", 0)
            yield


class TestManyBlocks(ModelConformance):
    """Of models with many leaves a block of trees after the other is predicted; here three trees at a time."""

    family = "trees"
    tasks = (Task.BINARY, Task.MULTICLASS)
    params: ClassVar[dict[str, Any]] = {"n_estimators": 20, "num_leaves": 7, "min_child_samples": 5}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def blocks_are_small(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trees_scores, "BLOCK_LEAVES", 21)
            yield


class TestBits(ModelConformance):
    """Many rows go through the trees in bits; here as few as two."""

    family = "trees"
    tasks = (Task.MULTICLASS, Task.COUNT)
    params: ClassVar[dict[str, Any]] = {"n_estimators": 20, "num_leaves": 15, "min_child_samples": 5}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def bits_are_for_all(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trees_scores, "WORTH_ROWS", 0)
            patch.setattr(trees_scores, "LEAST_ROWS", 2)
            yield


def fit(folder: Path, task: Task, table: Table | None = None, **params: Any) -> Trees:
    model = Trees(tiny_target(task), FEATURES, **{"n_estimators": 60, "min_child_samples": 5, **params})
    model.fit(*on_disk(folder, table or tiny_table(task), reads="bins"), FitRun(seed=1))
    return model


@pytest.mark.parametrize("task", list(Task))
def test_blocks_of_trees_predict_what_all_trees_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    table = tiny_table(task)
    whole = fit(tmp_path / "rows", task, table, num_leaves=7)
    whole.save(tmp_path / "model")
    calls: list[tuple[int, int]] = []

    def spy(self: lgb.Booster, *args: Any, **kwargs: Any) -> Any:
        calls.append((kwargs["start_iteration"], kwargs["num_iteration"]))
        return predict(self, *args, **kwargs)

    predict = lgb.Booster.predict
    monkeypatch.setattr(lgb.Booster, "predict", spy)
    expected = whole.predict(table.X)
    assert len(calls) == 1
    calls.clear()
    monkeypatch.setattr(trees_scores, "BLOCK_LEAVES", 7 * 4 * (len(expected.T) if task is Task.MULTICLASS else 1))
    blocks = Trees.load(tmp_path / "model")
    together = blocks.predict(table.X)
    assert len(calls) == -(-whole.rounds // 4)
    assert sum(count for _, count in calls) >= whole.rounds
    np.testing.assert_allclose(together, expected, rtol=1e-10)
    alone = np.concatenate([blocks.predict(row[None]) for row in table.X[:50]])
    np.testing.assert_array_equal(alone, together[:50])
    monkeypatch.setattr(trees_scores, "WORTH_ROWS", 0)
    monkeypatch.setattr(trees_scores, "LEAST_ROWS", 1)
    calls.clear()
    np.testing.assert_array_equal(blocks.predict(table.X), together)  # in bits
    assert not calls


@pytest.mark.parametrize("categorical", ["native", "ordinal"])
@pytest.mark.parametrize("task", list(Task))
def test_predicts_for_raw_rows_what_lightgbm_does_for_their_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task, categorical: str
) -> None:
    learned: list[PackedText] = []

    def spy(text: ModelText, binner: Binner, features: Sequence[Feature]) -> ModelText:
        text = ModelText(text.head, list(text.trees), text.tail)
        learned.append(text.packed())
        return on_raw_values(text, binner, features)

    monkeypatch.setattr(trees, "on_raw_values", spy)
    table = tiny_table(task)
    model = fit(tmp_path, task, table, categorical=categorical)
    codes = Binner.fit(FEATURES, table.X[table.folds == TRAIN]).codes(table.X).T.astype(np.float64)
    codes[codes == MISSING] = np.nan
    by_codes, by_values = (lgb.Booster(model_str=packed.text()) for packed in (learned[0], model._text))
    assert by_codes.current_iteration() == model.rounds > 5
    np.testing.assert_array_equal(by_values.predict(table.X), by_codes.predict(codes))
    np.testing.assert_array_equal(by_values.feature_importance("gain"), by_codes.feature_importance("gain"))


def test_the_codes_cost_no_accuracy(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION, 6000)
    train, valid = (table.folds == fold for fold in (0, 1))
    data = lgb.Dataset(table.X[train], table.y[train], categorical_feature=[3], params={"verbosity": -1})
    settings = {"learning_rate": 0.05, "min_child_samples": 5, "verbosity": -1, "seed": 1}
    booster = lgb.train(settings, data, 60)
    losses = [
        np.mean((table.y[valid] - prediction[valid]) ** 2)
        for prediction in (fit(tmp_path, Task.REGRESSION, table).predict(table.X), booster.predict(table.X))
    ]
    assert losses[0] < 1.02 * losses[1]


def test_redundant_and_constant_features_are_not_learned_from(tmp_path: Path) -> None:
    table = tiny_table(Task.BINARY)
    table.X[:, 0] = 7.0
    features = [replace(f, redundant=f.name == "shop") for f in FEATURES]
    model = Trees(tiny_target(Task.BINARY), features, n_estimators=20, min_child_samples=5)
    rows = on_disk(tmp_path, table, features, "bins")
    assert [f.name for f in rows[0].features] == ["age", "age is missing", "colour"]
    model.fit(*rows, FitRun(seed=1))
    assert model.importance()["shop"] == model.importance()["size"] == 0
    assert model.predict(table.X).shape == (len(table.y), 2)
    assert f"max_feature_idx={len(FEATURES) - 1}" in model._text.text()


def test_chunks_on_disk_give_the_model_of_one_chunk(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    whole = fit(tmp_path / "whole", Task.REGRESSION, table)
    order = np.argsort(table.folds, kind="stable")
    split = Table(np.asfortranarray(table.X[order]), table.y[order], None, table.folds[order])
    again = fit(tmp_path / "split", Task.REGRESSION, split)
    np.testing.assert_array_equal(whole.predict(table.X), again.predict(table.X))


def test_encoded_features_can_be_switched_off(tmp_path: Path) -> None:
    importance = fit(tmp_path, Task.BINARY, use_encoded=False).importance()
    assert [importance[f.name] for f in FEATURES if f.kind is FeatureKind.ENCODED] == [0.0]
    assert fit(tmp_path, Task.BINARY).importance()["shop"] > 0


def test_categories_of_few_numbers_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, colour = FEATURES[0], FEATURES[3]
    both = (size, replace(colour, name="size:category", source="size"), colour)
    assert unused(TreesParams(), both) == frozenset()
    assert unused(TreesParams(use_copies=False), both) == {"size:category"}
    assert fit(tmp_path / "with", Task.BINARY).importance()["colour"] > 0
    monkeypatch.setattr(trees_params, "copies", lambda _, used: frozenset() if used else frozenset({"colour"}))
    assert fit(tmp_path / "without", Task.BINARY, use_copies=False).importance()["colour"] == 0


@pytest.mark.parametrize("params", [{"target_transform": "log1p"}, {"objective": "l1"}, {"objective": "huber"}])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_other_losses_and_scales_of_regression(tmp_path: Path, params: dict[str, Any], scale: float) -> None:
    table = tiny_table(Task.REGRESSION)
    y = scale * np.exp(table.y / 100)
    prediction = fit(tmp_path, Task.REGRESSION, Table(table.X, y, None, table.folds), **params).predict(table.X)
    assert np.corrcoef(prediction, y)[0, 1] > 0.9
    assert abs(prediction.mean() / y.mean() - 1) < 0.05


def test_a_large_offset_loses_nothing(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    plain = fit(tmp_path / "plain", Task.REGRESSION, table).predict(table.X)
    shifted = fit(tmp_path / "shifted", Task.REGRESSION, Table(table.X, table.y + 1e12, None, table.folds))
    np.testing.assert_allclose(shifted.predict(table.X) - 1e12, plain, atol=0.05 * plain.std())


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION, Task.MULTICLASS])
def test_early_stopping_can_watch_another_metric(tmp_path: Path, task: Task) -> None:
    name = {Task.BINARY: "roc_auc", Task.REGRESSION: "mae", Task.MULTICLASS: "error"}[task]
    assert fit(tmp_path, task, stop_metric=name).rounds > 0


@pytest.mark.parametrize(
    ("task", "params"),
    [
        (Task.BINARY, {"objective": "l1"}),
        (Task.BINARY, {"stop_metric": "rmse"}),
        (Task.COUNT, {"target_transform": "log1p"}),
        (Task.REGRESSION, {"target_transform": "log1p", "objective": "l1"}),
        (Task.REGRESSION, {"num_leaves": 1}),
        (Task.REGRESSION, {"num_leaves": 7.5}),
        (Task.REGRESSION, {"learning_rate": float("nan")}),
        (Task.REGRESSION, {"learning_rate": "fast"}),
        (Task.REGRESSION, {"extra_trees": "yes"}),
    ],
)
def test_params_that_do_not_fit_are_refused(task: Task, params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(params))):
        Trees(tiny_target(task), FEATURES, **params)


def test_targets_that_the_task_cannot_have(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    table.y[0] = -5.0
    with pytest.raises(TargetError, match="negative"):
        fit(tmp_path, Task.COUNT, table)
    with pytest.raises(TargetError, match="log1p"):
        fit(tmp_path, Task.REGRESSION, table, target_transform="log1p")


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    fit(tmp_path / "rows", Task.BINARY).save(tmp_path / "model")
    path = tmp_path / "model" / "model.txt.zst"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PackageError, match="damaged"):
        Trees.load(tmp_path / "model")


def test_trees_of_before_texts_were_compressed_load_and_compressed_ones_are_small(tmp_path: Path) -> None:
    model, folder = fit(tmp_path / "rows", Task.BINARY), tmp_path / "model"
    model.save(folder)
    packed = folder / "model.txt.zst"
    with pa.input_stream(packed, compression="zstd") as stream:
        content = stream.read()
    assert packed.stat().st_size < len(content) / 2
    packed.unlink()
    (folder / "model.txt").write_bytes(content)
    X = tiny_table(Task.BINARY).X
    np.testing.assert_array_equal(Trees.load(folder).predict(X), model.predict(X))


def test_a_model_grows_no_larger_than_it_may(tmp_path: Path) -> None:
    rows, told = on_disk(tmp_path, tiny_table(Task.MULTICLASS), reads="bins"), list[str]()
    room = 60 * GROWN_LEAF_BYTES * tiny_target(Task.MULTICLASS).outputs * 7
    for rounds, bound, wanted in ((80, room, 60), (80, 2**62, 80), (55, room, 55), (80, 1, 50)):
        model = Trees(tiny_target(Task.MULTICLASS), FEATURES, n_estimators=rounds, num_leaves=7, learning_rate=0.001)
        model.fit(rows[0], None, FitRun(seed=1, model_bytes=bound, note=told.append))
        assert model.rounds == wanted
    assert [text.split(":")[0] for text in told] == [f"Boosting ended after {n} rounds" for n in (60, 50)]


def test_a_second_candidate_uses_the_same_bins(tmp_path: Path) -> None:
    DATASETS.free()
    rows = on_disk(tmp_path, tiny_table(Task.BINARY), reads="bins")
    answers = []
    for params in ({}, {"num_leaves": 5, "min_child_samples": 2}, {"categorical": "ordinal"}, {}):
        model = Trees(tiny_target(Task.BINARY), FEATURES, n_estimators=20, **params)
        model.fit(*rows, FitRun(seed=1))
        answers.append(model.predict(tiny_table(Task.BINARY).X))
    assert len(DATASETS) == 2  # native and ordinal
    np.testing.assert_array_equal(answers[0], answers[3])
    assert (answers[0] != answers[1]).any()


def test_kept_datasets_obey_the_memory_limit(tmp_path: Path) -> None:
    cache, params = DatasetCache(), {"categorical_feature": [], "verbosity": -1}
    rows = [on_disk(tmp_path / str(i), tiny_table(Task.BINARY, seed=i), reads="bins")[0] for i in range(3)]
    size = rows[0].n_rows * (len(FEATURES) + 8)
    kept = []
    for each in rows:
        with cache.open(each, None, params, 4 * 2 * size) as (data, _):
            assert data.num_data() == each.n_rows
        kept.append(len(cache))
    assert kept == [1, 2, 2]
    with cache.open(rows[0], None, params, size):
        assert len(cache) == 0


def test_rewritten_rows_are_binned_anew(tmp_path: Path) -> None:
    first = fit(tmp_path, Task.BINARY, tiny_table(Task.BINARY, seed=1)).predict(tiny_table(Task.BINARY).X)
    second = fit(tmp_path, Task.BINARY, tiny_table(Task.BINARY, seed=2)).predict(tiny_table(Task.BINARY).X)
    assert (first != second).any()


def test_curve_waits_longer_for_slow_learners() -> None:
    curve = Curve(3, 0.5)
    assert [curve.add(step, loss) for step, loss in enumerate([5.0, 4.0, 4.5, 4.5, 4.5, 4.5], start=1)] == [
        True
    ] * 5 + [False]
    assert (curve.best_round, curve.best) == (2, 4.0)


@pytest.mark.parametrize(("text", "kind"), [("std::bad_alloc", OverBudget), ("Check failed", TaskFailed)])
def test_errors_of_lightgbm_become_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception]
) -> None:
    def fail(*_args: Any) -> None:
        raise lgb.basic.LightGBMError(text)

    monkeypatch.setattr(lgb, "Booster", fail)
    with pytest.raises(kind, match="LightGBM"):
        fit(tmp_path, Task.BINARY)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = fit(tmp_path / "rows", Task.REGRESSION, tiny_table(Task.REGRESSION, 30), min_child_samples=50)
    model.save(tmp_path / "model")
    Trees.load(tmp_path / "model").predict(tiny_table(Task.REGRESSION).X)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_only_the_rows_of_the_folds_are_learned(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    spoiled = Table(table.X, np.where(table.folds == TRAIN, table.y, 1e6), None, table.folds)
    rows = on_disk(tmp_path, spoiled, reads="bins")
    model = Trees(tiny_target(Task.REGRESSION), FEATURES, n_estimators=10)
    model.fit(rows[0], None, FitRun(seed=1))
    assert model.predict(table.X).max() < 1e4


@pytest.mark.parametrize("task", [Task.BINARY, Task.COUNT])
def test_the_unit_of_weights_does_not_matter(tmp_path: Path, task: Task) -> None:
    table, weight = tiny_table(task), np.random.default_rng(0).uniform(0.5, 2.0, 600).astype(np.float32)
    curves: list[list[float]] = []
    for unit in (1.0, 2.0**-20, 2.0**20):  # exact in floats
        curves.append([])
        report = lambda _step, loss, curve=curves[-1]: curve.append(loss) or True  # noqa: E731
        model = Trees(tiny_target(task), FEATURES, n_estimators=20, reg_lambda=2.0)
        pair = on_disk(tmp_path / str(unit), replace(table, weight=weight * np.float32(unit)), reads="bins")
        model.fit(*pair, FitRun(seed=1, report=report))
    assert len(curves[0]) > 5
    assert curves[1] == curves[2] == curves[0]
