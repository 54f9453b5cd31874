"""Labels: a relation that changes is found, one that holds is not; losses are those of NumPy."""

import numpy as np
import pytest

from shardwise.core.errors import ConfigError
from shardwise.core.target import Target, Task
from shardwise.monitor.concept import DETECTORS, ConceptMonitor, losses_of

pytest.importorskip("river", reason="the extra `monitor` is not installed")
BINARY = Target(column="y", task=Task.BINARY, classes=(0, 1))
NUMBER = Target(column="y", task=Task.REGRESSION)


def stream(rng, rows, right=0.9):
    y = rng.integers(0, 2, rows).astype(float)
    p = np.clip(np.where(rng.random(rows) < right, y, 1 - y) * 0.8 + 0.1, 0, 1)
    return y, np.column_stack([1 - p, p])


@pytest.mark.parametrize("name", DETECTORS)
def test_a_change_for_the_worse_is_found_and_no_other(name):
    rng = np.random.default_rng(0)
    monitor = ConceptMonitor(BINARY, 1.0, name)
    assert monitor.add(*stream(rng, 5000)) == []
    assert monitor.add(*stream(rng, 2000, right=0.97)) == []
    found = monitor.add(*stream(rng, 2000, right=0.6))
    assert found[0].code == "concept_drift"
    assert 7000 < found[0].evidence["rows"] < 8500


def test_losses_lie_between_0_and_1_and_missing_labels_do_not_count():
    y, scores = stream(np.random.default_rng(1), 50)
    y[::5] = np.nan
    kept = y == y
    own = np.where(y[kept] == 1, scores[kept, 1], scores[kept, 0])
    assert losses_of(BINARY, y, scores, 1.0) == pytest.approx((1 - own) ** 2)
    for shape in ((2,), (2, 1)):
        answers = np.array([2.0, 5.0]).reshape(shape)
        assert losses_of(NUMBER, np.array([0.0, 5.0]), answers, 2.0).tolist() == [0.5, 0.0]


def test_an_unknown_detector_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'adwin'"):
        ConceptMonitor(BINARY, 1.0, "adwim")
