"""Laws: what was put in comes out, coefficients are never negative, and few runs only scale."""

import numpy as np
import pytest

from shardwise.plan.learn import ENOUGH_RUNS, Law, adapted, fit_law


def made(count: int, noise: float = 0.0, factor: float = 1.0) -> list[tuple[dict[str, float], float]]:
    rng = np.random.default_rng(count)
    found = []
    for _ in range(count):
        terms = {"one": 1.0, "cells": float(rng.uniform(1, 100)), "idle": float(rng.uniform(0, 1))}
        found.append((terms, factor * (2.0 + 0.5 * terms["cells"]) * float(np.exp(noise * rng.normal()))))
    return found


def test_coefficients_come_back() -> None:
    law = fit_law(made(40))
    assert law.coefficients["one"] == pytest.approx(2.0, rel=1e-6)
    assert law.coefficients["cells"] == pytest.approx(0.5, rel=1e-6)
    assert law.spread < 1e-6
    assert law.runs == 40


def test_no_coefficient_is_negative() -> None:
    falling = [({"one": 1.0, "cells": float(i)}, 10.0 - i) for i in range(1, 8)]
    assert min(fit_law(falling).coefficients.values()) >= 0.0


def test_the_spread_is_that_of_the_residuals() -> None:
    assert fit_law(made(400, noise=0.3)).spread == pytest.approx(0.3, rel=0.15)


def test_nothing_seen_tells_nothing() -> None:
    law = fit_law([])
    assert law({"one": 1.0}) == 0.0
    assert law.runs == 0


def test_a_few_runs_scale_a_law_and_enough_replace_it() -> None:
    law = fit_law(made(40))
    terms = {"one": 1.0, "cells": 50.0}
    assert adapted(law, made(2, factor=3.0)) is law
    assert adapted(law, made(5, factor=3.0))(terms) == pytest.approx(3.0 * law(terms), rel=1e-6)
    bent = [(terms, terms["cells"] ** 1.0 * 4.0) for terms, _ in made(ENOUGH_RUNS)]
    assert adapted(law, bent)({"cells": 10.0}) == pytest.approx(40.0, rel=1e-3)


def test_what_lies_beyond_is_known() -> None:
    law = Law({"cells": 1.0}, 0.1, 5, {"cells": 10.0})
    assert law.beyond({"cells": 15.0}) == 1.0
    assert law.beyond({"cells": 100.0}) == 10.0
