"""The family `neural`: what is configured, saved, loaded and predicted. PyTorch is imported by `fit` alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from shardwise.core.errors import ConfigError, OverBudget, PackageError
from shardwise.core.schema import Feature, copies
from shardwise.core.target import Target, Task
from shardwise.data.rows import Chunk
from shardwise.models.base import FitRun, Rows, Traits
from shardwise.models.baseline import best_constant
from shardwise.models.checks import check_counts, check_matrix, labels, not_fitted
from shardwise.models.design import Design
from shardwise.models.guard import Beginning
from shardwise.models.links import LINKS
from shardwise.models.neural.exact import exact
from shardwise.models.neural.forward import predict_blocks
from shardwise.models.neural.grids.trunks import Trunk
from shardwise.models.neural.parts.cuts import Cuts
from shardwise.models.neural.shape import ACTIVATIONS, Shape, Weights, find_knots, first_weights
from shardwise.models.neural.tensors import map_tensors, write_tensors
from shardwise.models.params import check_choice, check_range, parse_params
from shardwise.models.saved import Header, params_to_json
from shardwise.models.scaling import TargetScale

if TYPE_CHECKING:
    from shardwise.models.neural.training import Training

PREPARED_ROWS, PREPARED_BYTES = 16_384, 2**25  # rows prepared at once for predicting, at most
WIDE_INPUT = 256  # columns of numeric embeddings, about, above which they are made narrower
WEIGHTS = "weights.safetensors"
FORMER = {"activation": "relu", "use_copies": True}  # of packages that do not tell it


@dataclass(frozen=True, kw_only=True)
class NeuralParams:
    """A TabM network (see `shape`), trained by AdamW with a warm-up and a cosine.

    `epochs`, `batch_rows` and `embedding` None: by the size of the data. `patience`: rounds (epochs, or million rows)
    without a better validation loss until the end. Categories with more than `embedding_limit` values are left out:
    their target encoding stands for them; so are those of few numbers (`core.schema.copies`), whose pieces say as much,
    unless `use_copies`. `warm_up` is a share of all steps. `gradient_clip` bounds the norm of a
    step's gradient, `beta2` says how slowly AdamW's second moment forgets (Holzmueller et al. 2024,
    https://arxiv.org/abs/2407.04491). `label_smoothing` is the share by which a class is learned as less than sure.
    `mixed`: bfloat16 products where the device has them.
    """

    members: int = 8
    width: int = 128
    depth: int = 3
    knots: int = 32
    embedding: int | None = None
    code_embedding: int = 8
    embedding_limit: int = 1024
    use_copies: bool = False
    activation: str = "silu"
    dropout: float = 0.1
    label_smoothing: float = 0.0
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    beta2: float = 0.95
    gradient_clip: float = 1.0
    warm_up: float = 0.03
    epochs: int | None = None
    batch_rows: int | None = None
    patience: int = 16
    mixed: bool = True

    def __post_init__(self) -> None:
        check_range(self, members=(1, 1024), width=(1, 65_536), depth=(1, 64), knots=(1, 1024))
        check_range(self, code_embedding=(1, 1024), embedding_limit=(0, 1_048_576), patience=(1, 1_000_000))
        check_range(
            self, dropout=(0.0, 0.95), label_smoothing=(0.0, 0.9), learning_rate=(1e-9, 10.0), weight_decay=(0.0, 1e3)
        )
        check_range(self, gradient_clip=(1e-9, 1e9), warm_up=(0.0, 1.0), beta2=(0.0, 1.0 - 1e-9))
        check_choice(self, "mixed", (False, True))
        check_choice(self, "use_copies", (False, True))
        check_choice(self, "activation", ACTIVATIONS)
        for name, most in (("embedding", 1024), ("epochs", 1_000_000), ("batch_rows", 1_048_576)):
            if getattr(self, name) is not None:
                check_range(self, **{name: (1, most)})

    def usual_embedding(self, numbers: int) -> int:
        """Columns of the embedding of a number, where a row has so many."""
        return self.embedding or max(4, min(16, WIDE_INPUT // max(1, numbers)))


class Neural:
    """Classification, regression, counts and quantiles by a network with several members that share weights."""

    family: ClassVar[str] = "neural"
    traits: ClassVar[Traits] = Traits(tasks=frozenset(Task), parallel=True)
    kind: ClassVar[type[NeuralParams]] = NeuralParams

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None:
        self.params = parse_params(self.kind, self.family, params)
        if self.params.label_smoothing and not target.task.is_classification:
            smoothing = f"label_smoothing={self.params.label_smoothing!r}"
            raise ConfigError(f"{smoothing} does not go with a {target.task} target", hint="Leave it out.")
        self.target = target
        self.features = tuple(features)
        self._design = self._make_design()
        self._scale = TargetScale()
        self._weights: Weights | None = None
        self._exact: Weights | None = None  # of the weights, made when somebody predicts

    def _make_design(self) -> Design:
        return Design(self.features, self.params.embedding_limit, self._apart)

    @property
    def _apart(self) -> frozenset[int]:
        return left_out(self.features, use_copies=self.params.use_copies)

    @property
    def trunk(self) -> Trunk | None:
        """What reads the cells of a grid."""
        return None

    @property
    def shape(self) -> Shape:
        """The sizes that follow from params, features and target."""
        params, numbers = self.params, self._design.numbers
        slots = self._design.width - numbers
        return Shape(
            numbers=numbers, codes=self._design.codes, slots=slots, scores=LINKS[self.target.task].scores(self.target),
            members=params.members, width=params.width, depth=params.depth, knots=params.knots,
            embedding=params.usual_embedding(numbers),
            code_embedding=params.code_embedding, trunk=self.trunk, activation=params.activation,
        )  # fmt: skip

    def fit(self, train: Rows, valid: Rows | None, run: FitRun) -> None:
        """Train until the validation loss stops falling; the best round's weights are kept.

        Raises `ConfigError` without PyTorch, `DataError` without rows or when the loss stays NaN, `TargetError` for
        negative counts, `OverBudget` where there is no memory for it.
        """
        require_torch()
        y, weight = labels(train)
        check_counts(self.target, y)
        scaled = self.target.task in (Task.REGRESSION, Task.QUANTILE)
        self._scale = TargetScale.of(y) if scaled else TargetScale()
        constant = best_constant(self.target, self._scale.apply(y), weight)
        mean_weight = 1.0 if weight is None else float(weight.mean(dtype=np.float64))
        begins = Beginning.of(self.target, y, weight, self._scale.invert(constant))
        del y, weight
        knots = find_knots(train, self._design, self.params.knots)
        start = LINKS[self.target.task](self.target, constant).start
        training, pieces = self._training(run)
        training.begin(first_weights(self.shape, knots, start, run.seed, pieces), constant, mean_weight, begins)
        try:
            training.run(train, valid if valid is not None and valid.n_rows else None, run)
        except RuntimeError as error:
            from shardwise.models.neural.steps import is_out_of_memory

            if not is_out_of_memory(error):
                raise
            hint = "Give a smaller width or fewer members, more --memory, or fewer --workers."
            raise OverBudget("PyTorch has no memory for the network", hint=hint) from error
        finally:
            self._weights, self._exact = training.best, None

    def _training(self, run: FitRun) -> "tuple[Training, Mapping[str, tuple[slice, ...]] | None]":
        """How it is trained, and which pieces of its tensors lie here (None: all). The extra is imported here."""
        given = (self.params, self.shape, self._design, self._scale, self.target)
        if run.split is None or run.member is None or run.member.size == 1:
            from shardwise.models.neural.training import Training

            return Training(*given), None
        from shardwise.models.neural.parts.training import PartedTraining

        cuts = Cuts(self.shape, run.split.on(run.member.size), run.member.size)
        training = PartedTraining(*given)
        training.lie(cuts)
        return training, cuts.pieces(run.member.rank)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)` for X float32 `(rows, features)`, by NumPy on the processor."""
        check_matrix(X, self.features)
        if self._weights is None:
            raise not_fitted(self.family)
        rows = max(1, min(PREPARED_ROWS, PREPARED_BYTES // self._design.row_bytes))
        parts = [self._predict(X[i : i + rows]) for i in range(0, max(len(X), 1), rows)]
        return self._scale.invert(np.concatenate(parts))

    def _predict(self, X: np.ndarray) -> np.ndarray:
        assert self._weights is not None
        self._exact = self._exact or exact(self._weights)
        zeros = np.zeros(len(X))
        block = self._design.prepare(Chunk(X, zeros), zeros, 1.0)
        slots = block.slots - self._design.numbers
        return predict_blocks(self.target.task, self.shape, self._exact, block.numbers, slots)

    def importance(self) -> Mapping[str, float]:
        """None: a network does not tell."""
        return {}

    def save(self, folder: Path) -> None:
        """Weights as safetensors beside `model.json`."""
        if self._weights is None:
            raise not_fitted(self.family)
        extra = {"scale": self._scale.to_json()}
        Header(self.family, self.target, self.features, params_to_json(self.params), extra).write(folder)
        write_tensors(folder / WEIGHTS, self._weights)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises `PackageError` when the weights do not fit the features. PyTorch is not needed.

        The weights stay in the file, and are read when they are looked at.
        """
        header = Header.read(folder, cls.family)
        model = cls(header.target, header.features, **{**FORMER, **header.params})
        model._scale = TargetScale.from_json(header.extra["scale"])
        model._weights, _ = map_tensors(folder / WEIGHTS)
        expected = model.shape.tensors()
        found = {name: array.shape for name, array in model._weights.items()}
        if found != expected:
            wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            raise PackageError(f"the weights {', '.join(wrong)} do not fit the features", path=str(folder))
        return model


def left_out(features: Sequence[Feature], *, use_copies: bool) -> frozenset[int]:
    """Places of the features that a network does without: categories of few numbers, unless they are used."""
    names = copies(features, used=use_copies)
    return frozenset(i for i, feature in enumerate(features) if feature.name in names)


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not imported for that."""
    return find_spec("torch") is not None


def prepare_torch() -> None:
    """Import what `fit` needs, where PyTorch is installed: that takes seconds, once in a process."""
    if has_torch():
        import shardwise.models.neural.training  # noqa: F401 - the extra is imported here


def require_torch() -> None:
    """Raise `ConfigError`, which names the extra, unless PyTorch is installed."""
    if not has_torch():
        raise ConfigError(
            "neural models are trained by PyTorch, which is not installed",
            hint="pip install 'shardwise[torch]', or choose other --families.",
        )
