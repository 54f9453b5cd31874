"""A model's text in parts is LightGBM's own, and no part is much larger than it may be."""

from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from shardwise.core.errors import PackageError
from shardwise.models import trees_text
from shardwise.models.trees_text import ModelText, PackedText, scaled, shifted

PART = 4000


def trained(classes: int, rounds: int = 12) -> lgb.Booster:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4))
    y = np.digitize(X[:, 0] * X[:, 1], np.linspace(-0.5, 0.5, classes - 1)) if classes > 1 else X[:, 0] * X[:, 1]
    task: dict[str, Any] = {"objective": "multiclass", "num_class": classes} if classes > 1 else {"objective": "l2"}
    settings = {**task, "num_leaves": 9, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    return lgb.train(settings, lgb.Dataset(X, y, params=settings), rounds)


@pytest.mark.parametrize("rounds", [1, 7, None])
@pytest.mark.parametrize("classes", [1, 3])
def test_parts_together_are_the_whole_text(monkeypatch: pytest.MonkeyPatch, classes: int, rounds: int | None) -> None:
    monkeypatch.setattr(trees_text, "PART_BYTES", PART)
    booster = trained(classes)
    whole = booster.model_to_string(num_iteration=-1 if rounds is None else rounds)
    sizes: list[int] = []
    ask = booster.model_to_string

    def asked(**which: int) -> str:
        text: str = ask(**which)
        sizes.append(sum(map(len, ModelText.parse(text).trees)))
        return text

    monkeypatch.setattr(booster, "model_to_string", asked)
    packed = ModelText.of(booster, rounds).packed()
    assert packed.text() == trees_text._IMPORTANCES.sub("", trees_text._PARAMETERS.sub("\n", whole))
    assert max(sizes) < 1.5 * PART
    if rounds is None:
        assert len(sizes) > 3
        assert len(packed.frames) > 4


def test_changed_texts_are_read_by_lightgbm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees_text, "PART_BYTES", PART)
    booster, X = trained(3), np.random.default_rng(1).normal(size=(50, 4))
    start = [0.5, -1.0, 2.0]
    raw = booster.predict(X, raw_score=True)
    moved = lgb.Booster(model_str=shifted(ModelText.of(booster), start).packed().text())
    np.testing.assert_allclose(moved.predict(X, raw_score=True), raw + start, rtol=1e-12)
    half = lgb.Booster(model_str=scaled(ModelText.of(booster), 0.5, start).packed().text())
    np.testing.assert_allclose(half.predict(X, raw_score=True), raw / 2 + start, rtol=1e-12)


def test_what_was_saved_is_read_or_refused(tmp_path: Path) -> None:
    packed = ModelText.of(trained(1)).packed()
    packed.write(tmp_path / "model")
    assert PackedText.read(tmp_path / "model", packed.sha256).text() == packed.text()
    with pytest.raises(PackageError, match="damaged"):
        PackedText.read(tmp_path / "model", "0" * 64).text()
    with pytest.raises(PackageError, match="damaged"):
        PackedText.read(tmp_path / "nothing", packed.sha256)
