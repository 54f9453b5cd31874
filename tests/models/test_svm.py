from typing import Any, ClassVar

from shardwise.testing.models import ModelConformance


class TestLinearSVM(ModelConformance):
    family = "svm"
    params: ClassVar[dict[str, Any]] = {"epochs": 25, "patience": 25}


class TestKernelSVM(ModelConformance):
    family = "svm"
    params: ClassVar[dict[str, Any]] = {"epochs": 25, "patience": 25, "kernel": "rbf", "n_components": 128}
