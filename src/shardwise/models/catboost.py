"""Gradient-boosted symmetric trees: CatBoost, from float32 rows with categories as they are.

All rows are held in memory; where they do not fit, an even part of them is. CatBoost gives the same trees on any number
of threads, and a row gets the same bits alone and in a batch. What it writes into a model beside the trees (a random
identity, the time, the whole course of training) is taken out, so that the same rows, params and seed give the same
bytes. CatBoost itself is imported by `fit`, and when a model predicts for the first time.

A fit that is killed begins anew: CatBoost's own snapshots hold neither our curve nor a way to begin from them without
another training.
"""

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from shardwise.core.errors import ConfigError, PackageError, TaskFailed
from shardwise.core.schema import Feature, FeatureKind, copies
from shardwise.core.target import Target, Task
from shardwise.data.chunk import thinned
from shardwise.data.reading import READING
from shardwise.data.rows import Chunk
from shardwise.models.base import FitRun, Rows, Traits
from shardwise.models.baseline import best_constant, repeated
from shardwise.models.boosting import Curve
from shardwise.models.checks import check_counts, check_matrix, labels, not_fitted
from shardwise.models.guard import Beginning, Guard
from shardwise.models.links import link
from shardwise.models.params import check_choice, check_range, parse_params
from shardwise.models.saved import Header, params_to_json
from shardwise.models.scaling import TargetScale

PREDICT_ROWS = 65_536  # rows that are handed over at once
CELL_BYTES, ROW_BYTES = 16, 200  # while a model is fitted: of a cell, and of a row for each score
MEMORY_SHARE = 2  # of the memory, rows may take a half
_MODEL = "model.cbm"
_KEPT = ("class_params",)  # metadata of a model that its answers depend on
_FLOAT_MAX = np.float32(3e38)
_LOSSES = {
    Task.BINARY: "Logloss", Task.MULTICLASS: "MultiClass", Task.REGRESSION: "RMSE", Task.COUNT: "Poisson",
    Task.QUANTILE: "Quantile:alpha={quantile}",
}  # fmt: skip
FORMER = {"use_copies": True}  # of packages that do not tell it


@dataclass(frozen=True, kw_only=True)
class CatBoostParams:
    """CatBoost's params, under the names that `trees` has for them where it has some.

    `n_estimators` is the most rounds; training ends when `early_stopping_rounds + patience * best round` rounds
    brought nothing. `subsample` below 1 draws rows for each tree. `one_hot_max_size`: categories with so many values or
    fewer are split by value, others by statistics of the target over rows that come earlier in a random order.
    `use_encoded=False` leaves out target encoded features of columns that are there as categories, `use_copies=False`
    the categories of few numbers (`core.schema.copies`); None: where there are several classes, for each of which a
    category takes its own time.
    """

    n_estimators: int = 3000
    learning_rate: float = 0.06
    max_depth: int = 6
    reg_lambda: float = 3.0
    random_strength: float = 1.0
    subsample: float = 1.0
    feature_fraction: float = 1.0
    one_hot_max_size: int = 10
    max_bin: int = 254
    use_encoded: bool = False
    use_copies: bool | None = None
    early_stopping_rounds: int = 20
    patience: float = 0.15

    def __post_init__(self) -> None:
        check_range(
            self, n_estimators=(1, 1_000_000), max_depth=(1, 16), one_hot_max_size=(1, 255), max_bin=(1, 65_535)
        )
        check_range(self, learning_rate=(1e-6, 10.0), reg_lambda=(0.0, 1e30), random_strength=(0.0, 1e30))
        check_range(self, subsample=(1e-6, 1.0), feature_fraction=(1e-6, 1.0))
        check_range(self, early_stopping_rounds=(1, 1_000_000), patience=(0.0, 1e6))
        check_choice(self, "use_encoded", (False, True))
        check_choice(self, "use_copies", (None, False, True))


