"""Conformance kit of model families: subclass `ModelConformance` in a test module, name the family, and run pytest.

class TestTrees(ModelConformance):
    family = "trees"
    params = {"n_estimators": 20}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from shardwise.core.errors import BadInput, ConfigError, Pruned
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.data.bins import Binner
from shardwise.data.rows import BinnedRows, DiskRows, RowsWriter, keep_binner
from shardwise.models.base import Additive, FitRun, Model
from shardwise.models.families import FAMILIES, build, load_model, save_model
from shardwise.models.losses import task_loss

Pair = tuple[DiskRows, DiskRows]
TRAIN, VALID, EMPTY = 0, 1, 2  # fold numbers of the tiny data
FEATURES = (
    Feature(name="size", source="size", kind=FeatureKind.NUMBER, low=-4.0, high=4.0),
    Feature(name="age", source="age", kind=FeatureKind.NUMBER, low=-4.0, high=4.0, fill=0.1, center=0.1, scale=0.9),
    Feature(name="age is missing", source="age", kind=FeatureKind.FLAG),
    Feature(name="colour", source="colour", kind=FeatureKind.CODE, cardinality=4),
    Feature(name="shop", source="shop", kind=FeatureKind.ENCODED),
)


@dataclass(frozen=True)
class Table:
    """X float32 `(rows, features)`, y float64 `(rows,)`, weight float32 `(rows,)` or None, folds int8 `(rows,)`."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    folds: np.ndarray

    def repeated(self, times: np.ndarray) -> "Table":
        """Each row as many times as `times` `(rows,)` says, without weights."""
        chosen = np.repeat(np.arange(len(self.y)), times)
        return Table(self.X[chosen], self.y[chosen], None, self.folds[chosen])


def tiny_target(task: Task) -> Target:
    """A target of each task: two or three classes, a number, a count, the 0.8 quantile."""
    classes = {Task.BINARY: ("no", "yes"), Task.MULTICLASS: ("a", "b", "c")}.get(task, ())
    return Target(column="y", task=task, classes=classes, quantile=0.8)


def tiny_table(task: Task, n_rows: int = 600, seed: int = 0) -> Table:
    """Rows whose target depends on all of `FEATURES`; a third of them for validation; `age` is missing in places."""
    rng = np.random.default_rng(seed)
    X = np.asfortranarray(rng.normal(size=(n_rows, len(FEATURES))).astype(np.float32))
    X[:, 3] = rng.integers(0, 4, n_rows)
    score = X[:, 0] + 0.5 * X[:, 1] + (X[:, 3] == 2) + X[:, 4] + 0.3 * rng.normal(size=n_rows)
    missing = rng.random(n_rows) < 0.1
    X[missing, 1] = np.nan
    X[:, 2] = missing
    X[rng.random(n_rows) < 0.05, 3] = np.nan
    if task is Task.COUNT:
        y = rng.poisson(np.exp(np.clip(score, -3, 2))).astype(np.float64)
    elif task.is_classification:
        y = np.digitize(score, [0.5] if task is Task.BINARY else [-0.5, 1.0]).astype(np.float64)
    else:
        y = 100.0 + 20.0 * score
    return Table(X, y, None, np.where(np.arange(n_rows) % 3 == 2, VALID, TRAIN).astype(np.int8))


def on_disk(folder: Path, table: Table, features: Sequence[Feature] = FEATURES, reads: str = "floats") -> Pair:
    """Training and validation rows of a table, written as two partitions and an empty one, as floats or as bins."""
    binner = Binner.fit(features, table.X[table.folds == TRAIN])
    bins = reads == "bins"
    writer = RowsWriter(folder, len(binner.columns), np.uint8) if bins else RowsWriter(folder, len(features))
    keep_binner(folder, binner)
    half = len(table.y) // 2
    for index, part in enumerate((slice(0, half), slice(0, 0), slice(half, None))):
        weight = None if table.weight is None else table.weight[part]
        X = binner.codes(table.X[part]).T if bins else table.X[part]
        writer.write(index, X, table.y[part], weight, table.folds[part])
    rows = BinnedRows if bins else DiskRows
    return rows(folder, features, [TRAIN]), rows(folder, features, [VALID])


