"""The model families by name: what can be built, saved and loaded."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shardwise.core.errors import ConfigError, PackageError, context
from shardwise.core.names import nearest
from shardwise.core.schema import Feature
from shardwise.core.target import Target
from shardwise.models.adaboost import AdaBoost, AdaBoostParams
from shardwise.models.base import Model
from shardwise.models.baseline import Baseline, BaselineParams
from shardwise.models.catboost import CatBoost, CatBoostParams
from shardwise.models.forest import Forest, ForestParams
from shardwise.models.linear import Linear, LinearParams
from shardwise.models.neural.grids.families import Cnn, Rnn
from shardwise.models.neural.model import Neural
from shardwise.models.params import check_names, parse_params
from shardwise.models.saved import Header
from shardwise.models.svm import SVM, SVMParams
from shardwise.models.trees import Trees
from shardwise.models.trees_params import TreesParams

FAMILIES: dict[str, type[Model]] = {
    "baseline": Baseline, "linear": Linear, "trees": Trees, "forest": Forest, "adaboost": AdaBoost, "svm": SVM,
    "catboost": CatBoost, "neural": Neural, "cnn": Cnn, "rnn": Rnn,
}  # fmt: skip
PARAMS: dict[str, type] = {
    "baseline": BaselineParams, "linear": LinearParams, "trees": TreesParams, "forest": ForestParams,
    "adaboost": AdaBoostParams, "svm": SVMParams, "catboost": CatBoostParams,
    **{kind.family: kind.kind for kind in (Neural, Cnn, Rnn)},
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


def check_params(family: str, given: Mapping[str, Any], names: Iterable[str] = ()) -> None:
    """Raise `ConfigError` for a param, of those given and of further `names`, that the family does not have, naming the
    nearest, and for a value that it never takes; whether values fit the target, `build` knows."""
    check_names(PARAMS[family], family, names)
    parse_params(PARAMS[family], family, given)


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