class CatBoost:
    """CatBoost behind the `Model` interface. `rounds` is the number of boosting rounds that were kept."""

    traits: ClassVar[Traits] = Traits(tasks=frozenset(Task), importance=True)

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None:
        self.params = parse_params(CatBoostParams, "catboost", params)
        self.target = target
        self.features = tuple(features)
        self.rounds = 0
        used = self.params.use_copies
        out = copies(features, used=target.task is not Task.MULTICLASS if used is None else used)
        self._codes = [i for i, each in enumerate(features) if each.kind is FeatureKind.CODE and each.name not in out]
        coded = frozenset() if self.params.use_encoded else {features[i].source for i in self._codes}
        self._numbers = _numbers(self.features, coded)
        self._scale = TargetScale()
        self._start = 0.0  # score with which boosting begins, beside CatBoost's own
        self._content = b""
        self._booster: Any = None
        self._constant: np.ndarray | None = None  # where there is nothing to split, float64 (outputs,)

    def fit(self, train: Rows, valid: Rows | None, run: FitRun) -> None:
        """Boost until the validation loss stops falling; without validation rows, `n_estimators` rounds.

        Raises `ConfigError` without CatBoost, `DataError` without rows, `TargetError` for negative counts.
        """
        require_catboost()
        y, weight = labels(train)
        check_counts(self.target, y)
        self._booster, self._constant, self.rounds, self._content = None, None, 0, b""
        scaled = self.target.task in (Task.REGRESSION, Task.QUANTILE)
        self._scale = TargetScale.of(y) if scaled else TargetScale()
        stride = self._stride(train, valid, run)
        part, constant = _gathered(train, stride), best_constant(self.target, y, weight)
        if not self._splits(part):
            self._constant = constant
            return
        begins = Beginning.of(self.target, y, weight, constant)
        del y, weight
        self._start = float(np.log(constant[0])) if self.target.task is Task.COUNT else 0.0
        watched = None if valid is None or not valid.n_rows else _gathered(valid, stride)
        self._boost(part, watched, run, begins)

    def _stride(self, train: Rows, valid: Rows | None, run: FitRun) -> int:
        """1 where all rows are learned from and watched, else that of evenly spaced ones."""
        row_bytes = CELL_BYTES * len(self.features) + ROW_BYTES * self.target.outputs
        most = max(1, run.memory_bytes // MEMORY_SHARE // row_bytes)
        stride = -(-(train.n_rows + (0 if valid is None else valid.n_rows)) // most)
        if stride > 1:
            run.note(f"CatBoost holds all rows in memory: every {stride}th of {train.n_rows:,} is learned from.")
        return stride

    def _splits(self, part: Chunk) -> bool:
        """Whether there is something to tell of rows that count, and any column tells them apart."""
        y = part.y if part.weight is None else part.y[part.weight > 0]
        used = part.X[:, [*self._numbers, *self._codes]]
        return np.unique(y).size > 1 and any(np.unique(column).size > 1 for column in used.T)

    def _boost(self, train: Chunk, valid: Chunk | None, run: FitRun, begins: Beginning) -> None:
        import catboost  # the extra is imported where it is needed

        told = _Told(self, valid, run, len(train.y), begins)
        pools = [self._pool(chunk) for chunk in (train, valid) if chunk is not None]
        booster = catboost.CatBoost(self._settings(run))
        with catboost_errors():
            booster.fit(pools[0], eval_set=pools[1:] or None, callbacks=[told])
        self.rounds = told.best_round
        if self.rounds < booster.tree_count_:
            booster.shrink(self.rounds)
        self._use(_bytes_of(booster))
        told.end()

    def _settings(self, run: FitRun) -> dict[str, Any]:
        params = self.params
        loss = _LOSSES[self.target.task].format(quantile=self.target.quantile)
        names = {"class_names": list(range(self.target.outputs))} if self.target.task.is_classification else {}
        drawn = {"bootstrap_type": "Bernoulli", "subsample": params.subsample} if params.subsample < 1 else {}
        return {
            "loss_function": loss, "eval_metric": f"{loss}{';' if ':' in loss else ':'}hints=skip_train~true",
            "iterations": params.n_estimators, "learning_rate": params.learning_rate, "depth": params.max_depth,
            "l2_leaf_reg": params.reg_lambda, "random_strength": params.random_strength, "rsm": params.feature_fraction,
            "one_hot_max_size": params.one_hot_max_size, "border_count": params.max_bin,
            "random_seed": run.seed % 2**31, "thread_count": run.threads, "use_best_model": False,
            "allow_const_label": True, "allow_writing_files": False, "logging_level": "Silent", **names, **drawn,
        }  # fmt: skip

    def _pool(self, chunk: Chunk) -> Any:
        import catboost

        start = np.full(len(chunk.y), self._start) if self.target.task is Task.COUNT else None
        return catboost.Pool(
            self._columns(chunk.X), label=self._scale.apply(chunk.y), weight=chunk.weight, baseline=start
        )

    def _columns(self, X: np.ndarray) -> Any:
        """Rows as CatBoost reads them: numbers float32 `(rows, numbers)`, categories as texts of their codes."""
        import catboost

        numbers = np.ascontiguousarray(X[:, self._numbers], dtype=np.float32)
        np.clip(numbers, -_FLOAT_MAX, _FLOAT_MAX, out=numbers)
        texts = np.empty((len(X), len(self._codes)), dtype=object)
        for place, i in enumerate(self._codes):
            texts[:, place] = _texts(X[:, i], self.features[i].cardinality)
        names = [[self.features[i].name for i in part] for part in (self._numbers, self._codes)]
        return catboost.FeaturesData(
            num_feature_data=numbers if self._numbers else None, cat_feature_data=texts if self._codes else None,
            num_feature_names=names[0] or None, cat_feature_names=names[1] or None,
        )  # fmt: skip

    def _use(self, content: bytes) -> None:
        self._content, self._booster = content, None

    def _loaded(self) -> Any:
        """The model as CatBoost has it; raises `ConfigError` where it is not installed."""
        if self._booster is None:
            require_catboost()
            import catboost

            self._booster = catboost.CatBoost()
            self._booster.load_model(blob=self._content)
        return self._booster

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)` for X float32 `(rows, features)` of either memory order."""
        check_matrix(X, self.features)
        if self._constant is not None:
            return np.array(repeated(self.target, self._constant, len(X)))
        if not self._content:
            raise not_fitted("catboost")
        parts = [self._raw(X[start : start + PREDICT_ROWS]) for start in range(0, len(X), PREDICT_ROWS)]
        scores = self.target.outputs if self.target.task is Task.MULTICLASS else 1
        raw = np.concatenate(parts) if parts else np.empty((0, scores))
        return self._scale.invert(link(self.target.task, raw.reshape(-1, scores)))

    def _raw(self, X: np.ndarray) -> np.ndarray:
        raw = self._loaded().predict(self._columns(X), prediction_type="RawFormulaVal", thread_count=1)
        return np.asarray(raw, np.float64) + self._start

    def importance(self) -> Mapping[str, float]:
        """Share of each feature in how much splits change predictions; empty when nothing was split."""
        if not self._content:
            return {}
        shares = np.zeros(len(self.features))
        shares[[*self._numbers, *self._codes]] = self._loaded().get_feature_importance(type="PredictionValuesChange")
        if not shares.sum() > 0:
            return {}
        return {feature.name: float(share) for feature, share in zip(self.features, shares / shares.sum(), strict=True)}

    def save(self, folder: Path) -> None:
        """CatBoost's binary model beside `model.json`."""
        if not self._content and self._constant is None:
            raise not_fitted("catboost")
        extra = {
            "rounds": self.rounds, "scale": self._scale.to_json(), "start": self._start,
            "constant": None if self._constant is None else self._constant.tolist(),
            "sha256": hashlib.sha256(self._content).hexdigest(), "numbers": self._numbers,
        }  # fmt: skip
        Header("catboost", self.target, self.features, params_to_json(self.params), extra).write(folder)
        (folder / _MODEL).write_bytes(self._content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises `PackageError` when the model is not as it was saved."""
        header = Header.read(folder, "catboost")
        model = cls(header.target, header.features, **{**FORMER, **header.params})
        content = (folder / _MODEL).read_bytes()
        if hashlib.sha256(content).hexdigest() != header.extra["sha256"]:
            raise PackageError(
                "the trees are damaged", hint="Take the package from its source again.", path=str(folder)
            )
        if model._codes and not model.params.use_encoded:  # packages that do not tell read nothing that was encoded
            model._numbers = _numbers(model.features, {feature.source for feature in model.features})
        model._numbers = header.extra.get("numbers", model._numbers)
        model.rounds = header.extra["rounds"]
        model._scale = TargetScale.from_json(header.extra["scale"])
        model._start = header.extra.get("start", 0.0)  # older packages have none
        if header.extra["constant"] is not None:
            model._constant = np.array(header.extra["constant"], dtype=np.float64)
        model._content = content
        return model


class _Told:
    """What CatBoost calls after each round: reports the loss, and says whether to go on. `end` raises what was raised
    meanwhile: nothing may go through CatBoost's own loop."""

    def __init__(self, model: CatBoost, valid: Chunk | None, run: FitRun, rows: int, begins: Beginning) -> None:
        self._run, self._rows = run, rows
        self._task, self._scale = model.target.task, model._scale.scale
        self._curve = Curve(model.params.early_stopping_rounds, model.params.patience)
        self._losses: list[float] = []
        self._rounds = 0
        self._watches = valid is not None
        self._offset, self._guard = 0.0, Guard(0.0, 0.0)
        self._error: BaseException | None = None
        if valid is not None:
            self._guard = Guard.of(model.target, valid.y, valid.weight, begins=begins, worse_rounds=None)
            if self._task is Task.COUNT:  # what CatBoost's likelihood lacks of half the deviance
                terms = valid.y * np.log(np.where(valid.y > 0, valid.y, 1.0)) - valid.y
                self._offset = float(np.average(terms, weights=valid.weight))

    @property
    def best_round(self) -> int:
        return self._curve.best_round if self._watches else self._rounds

    def after_iteration(self, info: Any) -> bool:
        """False ends training."""
        self._rounds = info.iteration
        try:
            self._run.saw(self._rows)
            if not self._watches:
                return self._run.go_on()
            return self._step(float(next(iter(info.metrics["validation"].values()))[-1]))
        except BaseException as error:
            self._error = error
            return False

    def _step(self, value: float) -> bool:
        loss = 2 * (value + self._offset) if self._task is Task.COUNT else value * self._scale
        self._losses.append(loss)
        improving = self._curve.add(self._rounds, loss)
        sound = not self._guard.stops(self._losses, self._run.notice)
        return self._run.report(self._rounds, loss) and improving and sound

    def end(self) -> None:
        if self._error is not None:
            raise self._error


def _numbers(features: Sequence[Feature], coded: Collection[str]) -> list[int]:
    """Places of what is read as a number: no categories, and of the `coded` columns nothing that knows the target."""
    return [
        place for place, feature in enumerate(features)
        if feature.kind is not FeatureKind.CODE
        and not (feature.kind is FeatureKind.ENCODED and feature.source in coded)
    ]  # fmt: skip


def has_catboost() -> bool:
    """Whether CatBoost is installed; it is not imported for that."""
    return find_spec("catboost") is not None


def require_catboost() -> None:
    """Raise `ConfigError`, which names the extra, unless CatBoost is installed."""
    if not has_catboost():
        raise ConfigError(
            "catboost models need CatBoost, which is not installed",
            hint="pip install 'shardwise[catboost]', or choose other --families.",
        )


@contextmanager
def catboost_errors() -> Iterator[None]:
    """What CatBoost raises, as an error of ours."""
    import catboost

    try:
        yield
    except catboost.CatBoostError as error:
        raise TaskFailed(
            f"CatBoost: {error}", hint="Look at the params of catboost, or leave the family out."
        ) from error


def _bytes_of(booster: Any) -> bytes:
    """The model's own format without what differs from one training to the next."""
    metadata = booster.get_metadata()
    for name in {*metadata.keys()}.difference(_KEPT):
        del metadata[name]
    with tempfile.TemporaryDirectory() as folder:
        booster.save_model(f"{folder}/{_MODEL}", format="cbm")
        return (Path(folder) / _MODEL).read_bytes()


def _gathered(rows: Rows, stride: int) -> Chunk:
    """Every so many-th row, in memory."""
    with READING.running():
        parts = list(thinned(rows.chunks(), stride))
        weights = [part.weight for part in parts if part.weight is not None]
        X = np.concatenate([part.X for part in parts]).astype(np.float32, copy=False)
        return Chunk(X, np.concatenate([part.y for part in parts]), np.concatenate(weights) if weights else None)


def _texts(codes: np.ndarray, cardinality: int) -> np.ndarray:
    """Codes `(rows,)` as texts, object `(rows,)`: what is no known code is 0, what is missing has a text of its own."""
    table = np.array([str(code).encode() for code in range(max(1, cardinality))] + [b"missing"], dtype=object)
    missing = np.isnan(codes)
    known = (codes >= 0) & (codes < max(1, cardinality))
    places = np.where(known, codes, 0).astype(np.intp)
    return np.asarray(table[np.where(missing, len(table) - 1, places)])
