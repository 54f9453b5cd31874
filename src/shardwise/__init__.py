"""Machine learning on data bigger than memory.

    import shardwise

    result = shardwise.train("flights.parquet", target="arr_delay", time="5m", memory="2GB")
    predictor = shardwise.load(result.package)

Names are imported when they are first used, so that `import shardwise` is fast.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

# OpenMP threads that spin for long are slow where others use the same cores, those that never do on free ones:
# docs/decisions/0003-*.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:
    from shardwise.api import advise_partitions as advise_partitions
    from shardwise.api import health as health
    from shardwise.api import load as load
    from shardwise.api import partition as partition
    from shardwise.api import plan as plan
    from shardwise.api import predict as predict
    from shardwise.api import profile as profile
    from shardwise.api import retrain as retrain
    from shardwise.api import train as train
    from shardwise.api import tune as tune
    from shardwise.core.errors import ShardwiseError as ShardwiseError
    from shardwise.estimators import ShardwiseClassifier as ShardwiseClassifier
    from shardwise.estimators import ShardwiseRegressor as ShardwiseRegressor
    from shardwise.registry.registry import Registry as Registry

_HOMES = {
    "train": "shardwise.api",
    "tune": "shardwise.api",
    "retrain": "shardwise.api",
    "load": "shardwise.api",
    "predict": "shardwise.api",
    "partition": "shardwise.api",
    "health": "shardwise.api",
    "advise_partitions": "shardwise.api",
    "plan": "shardwise.api",
    "profile": "shardwise.api",
    "ShardwiseError": "shardwise.core.errors",
    "ShardwiseClassifier": "shardwise.estimators",
    "ShardwiseRegressor": "shardwise.estimators",
    "Registry": "shardwise.registry.registry",
}
__all__ = [
    "Registry", "ShardwiseClassifier", "ShardwiseError", "ShardwiseRegressor", "__version__", "advise_partitions",
    "health", "load", "partition", "plan", "predict", "profile", "retrain", "train", "tune",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shardwise' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


class _Facade(ModuleType):
    """Keeps `shardwise.train`, `shardwise.tune` and `shardwise.plan` the functions, whatever imports the rooms of those
    names."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Facade
