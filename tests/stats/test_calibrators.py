"""What is applied to each answer: it sums to 1, keeps its bits in any batch, and survives being saved."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from shardwise.core.errors import PackageError
from shardwise.core.state import dump_state, load_state
from shardwise.stats.calibrators import Isotonic, Temperature, calibrator_from_state
from shardwise.stats.metrics import Pairs
from shardwise.stats.recalibration import fit_isotonic, fit_temperature


def drawn(rows: int = 3000, classes: int = 2, hot: float = 2.0, seed: int = 0) -> Pairs:
    """Labels drawn from probabilities, and these made surer than they are."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.2, (rows, classes))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (true.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(0, classes - 1)
    sure = np.exp(hot * logits) / np.exp(hot * logits).sum(axis=1, keepdims=True)
    return Pairs(y.astype(np.float64), sure, np.ones(rows))


@pytest.mark.parametrize("classes", [2, 3, 9])
@pytest.mark.parametrize("fit", [fit_temperature, fit_isotonic])
def test_answers_sum_to_one_and_have_the_same_bits_row_by_row(fit, classes):
    pairs = drawn(classes=classes)
    calibrator = fit(pairs)
    whole = calibrator.apply(pairs.prediction[:200])
    np.testing.assert_allclose(whole.sum(axis=1), 1.0)
    np.testing.assert_array_equal(
        whole, np.concatenate([calibrator.apply(row[None]) for row in pairs.prediction[:200]])
    )
    np.testing.assert_array_equal(whole, calibrator.apply(np.asfortranarray(pairs.prediction[:200])))
    again = calibrator_from_state(load_state(dump_state(calibrator.state())))
    np.testing.assert_array_equal(whole, again.apply(pairs.prediction[:200]))


def test_the_temperature_is_the_one_by_which_the_probabilities_were_made_too_sure():
    assert fit_temperature(drawn(20_000, hot=2.0)).temperature == pytest.approx(2.0, rel=0.05)
    assert fit_temperature(drawn(20_000, classes=5, hot=0.5)).temperature == pytest.approx(0.5, rel=0.05)


def test_a_temperature_changes_no_order():
    pairs = drawn(classes=4)
    after = Temperature(3.0).apply(pairs.prediction)
    np.testing.assert_array_equal(after.argmax(axis=1), pairs.prediction.argmax(axis=1))


def test_isotonic_is_near_scikit_learns_and_keeps_the_order_between_its_ends():
    pairs = drawn(4000)
    score = pairs.prediction[:, 1]
    found = fit_isotonic(pairs)
    expected = IsotonicRegression(out_of_bounds="clip").fit(score, pairs.y).predict(score)
    after = found.apply(pairs.prediction)[:, 1]
    assert np.abs(after - expected).mean() < 0.02
    inside = np.sort(score[(score > found.knots[0][0]) & (score < found.knots[0][-1])])
    raised = found.apply(np.column_stack([1 - inside, inside]))[:, 1]
    assert (np.diff(raised) >= 0).all()
    assert np.mean(np.diff(raised) > 0) > 0.9


def test_isotonic_never_says_never():
    pairs = Pairs(np.repeat([0.0, 1.0], 50), np.column_stack([np.repeat([1.0, 0.0], 50), np.repeat([0.0, 1.0], 50)]),
                  np.ones(100))  # fmt: skip
    after = fit_isotonic(pairs).apply(pairs.prediction)
    np.testing.assert_allclose(after.min(), 0.5 / 51)


def test_an_unknown_kind_is_refused():
    with pytest.raises(PackageError, match="no calibrator 'isotonik'"):
        calibrator_from_state({**Isotonic([np.zeros(1)], [np.ones(1)]).state(), "kind": "isotonik"})
