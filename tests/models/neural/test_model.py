import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from shardwise.core.errors import ConfigError, OverBudget
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Task
from shardwise.models.neural.model import Neural
from shardwise.models.saved import HEADER
from shardwise.testing.models import FEATURES, ModelConformance, on_disk, tiny_table, tiny_target

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from shardwise.models.neural import training  # noqa: E402

SIZES = Feature(name="size:category", source="size", kind=FeatureKind.CODE, cardinality=4)
COPIED = (*FEATURES[:3], SIZES, FEATURES[4])


class TestNeural(ModelConformance):
    family = "neural"
    params: ClassVar[dict[str, Any]] = {"epochs": 20, "width": 32, "members": 4, "batch_rows": 32, "knots": 8}


def fitted(folder: Path, **params: Any) -> Neural:
    model = Neural(tiny_target(Task.REGRESSION), COPIED, **{**TestNeural.params, "epochs": 1, **params})
    model.fit(*on_disk(folder / "rows", tiny_table(Task.REGRESSION), COPIED), TestNeural.run())
    return model


def test_a_package_from_before_answers_as_it_did(tmp_path: Path) -> None:
    X = tiny_table(Task.REGRESSION).X
    model = fitted(tmp_path, activation="relu", use_copies=True)
    model.save(tmp_path / "model")
    header = tmp_path / "model" / HEADER
    content = json.loads(header.read_text(encoding="utf-8"))
    for name in ("activation", "beta2", "use_copies"):
        del content["params"][name]
    header.write_text(json.dumps(content), encoding="utf-8")
    np.testing.assert_array_equal(Neural.load(tmp_path / "model").predict(X), model.predict(X))


@pytest.mark.parametrize("use_copies", [False, True])
def test_categories_of_few_numbers_are_used_where_that_is_asked_for(tmp_path: Path, use_copies: bool) -> None:
    model = fitted(tmp_path, use_copies=use_copies)
    model.save(tmp_path / "model")
    X = tiny_table(Task.REGRESSION).X
    other = X.copy()
    other[:, 3] = (X[:, 3] + 1) % 4
    for each in (model, Neural.load(tmp_path / "model")):
        assert each.shape.codes == int(use_copies)
        assert np.array_equal(each.predict(X), each.predict(other)) != use_copies


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


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_smoothed_labels_make_less_sure(tmp_path: Path, task: Task) -> None:
    def surest(label_smoothing: float) -> float:
        model = Neural(tiny_target(task), FEATURES, **TestNeural.params, label_smoothing=label_smoothing)
        model.fit(*on_disk(tmp_path / str(label_smoothing), tiny_table(task)), TestNeural.run())
        return float(model.predict(tiny_table(task).X).max())

    assert surest(0.3) < 0.95 < surest(0.0)