class ModelConformance:
    """What every model family must do, for each of `tasks` that it learns; `params` make it quick."""

    family: ClassVar[str]
    params: ClassVar[Mapping[str, Any]] = {}
    tasks: ClassVar[Sequence[Task]] = tuple(Task)
    keeps_best: ClassVar[bool] = True  # the step with the lowest loss; False: the last one, as more are never worse
    features: ClassVar[Sequence[Feature]] = FEATURES  # those of `tiny_table`; families of grids give some a place
    weight_tolerance: ClassVar[float] = 0.08  # mean prediction with weighted against repeated rows

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each test for each task that the family learns."""
        if "task" in metafunc.fixturenames:
            tasks = [task for task in self.tasks if task in FAMILIES[self.family].traits.tasks]
            metafunc.parametrize("task", tasks, ids=str, scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def rows(cls, tmp_path_factory: pytest.TempPathFactory, task: Task) -> Pair:
        """`tiny_table` on disk."""
        return cls.on_disk(tmp_path_factory.mktemp("rows"), tiny_table(task))

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, task: Task, rows: Pair) -> Model:
        """Fitted on `rows`; not to be changed."""
        return cls.fitted(rows, task)

    @classmethod
    def on_disk(cls, folder: Path, table: Table, features: Sequence[Feature] | None = None) -> Pair:
        """The table's rows of the kind that the family reads."""
        return on_disk(folder, table, cls.features if features is None else features, FAMILIES[cls.family].traits.reads)

    @classmethod
    def build(cls, task: Task, features: Sequence[Feature] | None = None, **params: Any) -> Model:
        features = cls.features if features is None else features
        return build(cls.family, tiny_target(task), features, {**cls.params, **params})

    @classmethod
    def fitted(cls, rows: Pair, task: Task, **run: Any) -> Model:
        model = cls.build(task)
        model.fit(*rows, cls.run(**run))
        return model

    @classmethod
    def run(cls, **settings: Any) -> FitRun:
        return FitRun(**{"seed": 1, **settings})

    def check(self, task: Task, prediction: np.ndarray, n_rows: int) -> None:
        target = tiny_target(task)
        shape = (n_rows, target.outputs) if task.is_classification else (n_rows,)
        assert prediction.shape == shape
        assert prediction.dtype == np.float64
        assert np.isfinite(prediction).all()
        if task.is_classification:
            assert (prediction >= 0).all()
            np.testing.assert_allclose(prediction.sum(axis=1), 1.0, rtol=1e-12)
        if task is Task.COUNT:
            assert (prediction >= 0).all()

    def saved_bytes(self, model: Model, folder: Path) -> dict[str, bytes]:
        save_model(self.family, model, folder)
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    def test_shapes_and_no_nan(self, model: Model, task: Task) -> None:
        X = tiny_table(task, 50, seed=9).X
        for rows in (X, np.ascontiguousarray(X), X[:1], X[:0], X[5:20], np.full_like(X, np.nan), X * np.float32(1e30)):
            self.check(task, model.predict(rows), len(rows))

    def test_infinite_numbers_and_unseen_codes(self, model: Model, task: Task) -> None:
        X = tiny_table(task, 20, seed=9).X
        X[:5, 0], X[5:10, 0], X[:, 3] = np.inf, -np.inf, 99
        self.check(task, model.predict(X), 20)

    def test_a_row_alone_gets_what_it_gets_in_a_batch(self, model: Model, task: Task) -> None:
        X = tiny_table(task, 40, seed=9).X
        alone = np.concatenate([model.predict(X[i : i + 1]) for i in range(len(X))])
        np.testing.assert_array_equal(alone, model.predict(X))

    def test_terms_add_up_to_the_prediction(self, model: Model, task: Task) -> None:
        if not isinstance(model, Additive):
            return
        X = tiny_table(task, 20, seed=9).X
        X[:3, 0], X[3:6, 3], X[6, 1] = np.nan, 99, np.inf
        terms = model.terms(X)
        assert terms.shape == (20, len(self.features) + 1, terms.shape[2])
        np.testing.assert_array_equal(terms[:, -1], np.broadcast_to(terms[0, -1], terms[:, -1].shape))
        np.testing.assert_allclose(model.answers(terms.sum(axis=1)), model.predict(X), rtol=1e-6, atol=1e-9)

    def test_at_least_as_good_as_the_constant(self, model: Model, task: Task, rows: Pair) -> None:
        baseline = build("baseline", tiny_target(task), self.features, {})
        baseline.fit(*rows, self.run())
        fresh = tiny_table(task, 400, seed=7)
        losses = [task_loss(tiny_target(task), fresh.y, each.predict(fresh.X)) for each in (model, baseline)]
        assert losses[0] <= losses[1] * (1.0 if self.family == "baseline" else 0.9)

    def test_saved_and_loaded_is_the_same(self, tmp_path: Path, model: Model, task: Task) -> None:
        saved = self.saved_bytes(model, tmp_path / "model")
        loaded = load_model(tmp_path / "model")
        X = tiny_table(task, 100, seed=9).X
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        assert dict(loaded.importance()) == dict(model.importance())
        assert self.saved_bytes(loaded, tmp_path / "again") == saved

    def test_same_seed_same_bytes_on_one_thread_or_two(
        self, tmp_path: Path, model: Model, task: Task, rows: Pair
    ) -> None:
        models = [model, *(self.fitted(rows, task, threads=threads) for threads in (1, 2))]
        contents = [self.saved_bytes(each, tmp_path / str(i)) for i, each in enumerate(models)]
        assert contents[0] == contents[1] == contents[2]

    def test_importance_is_a_share_of_each_feature(self, model: Model) -> None:
        importance = model.importance()
        if FAMILIES[self.family].traits.importance:
            assert list(importance) == [feature.name for feature in self.features]
            assert sum(importance.values()) == pytest.approx(1.0)
            assert importance["size"] > importance["age is missing"] >= 0
        else:
            assert importance == {}

    def test_reports_the_loss_of_the_task(self, task: Task, rows: Pair) -> None:
        steps: list[tuple[int, float]] = []

        def report(step: int, score: float) -> bool:
            steps.append((step, score))
            return True

        table = tiny_table(task)
        model = self.fitted(rows, task, report=report)
        valid = table.folds == VALID
        loss = task_loss(tiny_target(task), table.y[valid], model.predict(table.X[valid]))
        assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
        kept = min(score for _, score in steps) if self.keeps_best else steps[-1][1]
        assert kept == pytest.approx(loss, rel=1e-4)

    def test_stopping_at_once_leaves_a_usable_model(self, task: Task, rows: Pair) -> None:
        model = self.fitted(rows, task, report=lambda _step, _score: False)
        self.check(task, model.predict(tiny_table(task, 10).X), 10)

    def test_pruned_goes_through_and_leaves_a_usable_model(self, task: Task, rows: Pair) -> None:
        def report(_step: int, _score: float) -> bool:
            raise Pruned

        model = self.build(task)
        with pytest.raises(Pruned):
            model.fit(*rows, self.run(report=report))
        self.check(task, model.predict(tiny_table(task, 10).X), 10)

    @pytest.mark.parametrize("empty", [True, False])
    def test_without_validation_rows(self, task: Task, rows: Pair, empty: bool) -> None:
        model = self.build(task)
        model.fit(rows[0], type(rows[0])(rows[0].folder, self.features, [EMPTY]) if empty else None, self.run())
        self.check(task, model.predict(tiny_table(task, 10).X), 10)

    def test_no_training_rows_is_an_error(self, task: Task, rows: Pair) -> None:
        with pytest.raises(BadInput, match="no training rows"):
            self.fitted((type(rows[0])(rows[0].folder, self.features, [EMPTY]), rows[1]), task)

    @pytest.mark.parametrize("n_rows", [1, 2, 5])
    def test_few_rows(self, tmp_path: Path, task: Task, n_rows: int) -> None:
        table = replace(tiny_table(task, n_rows), folds=np.full(n_rows, TRAIN, np.int8))
        model = self.fitted(self.on_disk(tmp_path, table), task)
        self.check(task, model.predict(tiny_table(task, 10).X), 10)

    @pytest.mark.parametrize("value", [0.0, 7.5, np.nan])
    def test_constant_features(self, tmp_path: Path, task: Task, value: float) -> None:
        table = tiny_table(task, 90)
        model = self.fitted(self.on_disk(tmp_path, replace(table, X=np.full_like(table.X, value))), task)
        self.check(task, model.predict(table.X), 90)

    def test_constant_target(self, tmp_path: Path, task: Task) -> None:
        for place, value in enumerate((0.0, 1.0)):
            table = replace(tiny_table(task, 90), y=np.full(90, value))
            prediction = self.fitted(self.on_disk(tmp_path / str(place), table), task).predict(table.X)
            self.check(task, prediction, 90)
            if task.is_classification:
                assert (prediction.argmax(axis=1) == value).all()
            else:
                np.testing.assert_allclose(prediction, value, atol=0.05)

    @pytest.mark.parametrize("kind", [FeatureKind.NUMBER, FeatureKind.CODE])
    def test_one_feature(self, tmp_path: Path, task: Task, kind: FeatureKind) -> None:
        place = 0 if kind is FeatureKind.NUMBER else 3
        table, features = tiny_table(task), self.features[place : place + 1]
        model = self.build(task, features)
        model.fit(*self.on_disk(tmp_path, replace(table, X=table.X[:, [place]]), features), self.run())
        self.check(task, model.predict(table.X[:, [place]]), len(table.y))

    def test_no_features(self, tmp_path: Path, task: Task) -> None:
        table = tiny_table(task)
        model = self.build(task, ())
        model.fit(*self.on_disk(tmp_path, replace(table, X=table.X[:, :0]), ()), self.run())
        self.check(task, model.predict(table.X[:, :0]), len(table.y))

    def test_whole_weights_are_repetitions(self, tmp_path: Path, task: Task) -> None:
        table = tiny_table(task, 900)
        y = np.random.default_rng(3).permutation(table.y)  # of which only the shares can be learned
        table, times = replace(table, y=y), np.where(y > np.median(y), 4, 1)
        weighted = self.fitted(self.on_disk(tmp_path / "w", replace(table, weight=times.astype(np.float32))), task)
        repeated = self.fitted(self.on_disk(tmp_path / "r", table.repeated(times)), task)
        plain = self.fitted(self.on_disk(tmp_path / "p", table), task)
        means = [model.predict(table.X).mean(axis=0) for model in (weighted, repeated, plain)]
        spread = 1.0 if task.is_classification else y.std()
        np.testing.assert_allclose(means[0], means[1], atol=self.weight_tolerance * spread)
        assert np.abs(means[2] - means[1]).max() > 2 * self.weight_tolerance * spread

    def test_weights_all_zero_is_an_error(self, tmp_path: Path, task: Task) -> None:
        table = replace(tiny_table(task), weight=np.zeros(600, np.float32))
        with pytest.raises(BadInput, match="weights"):
            self.fitted(self.on_disk(tmp_path, table), task)

    def test_unknown_param_is_refused(self, task: Task) -> None:
        with pytest.raises(ConfigError, match="lerning_rate"):
            self.build(task, lerning_rate=0.1)

    def test_wrong_number_of_features_is_an_error(self, model: Model) -> None:
        with pytest.raises(BadInput, match="5 features"):
            model.predict(np.zeros((3, 4), np.float32))

    def test_use_before_fit_is_an_error(self, tmp_path: Path, task: Task) -> None:
        model = self.build(task)
        with pytest.raises(BadInput, match="not fitted"):
            model.predict(np.zeros((3, len(self.features)), np.float32))
        with pytest.raises(BadInput, match="not fitted"):
            model.save(tmp_path / "model")
