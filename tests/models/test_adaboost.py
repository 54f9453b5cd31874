from typing import Any, ClassVar

from shardwise.testing.models import ModelConformance


class TestAdaBoost(ModelConformance):
    family = "adaboost"
    params: ClassVar[dict[str, Any]] = {"n_estimators": 60, "min_child_samples": 5}
