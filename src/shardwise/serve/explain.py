"""Why an answer is what it is: how much each feature moved it.

Members whose raw scores are sums of terms (`models.base.Additive`) say what each feature adds to their scores. What
follows (link, mean or stack, calibration) is a function F of all their scores together, which is not linear; it is
passed by integrated gradients (Sundararajan, Taly and Yan 2017, "Axiomatic attribution for deep networks"):

| sign   | what it is                                                                                    |
|--------|-----------------------------------------------------------------------------------------------|
| z0, z1 | scores of all members where nothing is known of the row, and of the row                       |
| t_fj   | the term of feature f in score j; the sum over f is z1_j - z0_j                               |
| g_j    | mean of dF/dz_j along the straight line from z0 to z1, in `_STEPS` central differences        |
| c_f    | the sum over j of g_j t_fj: the contribution of f, in the unit of the answer                  |

The contributions add up to F(z1) - F(z0) but for a `rest` of the differences. Of one score g is the chord's slope.
Members of other families keep their answer all along: what they make of the row is in F(z0), and is not explained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from shardwise.core.schema import Feature
from shardwise.models.base import Additive
from shardwise.registry.package import Package

_STEPS = 64
_ROWS = 4096  # of scores that are answered at once
_STILL, _WIDTH = 1e-7, 1e-4  # a score that moves less in a step is moved by so much, to see the slope


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Of one output of one row, in the unit of the answer; `output` is the place of the class, None for a number.

    `answer` = `start` + the sum of `contributions` `(features,)` + `rest`. `share`: weight of the members that are
    explained; `silent`: families of the others.
    """

    output: int | None
    features: tuple[Feature, ...]
    answer: float
    start: float
    contributions: np.ndarray
    rest: float
    share: float
    silent: tuple[str, ...]


def explain(package: Package, X: np.ndarray, output: int) -> Explanation:
    """Of a row that the recipe has encoded, float32 `(1, features)`, and a place among the outputs."""
    terms = [member.model.terms(X)[0] if isinstance(member.model, Additive) else None for member in package.members]
    known = [each for each in terms if each is not None]
    weights = np.array([member.weight for member in package.members])
    told = np.array([each is not None for each in terms])
    together = np.concatenate(known, axis=1) if known else np.zeros((len(package.recipe.features) + 1, 0))
    start, moved = together[-1], together[:-1].sum(axis=0)
    answer = partial(_answers, package, [None if each is None else each.shape[1] for each in terms], X, output)
    ends = answer(np.stack([start, start + moved]))
    contributions = together[:-1] @ _slopes(answer, start, moved)
    silent = [member.family for member, each in zip(package.members, terms, strict=True) if each is None]
    return Explanation(
        output=output if package.target.task.is_classification else None,
        features=package.recipe.features,
        answer=float(ends[1]),
        start=float(ends[0]),
        contributions=contributions,
        rest=float(ends[1] - ends[0] - contributions.sum()),
        share=float(weights[told].sum() / weights.sum()),
        silent=tuple(dict.fromkeys(silent)),
    )


def _answers(
    package: Package, widths: Sequence[int | None], X: np.ndarray, output: int, scores: np.ndarray
) -> np.ndarray:
    """F: float64 `(rows,)` of the scores of all members that are explained, `(rows, scores)`.

    `widths`: how many scores each member has; None for one that always answers what it does of X.
    """
    ends = np.cumsum([0, *(width for width in widths if width is not None)]).tolist()
    pieces = iter([scores[:, first:last] for first, last in pairwise(ends)])
    predictions = []
    for member, width in zip(package.members, widths, strict=True):
        if width is not None and isinstance(member.model, Additive):
            predictions.append(member.model.answers(next(pieces)))
        else:
            predictions.append(np.repeat(member.model.predict(X), len(scores), axis=0))
    found = package.combined(predictions)
    return found[:, output] if found.ndim == 2 else found


def _slopes(answer: Callable[[np.ndarray], np.ndarray], start: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """How much the answer changes by each score, float64 `(scores,)`: the mean along the line."""
    size = len(start)
    if not size:
        return np.zeros(0)
    step = moved / _STEPS
    width = np.where(np.abs(step) > _STILL, step, _WIDTH)
    around = np.concatenate([np.diag(width / 2), np.diag(-width / 2)])
    at_once = max(1, _ROWS // len(around))
    total = np.zeros(size)
    for first in range(0, _STEPS, at_once):
        middles = start + step * (np.arange(first, min(first + at_once, _STEPS)) + 0.5)[:, None]
        found = answer((middles[:, None] + around).reshape(-1, size)).reshape(len(middles), 2, size)
        total += (found[:, 0] - found[:, 1]).sum(axis=0)
    return np.asarray(total / (width * _STEPS))
