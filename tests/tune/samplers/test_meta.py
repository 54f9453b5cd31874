import numpy as np

from shardwise.core.space import Float, Space
from shardwise.tune.archive import Archive, PastTask
from shardwise.tune.samplers.meta import MetaSampler, similarity
from shardwise.tune.trial import Trial

SPACE: Space = {"x": Float(0.0, 1.0, default=0.5), "y": Float(0.0, 1.0, default=0.5)}


def task(name: str, best: float, rows: float, seed: int) -> PastTask:
    rng = np.random.default_rng(seed)
    params = [{"x": float(x), "y": float(y)} for x, y in rng.random((30, 2))]
    trials = [{"family": "trees", "params": p, "loss": (p["x"] - best) ** 2 * 1000} for p in params]
    return PastTask(name=name, features={"log_rows": rows}, trials=trials)


ARCHIVE = Archive((task("small", 0.1, 3.0, 0), task("smaller", 0.15, 3.2, 1), task("large", 0.9, 6.0, 2)))


def test_what_paid_on_similar_tasks_comes_first() -> None:
    like_small = MetaSampler(archive=ARCHIVE, features={"log_rows": 3.1}).suggest(SPACE, [], 0)
    like_large = MetaSampler(archive=ARCHIVE, features={"log_rows": 6.0}).suggest(SPACE, [], 0)
    assert like_small["x"] < 0.3 < 0.7 < like_large["x"]  # type: ignore[operator]


def test_a_trial_is_for_those_tasks_to_which_the_earlier_ones_were_of_no_use() -> None:
    archive = Archive((task("low", 0.1, 3.0, 0), task("high", 0.9, 3.0, 1)))  # equally similar, and opposite
    sampler = MetaSampler(archive=archive, features={"log_rows": 3.0})
    trials: list[Trial] = []
    for number in range(2):
        params = sampler.suggest(SPACE, trials, number)
        trials.append(Trial(number=number, family="trees", params=params, losses=(1.0,)))
    first, second = sorted(float(trial.params["x"]) for trial in trials)
    assert first < 0.25 < 0.75 < second


def test_what_is_found_here_corrects_the_past() -> None:
    sampler = MetaSampler(archive=ARCHIVE, features={"log_rows": 3.1})  # which says 0.1; here 0.9 is best
    trials: list[Trial] = []
    for number in range(12):
        params = sampler.suggest(SPACE, trials, number)
        loss = (float(params["x"]) - 0.9) ** 2  # type: ignore[arg-type]
        trials.append(Trial(number=number, family="trees", params=params, losses=(loss,)))
    assert min(trial.loss for trial in trials) < 0.04


def test_the_expected_rank_tells_good_from_bad() -> None:
    sampler = MetaSampler(archive=ARCHIVE, features={"log_rows": 3.1})
    good, bad = (sampler.expected(SPACE, {"x": x, "y": 0.5}) for x in (0.12, 0.95))
    assert good is not None
    assert bad is not None
    assert good < 0.3 < bad
    assert MetaSampler().expected(SPACE, {"x": 0.12, "y": 0.5}) is None


def test_similarity_falls_with_the_distance_and_survives_what_is_missing() -> None:
    weights = similarity({"a": 1.0, "b": 0.0}, [{"a": 1.0, "b": 0.0}, {"a": 2.0}, {"a": 9.0, "b": 1.0}])
    assert weights[0] == 1.0 > weights[1] > weights[2] > 0.0
    assert similarity({"z": 1.0}, [{"a": 1.0}, {"a": 2.0}]).tolist() == [1.0, 1.0]
