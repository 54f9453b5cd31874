"""The model families by name: what can be built, saved and loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shardwise.core.errors import ConfigError, PackageError, context
from shardwise.core.names import nearest
from shardwise.core.schema import Feature
from shardwise.core.target import Target
from shardwise.models.adaboost import AdaBoost
from shardwise.models.base import Model
from shardwise.models.baseline import Baseline
from shardwise.models.catboost import CatBoost
from shardwise.models.forest import Forest
from shardwise.models.linear import Linear
from shardwise.models.neural.grids.families import Cnn, Rnn
from shardwise.models.neural.model import Neural
from shardwise.models.saved import Header
from shardwise.models.svm import SVM
from shardwise.models.trees import Trees

FAMILIES: dict[str, type[Model]] = {
    "baseline": Baseline, "linear": Linear, "trees": Trees, "forest": Forest, "adaboost": AdaBoost, "svm": SVM,
    "catboost": CatBoost, "neural": Neural, "cnn": Cnn, "rnn": Rnn,
}  # fmt: skip
NETWORKS = ("neural", "cnn", "rnn")  # trained by PyTorch, on one thread each; tried only where they are asked for


def build(family: str, target: Target, features: Sequence[Feature], params: Mapping[str, Any]) -> Model:
    """A model that is not fitted yet; raises `ConfigError` for an unknown family or param, naming the nearest."""
    if family not in FAMILIES:
        raise ConfigError(f"there is no model family {family!r}", hint=nearest(family, FAMILIES))
    kind = FAMILIES[family]
    if target.task not in kind.traits.tasks:
        raise ConfigError(f"{family} models do not learn {target.task} targets", hint="Choose another family.")
    return kind(target, features, **params)


def save_model(family: str, model: Model, folder: Path) -> None:
    """Write a fitted model into `folder`; its family is written with it."""
    if not isinstance(model, FAMILIES[family]):
        raise ConfigError(f"a {type(model).__name__} is no model of the family {family!r}")
    with context(path=str(folder)):
        model.save(folder)


def load_model(folder: Path) -> Model:
    """The model that `save_model` wrote; raises `PackageError` when it is damaged or of an unknown family."""
    with context(path=str(folder)):
        family = Header.read(folder).family
        if family not in FAMILIES:
            raise PackageError(f"there is no model family {family!r}", hint=nearest(family, FAMILIES))
        return FAMILIES[family].load(folder)
