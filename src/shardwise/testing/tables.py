"""Tiny tables with known answers, for tests and for a first try."""

import numpy as np
import pyarrow as pa


def people(rows: int = 600, seed: int = 0) -> pa.Table:
    """A binary target `bought` that depends on `age` and `city`; with nulls, a weight, a group and number targets.

    Columns: id, age, income, city, since, household, weight, spent, visits, bought.
    """
    rng = np.random.default_rng(seed)
    age = rng.uniform(18, 80, rows)
    city = rng.choice(["Oslo", "Rome", "Lima", "東京 🗼"], rows, p=[0.4, 0.3, 0.2, 0.1])
    since = np.datetime64("2020-01-01", "s") + rng.integers(0, 3 * 365 * 86_400, rows).astype("timedelta64[s]")
    drive = (age - 45) / 12 + np.where(city == "Rome", 1.2, -0.3) + rng.normal(0, 0.7, rows)
    spent = np.exp(drive / 2 + 2) + rng.gamma(1.0, 1.0, rows)
    visits = rng.poisson(np.exp(0.4 * drive).clip(0.05, 8))
    return pa.table(
        {
            "id": np.arange(rows),
            "age": pa.array(age, mask=rng.random(rows) < 0.05),
            "income": rng.lognormal(10, 0.4, rows),
            "city": pa.array(city.tolist(), mask=rng.random(rows) < 0.03),
            "since": pa.array(since),
            "household": rng.integers(0, rows // 3, rows),
            "weight": rng.uniform(0.5, 2.0, rows),
            "spent": spent,
            "visits": visits,
            "bought": np.where(drive > 0.2, "yes", "no"),
        }
    )
