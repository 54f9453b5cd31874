from typing import Any, ClassVar

from shardwise.testing.models import ModelConformance


class TestForest(ModelConformance):
    family = "forest"
    params: ClassVar[dict[str, Any]] = {"n_estimators": 60, "num_leaves": 64}


class TestExtraTrees(ModelConformance):
    family = "forest"
    params: ClassVar[dict[str, Any]] = {
        "n_estimators": 60, "num_leaves": 64, "extra_trees": True, "subsample": 1.0, "max_features": 1.0,
    }  # fmt: skip
