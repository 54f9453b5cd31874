"""Coefficients from past runs: non-negative least squares on relative errors, as Ernest does it.

Venkataraman et al., "Ernest: Efficient Performance Prediction for Large-Scale Advanced Analytics", NSDI 2016: the
terms `1, size / n, log n, n` for n workers, and no coefficient below zero, so that more work never costs less.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

Terms = Mapping[str, float]
ENOUGH_RUNS = 12  # of a law; with fewer the shipped coefficients are scaled by a factor
FACTOR_RUNS = 3
MOST_FACTOR = 8.0  # beyond, a machine is not slower: something else is wrong


@dataclass(frozen=True)
class Law:
    """Coefficients by term; `spread` is the standard deviation of log(actual / predicted), `runs` how many taught it.

    `most` has for each term the largest value that was seen: beyond it the law is an extrapolation.
    """

    coefficients: Mapping[str, float]
    spread: float
    runs: int
    most: Mapping[str, float]

    def __call__(self, terms: Terms) -> float:
        return sum(self.coefficients.get(name, 0.0) * value for name, value in terms.items())

    def beyond(self, terms: Terms, slack: float = 2.0) -> float:
        """How many times larger than anything seen the largest of the terms is; 1.0 within what was measured."""
        over = [
            value / self.most[name]
            for name, value in terms.items()
            if self.most.get(name, 0.0) > 0 and self.coefficients.get(name, 0.0) > 0
        ]
        worst = max(over, default=1.0)
        return worst if worst > slack else 1.0

    def to_json(self) -> dict[str, object]:
        return {
            "coefficients": {name: float(f"{value:.5g}") for name, value in self.coefficients.items()},
            "spread": round(self.spread, 4), "runs": self.runs,
            "most": {name: float(f"{value:.5g}") for name, value in self.most.items()},
        }  # fmt: skip


def fit_law(observed: Sequence[tuple[Terms, float]], *, known: Terms | None = None) -> Law:
    """The law that minimises the relative errors of `(terms, value)`; a value of 0 or less is left out.

    `known` are coefficients that are there at least; what is learned comes on top of them.
    """
    seen = [(terms, value) for terms, value in observed if value > 0]
    if not seen:
        return Law({}, math.inf, 0, {})
    names = sorted({name for terms, _ in seen for name in terms} - _alike(seen))
    X = np.array([[terms.get(name, 0.0) for name in names] for terms, _ in seen])
    y = np.array([value for _, value in seen])
    least = np.array([(known or {}).get(name, 0.0) for name in names])
    found = least + nnls(X / y[:, None], (y - X @ least) / y)[0]
    ratio = np.log(y / np.maximum(X @ found, 1e-9 * y))
    middle = float(np.median(ratio))  # relative errors punish twice too much more than half too little
    return Law(
        coefficients=dict(zip(names, (found * np.exp(middle)).tolist(), strict=True)),
        spread=float(np.sqrt(np.mean((ratio - middle) ** 2))),
        runs=len(seen),
        most=dict(zip(names, X.max(axis=0).tolist(), strict=True)),
    )


def _alike(seen: Sequence[tuple[Terms, float]]) -> set[str]:
    """`log` where all runs had as many workers: one coefficient for `workers` says the same, and grows more safely."""
    counts = {terms["log"] for terms, _ in seen if terms.get("log", 0.0) > 0}
    return {"log"} if len(counts) < 2 else set()


def adapted(law: Law, observed: Sequence[tuple[Terms, float]]) -> Law:
    """A shipped law on this machine: learned anew from enough runs, else scaled by what a few say, else as it is."""
    seen = [(terms, value) for terms, value in observed if value > 0 and law(terms) > 0]
    if len(seen) < FACTOR_RUNS:
        return law
    ratios = np.array([value / law(terms) for terms, value in seen])
    factor = float(np.clip(np.median(ratios), 1 / MOST_FACTOR, MOST_FACTOR))
    scaled = Law(
        coefficients={name: value * factor for name, value in law.coefficients.items()},
        spread=max(law.spread, float(np.std(np.log(ratios)))),
        runs=law.runs + len(seen),
        most={name: max(law.most.get(name, 0.0), *(terms.get(name, 0.0) for terms, _ in seen)) for name in law.most},
    )
    if len(seen) < ENOUGH_RUNS:
        return scaled
    own = fit_law(seen)
    return own if own.spread < scaled.spread else scaled
