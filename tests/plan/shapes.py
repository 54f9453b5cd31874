"""Sizes, budgets and runs that several tests of planning start from."""

from typing import Any

from shardwise.plan.past import PastRun
from shardwise.plan.sizes import Sizes

STAGE = {"seconds": 1.0, "peak_bytes": 3 * 10**8}


def sizes(**changes: Any) -> Sizes:
    """100,000 rows of 20 numbers and 5 strings, hold-out."""
    known: dict[str, Any] = {
        "rows": 200_000, "columns": {"number": 20, "string": 5}, "size_bytes": 20_000_000, "memory_bytes": 60_000_000,
        "features": 30, "folds": 1, "train_rows": 150_000, "valid_rows": 20_000, "test_rows": 10_000,
    }  # fmt: skip
    return Sizes(**{**known, **changes})


def past_run(name: str = "one", *, factor: float = 1.0, **changes: Any) -> PastRun:
    """A run of 10 seconds and 500 MB that was predicted at `factor` times that."""
    known: dict[str, Any] = {
        "name": name, "sizes": sizes(), "workers": 2, "asked": None, "ceiling_bytes": None,
        "stages": {"profile": STAGE, "train": {"seconds": 5.0, "peak_bytes": 5 * 10**8}},
        "trials": [], "seconds": 10.0, "peak_bytes": 5 * 10**8,
        "plan": {
            part: {"low": 0.0, "value": factor * value, "high": 1e12}
            for part, value in (("time_s", 10.0), ("memory_bytes", 5e8))
        },
    }  # fmt: skip
    return PastRun(**{**known, **changes})
