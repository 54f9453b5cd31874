"""scikit-learn estimators: a run of the workflow behind `fit` and `predict`.

`fit` writes the rows to a temporary folder, trains there, and keeps the sealed package as bytes: the fitted estimator
is pickled with it, and needs no file. What scikit-learn asks of an estimator and what a run does meet as follows.

- Every row trains: no test is sealed, since `cross_val_score` and its like hold rows back themselves.
- Rows are put in an order of their content, so that the order in which they are given has no say.
- A row of weight 0 is not there. Whole weights that add up to at most `COUNTED_ROWS` count copies of a row, and give
  exactly the model that the copies would give; other weights go into losses and statistics.
- Up to `DEALT_ROWS` different rows are dealt to folds, evenly over the target, so that tiny data leave no fold without
  rows; copies of a row stay together, and count once for the number of folds.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

from shardwise.compute.clock import stopping_with_the_run
from shardwise.core.config import RunConfig
from shardwise.core.errors import DataError, TargetError
from shardwise.core.target import Target, Task, canonical_label
from shardwise.data.convert import conform
from shardwise.data.dataset import BATCH_ROWS, ReadOptions, from_table
from shardwise.data.hashing import hash_rows
from shardwise.data.schemas import schema_of, typed_layout
from shardwise.data.tables import as_reader
from shardwise.registry.archive import pack, unpack
from shardwise.registry.package import check_place, load_package
from shardwise.serve.predictor import Predictor
from shardwise.split.given import deal
from shardwise.split.plan import default_folds
from shardwise.store.files import staged_folder
from shardwise.workflow import TrainResult, train

COUNTED_ROWS = 100_000
DEALT_ROWS = 2_000
_OPTIONS = (
    "time", "memory", "trials", "workers", "folds", "metric", "families", "image", "sequence", "aggregates", "joins",
    "select",
)  # fmt: skip


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: tables in, a run, a package."""

    def _keep(self, given: Mapping[str, Any]) -> None:
        """Store the parameters of the constructor as they were given, and do no more: what scikit-learn asks of it."""
        for name in self._get_param_names():
            setattr(self, name, given[name])

    def save(self, path: str | Path) -> Path:
        """Write the package to the folder `path`, for `shardwise.load` and the command line.

        Raises `PackageError` when something else than a package stands there, `NotFittedError` before `fit`.
        """
        check_is_fitted(self)
        check_place(Path(path))
        with staged_folder(Path(path)) as folder:
            unpack(self.package_, folder)
        return Path(path)

    @classmethod
    def from_package(cls, path: str | Path) -> Self:
        """A fitted estimator of a package, which expects the columns that the package reads.

        Raises `PackageError` for a damaged package, `TargetError` for one of another task.
        """
        package = load_package(path)
        estimator: Any = cls()
        estimator._accept(package.target)
        estimator.feature_names_in_ = np.array(package.inputs.names, dtype=object)
        estimator.n_features_in_ = len(package.inputs)
        estimator._columns = tuple(package.inputs.names)
        estimator.package_ = pack(package.folder)
        estimator._predictor = Predictor(package)
        return estimator  # type: ignore[no-any-return]

    def _fit(self, X: Any, y: np.ndarray, weight: np.ndarray | None, **options: Any) -> None:
        """Train on a validated target and weight; `options` are those of `RunConfig` beyond the shared ones."""
        rows = _Rows(self._table(X, reset=True), y, weight)
        given = {name: getattr(self, name) for name in _OPTIONS if getattr(self, name) is not None}
        seed = _seed(self.random_state)
        kept = self.runs_folder
        place = tempfile.TemporaryDirectory(prefix="shardwise-") if kept is None else nullcontext(kept)
        with stopping_with_the_run(), place as folder:
            result = rows.train(Path(folder), {"workers": 1, **given, **options, "seed": seed})
            package, predictor = pack(Path(result.package)), Predictor(load_package(result.package))
        self.package_, self._predictor = package, predictor
        self.valid_score_, self.findings_, self.cut_ = result.valid_score, result.findings, result.cut

    def _table(self, X: Any, *, reset: bool) -> pa.Table:
        """X as Arrow under the names of its columns, or `x0`, `x1`, ...; checks names and number of columns."""
        if hasattr(X, "columns") and len(getattr(X, "shape", ())) == 2:  # columns have types of their own
            X = pa.Table.from_batches([X]) if isinstance(X, pa.RecordBatch) else X
            validate_data(self, X, reset=reset, skip_check_array=True)
            reader = as_reader(X)
        else:
            X = validate_data(self, X, reset=reset, ensure_all_finite=False)
            reader = as_reader({str(place): column for place, column in enumerate(X.T)})
        layout = typed_layout(reader.schema, "X", ReadOptions())
        table = pa.Table.from_batches([conform(batch, layout, {}) for batch in reader], schema_of(layout))
        if reset:
            names = getattr(self, "feature_names_in_", [f"x{place}" for place in range(self.n_features_in_)])
            self._columns = tuple(map(str, names))
        return table.rename_columns(list(self._columns))

    def _scores(self, X: Any) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)`."""
        check_is_fitted(self)
        table = self._table(X, reset=False)
        if "_predictor" not in vars(self):
            with tempfile.TemporaryDirectory(prefix="shardwise-") as folder:
                unpack(self.package_, Path(folder))
                self._predictor = Predictor(load_package(folder))
        return self._predictor.predict(table)

    def __getstate__(self) -> dict[str, Any]:
        """Without the loaded predictor: the package holds all of it."""
        return {name: value for name, value in super().__getstate__().items() if name != "_predictor"}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class ShardwiseClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A classifier that a run of shardwise trains: candidates by folds, the best or a blend of a few as the model.

    Parameters
    ----------
    time, memory : ceilings such as `"60s"` and `"2GB"`; with `time` the same seed may give another model.
    trials : number of candidates; without it and `time`, the default candidates are tried once.
    workers : processes in which folds are trained side by side; None: this one.
    folds : number of folds; None: by the number of rows.
    metric : what is optimised, by scikit-learn's name; None: `roc_auc` for two classes, `log_loss` for more.
    families : model families to try, of `baseline`, `linear`, `trees`, `catboost`, `forest`, `adaboost`, `svm`,
        `neural`, `cnn`, `rnn`; None: the first three, and those whose extra is installed: `catboost` on up to 100,000
        rows, `neural` on 100 to 50,000 with 4 GB of memory. So with another installation the models may differ.
    image, sequence : columns of X that are a grid, such as `"x*:8x8"`, for the families `cnn` and `rnn`.
    aggregates : group features of the columns of X, such as `"mean(distance) by carrier"`, as `--aggregate` has them.
    joins : further tables by key, as `--join` has them.
    select : how features are dropped that tell nothing: `"auto"`, `"none"` or `"strict"`; None: `"auto"`.
    class_weight : `"balanced"`, or a weight for each class; classes that are not named weigh 1.
    runs_folder : where the run is kept, with its journal; a fit that was killed goes on. None: a temporary folder.
    random_state : an int makes `fit` deterministic; None draws one from NumPy's global generator.

    Attributes
    ----------
    classes_ : labels, sorted.
    n_features_in_, feature_names_in_ : the columns of X; names only where X was a data frame.
    package_ : the sealed package, as the bytes of a zip file; `save` writes it out.
    valid_score_ : out-of-fold value of the metric, by which candidates were compared.
    findings_ : what was found in the data: leaks, copies, uneven folds.
    cut_ : whether `time` ended the search before all candidates were tried.

    >>> import numpy as np
    >>> X = np.arange(40.0).reshape(-1, 1)
    >>> model = ShardwiseClassifier(trials=2, families="linear", random_state=0).fit(X, X.ravel() > 20)
    >>> model.predict([[0.0], [39.0]]).tolist()
    [False, True]
    """

    def __init__(
        self,
        *,
        time: str | None = None,
        memory: str | None = None,
        trials: int | None = None,
        workers: int | None = None,
        folds: int | None = None,
        metric: str | None = None,
        families: str | Sequence[str] | None = None,
        image: str | None = None,
        sequence: str | None = None,
        aggregates: str | Sequence[str | Mapping[str, Any]] | None = None,
        joins: str | Sequence[str | Mapping[str, Any]] | None = None,
        select: str | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        runs_folder: str | Path | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self._keep(locals())

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X `(rows, columns)`, y `(rows,)`, and weights `(rows,)` of at least 0.

        X is an array of numbers (NaN = missing), or a data frame (pandas, polars, Arrow) with columns of any type.
        Raises `ValueError` for what cannot be used: among these are all errors of `core.errors.BadInput`. Ctrl-C raises
        `KeyboardInterrupt`; with a `runs_folder` the same fit goes on.
        """
        y = validate_data(self, y=y)
        check_classification_targets(y)
        weight = _checked_weight(sample_weight, y)
        self.classes_ = np.unique(y if weight is None else y[weight > 0])
        if len(self.classes_) < 2:
            raise TargetError(f"y has 1 class only: {self.classes_[:1]}", hint="Give rows of another class too.")
        task = Task.BINARY if len(self.classes_) == 2 else Task.MULTICLASS
        classes = {label: label for label in self.classes_.tolist()}
        by_class = self.class_weight
        if isinstance(by_class, Mapping):  # a key of 1 is the class 1.0
            by_class = {str(classes.get(label, label)): weight for label, weight in by_class.items()}
        self._fit(X, y, weight, task=task.value, class_weight=by_class)
        self._accept(self._predictor.target)
        return self

    def _accept(self, target: Target) -> None:
        if not target.task.is_classification:
            raise TargetError(f"this is a package of a {target.task} task", hint="Use ShardwiseRegressor.")
        if not hasattr(self, "classes_"):
            self.classes_ = np.array(target.classes)
        known = {canonical_label(label): place for place, label in enumerate(target.classes)}
        self._order = np.array([known[canonical_label(label)] for label in self.classes_.tolist()])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities float64 `(rows, classes)`, in the order of `classes_`."""
        return self._scores(X)[:, self._order]

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row `(rows,)`: the most probable one, or as a label-based `metric` was best decided."""
        scores = self._scores(X)
        decided = self._predictor.target.classes_of(scores)
        return np.asarray(self.classes_[np.argsort(self._order)[decided]])


class ShardwiseRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A regressor that a run of shardwise trains: of means, counts or quantiles.

    Parameters
    ----------
    task : `"regression"` (mean), `"count"` (Poisson mean of numbers from 0 up) or `"quantile"`.
    quantile : which one, in (0, 1), for `task="quantile"`.

    All others, and the attributes, are as in `ShardwiseClassifier`.

    >>> import numpy as np
    >>> X = np.arange(40.0).reshape(-1, 1)
    >>> model = ShardwiseRegressor(trials=2, families="linear", random_state=0).fit(X, 3 * X.ravel())
    >>> bool(abs(model.predict([[20.0]])[0] - 60) < 10)
    True
    """

    def __init__(
        self,
        *,
        task: str = "regression",
        quantile: float = 0.5,
        time: str | None = None,
        memory: str | None = None,
        trials: int | None = None,
        workers: int | None = None,
        folds: int | None = None,
        metric: str | None = None,
        families: str | Sequence[str] | None = None,
        image: str | None = None,
        sequence: str | None = None,
        aggregates: str | Sequence[str | Mapping[str, Any]] | None = None,
        joins: str | Sequence[str | Mapping[str, Any]] | None = None,
        select: str | None = None,
        runs_folder: str | Path | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self._keep(locals())

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """As `ShardwiseClassifier.fit`, with y `(rows,)` of finite numbers."""
        tasks = [task.value for task in Task if not task.is_classification]
        if self.task not in tasks:
            raise TargetError(f"a regressor has no task {self.task!r}", hint=f"Allowed: {', '.join(tasks)}.")
        y = validate_data(self, y=y, y_numeric=True).astype(np.float64)
        self._fit(X, y, _checked_weight(sample_weight, y), task=self.task, quantile=self.quantile)
        return self

    def _accept(self, target: Target) -> None:
        if target.task.is_classification:
            raise TargetError(f"this is a package of a {target.task} task", hint="Use ShardwiseClassifier.")
        self.task, self.quantile = target.task.value, target.quantile

    def predict(self, X: Any) -> np.ndarray:
        """Float64 `(rows,)`."""
        return self._scores(X)


class _Rows:
    """Rows to train on: features, target, and how often or how heavily each one counts."""

    def __init__(self, table: pa.Table, y: np.ndarray, weight: np.ndarray | None) -> None:
        if not table.num_columns:
            raise DataError("X has no columns", hint="Give one at least.")
        check_consistent_length(y, table.column(0))
        self.features = table.column_names
        self.target, self.weight, self.fold = (_free(name, self.features) for name in ("target", "weight", "fold"))
        content = table.append_column(self.target, pa.array(y))
        order = np.argsort(hash_rows(content, content.column_names), kind="stable")
        self.content, (self.order, self.weights) = content, _counted(order, weight)

    def train(self, folder: Path, options: Mapping[str, Any]) -> TrainResult:
        """Run the workflow in `folder`; the names of the run's columns are taken care of."""
        extra, names = {}, {}
        if self.weights is not None:
            extra[self.weight], names["weight"] = self.weights, self.weight
        dealt = self._fold_numbers(options.get("folds"))
        if dealt is not None:
            extra[self.fold] = dealt
            options = {**options, "fold_column": self.fold, "folds": int(dealt.max()) + 1}
            options.setdefault("metric", self._safe_metric(options["task"], dealt))
        dataset = from_table(self._stream(extra), str(folder / "tables"))
        config = {
            "data": Path(dataset.sources[0]).name, "target": self.target, **names, "test_share": 0, "report": False,
            "runs_folder": str(folder), **options,
        }  # fmt: skip
        return train(RunConfig.from_mapping(config), dataset=dataset)

    def _fold_numbers(self, folds: int | None) -> np.ndarray | None:
        """Fold of each row, int8 `(rows,)`; None for so many different rows that hashes share them out evenly."""
        rows = len(self.order)
        if rows < 2:
            raise DataError(f"n_samples={rows} is too few to train on", hint="Give more rows with weight.")
        if rows > COUNTED_ROWS:
            return None
        groups = hash_rows(self.content, self.features)[self.order]
        different = len(np.unique(groups))
        return deal(groups, self._y(), folds or default_folds(different)) if different <= DEALT_ROWS else None

    def _safe_metric(self, task: str, dealt: np.ndarray) -> str | None:
        """None, or where a fold holds one of two classes only, a metric that is defined there, as `roc_auc` is not."""
        y = self._y()
        one_class = any(len(np.unique(y[dealt == fold])) < 2 for fold in np.unique(dealt))
        return "log_loss" if task == Task.BINARY and one_class else None

    def _y(self) -> np.ndarray:
        """Targets `(rows,)` of the rows in their order."""
        column = self.content.column(self.target).combine_chunks()
        return np.asarray(column.take(pa.array(self.order)).to_numpy(zero_copy_only=False))

    def _stream(self, extra: Mapping[str, np.ndarray]) -> pa.RecordBatchReader:
        """The rows in their order, with further columns."""
        fields = [pa.field(name, pa.from_numpy_dtype(values.dtype)) for name, values in extra.items()]

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(self.order), BATCH_ROWS):
                part = slice(start, start + BATCH_ROWS)
                table = self.content.take(self.order[part])
                for field in fields:
                    table = table.append_column(field, pa.array(extra[field.name][part]))
                yield from table.combine_chunks().to_batches()

        return pa.RecordBatchReader.from_batches(pa.schema([*self.content.schema, *fields]), batches())


def _counted(order: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Row numbers and the weight of each: without those of weight 0, and whole weights as copies if not too many."""
    if weight is None:
        return order, None
    order = order[weight[order] > 0]
    weight = weight[order]
    if (weight == 1).all():
        return order, None
    if (weight == np.floor(weight)).all() and weight.sum() <= COUNTED_ROWS:
        return np.repeat(order, weight.astype(np.int64)), None
    return order, weight


def _checked_weight(given: Any, y: np.ndarray) -> np.ndarray | None:
    """Float64 `(rows,)`; raises `ValueError` for what is no weight."""
    if given is None:
        return None
    weight = check_array(given, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if weight.ndim != 1:
        raise DataError(f"sample_weight has {weight.ndim} dimensions", hint="Give one weight for each row.")
    check_consistent_length(weight, y)
    if (weight < 0).any():
        raise DataError("sample_weight has negative values", hint="Give weights of at least 0.")
    if not weight.any():
        raise DataError("all of sample_weight is zero", hint="Give at least one weight above 0.")
    return np.asarray(weight)


def _free(name: str, taken: Sequence[str]) -> str:
    """A column name that is not taken: `name`, or with underscores behind it."""
    while name in taken:
        name += "_"
    return name


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
