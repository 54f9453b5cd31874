import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from shardwise.core.errors import ConfigError, OverBudget
from shardwise.core.target import Task
from shardwise.models.neural.model import Neural
from shardwise.models.saved import HEADER
from shardwise.testing.models import FEATURES, ModelConformance, on_disk, tiny_table, tiny_target

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from shardwise.models.neural import training  # noqa: E402


class TestNeural(ModelConformance):
    family = "neural"
    params: ClassVar[dict[str, Any]] = {"epochs": 20, "width": 32, "members": 4, "batch_rows": 32, "knots": 8}


def test_a_package_from_before_there_were_activations_answers_as_it_did(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    model = Neural(tiny_target(Task.REGRESSION), FEATURES, **{**TestNeural.params, "epochs": 1, "activation": "relu"})
    model.fit(*on_disk(tmp_path / "rows", table), TestNeural.run())
    model.save(tmp_path / "model")
    header = tmp_path / "model" / HEADER
    content = json.loads(header.read_text(encoding="utf-8"))
    for name in ("activation", "beta2"):
        del content["params"][name]
    header.write_text(json.dumps(content), encoding="utf-8")
    np.testing.assert_array_equal(Neural.load(tmp_path / "model").predict(table.X), model.predict(table.X))


def test_no_memory_beside_the_steps_is_a_ceiling_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_args: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr(training.Training, "run", run)
    model = Neural(tiny_target(Task.REGRESSION), FEATURES, **TestNeural.params)
    with pytest.raises(OverBudget, match="no memory for the network") as caught:
        model.fit(*on_disk(tmp_path, tiny_table(Task.REGRESSION)), TestNeural.run())
    assert "--memory" in caught.value.hint


def test_labels_are_smoothed_for_classes_alone() -> None:
    assert Neural(tiny_target(Task.BINARY), FEATURES, label_smoothing=0.1).params.label_smoothing == 0.1
    with pytest.raises(ConfigError, match=r"label_smoothing=0.1 does not go with a regression target"):
        Neural(tiny_target(Task.REGRESSION), FEATURES, label_smoothing=0.1)
