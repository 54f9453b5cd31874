import numpy as np
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from shardwise.tune.samplers.base import normal_scores, ranked
from shardwise.tune.samplers.gaussian import GaussianProcess, expected_improvement


def test_the_process_predicts_as_scikit_learns_with_the_same_kernel() -> None:
    rng = np.random.default_rng(0)
    X, new = rng.random((25, 3)), rng.random((10, 3))
    y = np.sin(4 * X[:, 0]) + X[:, 1]
    ours = GaussianProcess.fit(X, y)
    theirs = GaussianProcessRegressor(Matern(ours.scales, nu=2.5), alpha=ours.noise + 1e-9, optimizer=None).fit(X, y)
    mean, sd = theirs.predict(new, return_std=True)
    np.testing.assert_allclose(ours.predict(new)[0], mean, atol=1e-8)
    np.testing.assert_allclose(ours.predict(new)[1], sd, atol=1e-5)


def test_a_param_that_does_not_matter_gets_a_long_scale() -> None:
    rng = np.random.default_rng(1)
    X = rng.random((60, 2))
    process = GaussianProcess.fit(X, normal_scores(np.sin(6 * X[:, 0])))
    assert process.scales[1] > 2 * process.scales[0]


def test_expected_improvement_is_the_mean_of_what_is_gained() -> None:
    draws = np.random.default_rng(2).normal(0.3, 0.5, 400_000)
    found = expected_improvement(np.array([0.3]), np.array([0.5]), 0.1)[0]
    np.testing.assert_allclose(found, np.maximum(0.1 - draws, 0.0).mean(), rtol=0.02)


def test_scores_are_the_quantiles_of_a_normal_distribution() -> None:
    losses = np.random.default_rng(3).permutation(19).astype(float)
    np.testing.assert_allclose(normal_scores(losses), norm.ppf((losses + 0.5) / 19), atol=0.01)
    assert ranked(np.array([2.0, 2.0, 5.0])).tolist() == [0.25, 0.25, 1.0]
