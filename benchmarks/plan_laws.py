"""The laws that `shardwise plan` is shipped with, learned from past runs and from single fits on generated rows."""

import json
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.core.candidate import Candidate
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.data.bins import Binner
from shardwise.data.rows import BinnedRows, RowsWriter, keep_binner
from shardwise.models.base import FitRun
from shardwise.models.trees import ONE_THREAD_CELLS, Trees
from shardwise.plan import knowledge
from shardwise.plan.learn import fit_law
from shardwise.plan.past import read_runs
from shardwise.plan.sizes import Sizes
from shardwise.plan.training import unit_terms

SHAPES = (
    (2_000, 8), (2_000, 40), (10_000, 8), (10_000, 30), (10_000, 100), (50_000, 8), (50_000, 30), (200_000, 10),
    (200_000, 40), (1_000_000, 10), (1_000_000, 30),
)  # fmt: skip
OUTPUTS, LEAVES = (1, 5), (31, 127)
MOST_CELLS = 100_000_000
DEFAULTS = Path(knowledge.__file__).with_name(knowledge.DEFAULTS)


def time_fits(path: Path, minutes: float) -> int:
    """Append the seconds of fits of many shapes to a file of JSON lines; 7 when the minutes were over before."""
    done = {tuple(fit["shape"]) for fit in _read(path)}
    started = time.monotonic()
    for rows, features in SHAPES:
        threads = (1, 2) if rows * features > ONE_THREAD_CELLS else (1,)
        todo = [
            (rows, features, *rest)
            for rest in product(OUTPUTS, LEAVES, threads)
            if (rows, features, *rest) not in done and rows * features * rest[0] < MOST_CELLS
        ]
        if time.monotonic() - started > 60 * minutes:
            return 7
        with tempfile.TemporaryDirectory() as folder, path.open("a") as out:
            if todo:
                made = _write(Path(folder), rows, features)
            for shape in todo:
                out.write(json.dumps(_timed(Path(folder), made, shape)) + "\n")
    return 0


def _write(folder: Path, rows: int, features: int) -> tuple[Feature, ...]:
    """Codes of normal numbers in one folder for each number of outputs; the target depends on three of them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, features)).astype(np.float32)
    score = X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=rows)
    named = tuple(Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER) for i in range(features))
    binner = Binner.fit(named, X[:20_000])
    folds = (rng.random(rows) < 0.1).astype(np.int8)
    for outputs in OUTPUTS:
        classes = np.searchsorted(np.quantile(score, np.linspace(0, 1, outputs + 1)[1:-1]), score).astype(float)
        keep_binner(folder / str(outputs), binner)
        writer = RowsWriter(folder / str(outputs), len(binner.columns), np.uint8)
        writer.write(0, binner.codes(X).T, score if outputs == 1 else classes, None, folds)
    return named


def _timed(folder: Path, features: tuple[Feature, ...], shape: tuple[int, ...]) -> dict[str, Any]:
    rows, width, outputs, leaves, threads = shape
    rounds = int(max(5, min(60, 6e7 / (rows * width * outputs * threads))))
    target = Target(column="y", task=Task.REGRESSION)
    if outputs > 1:
        target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(outputs)))
    train, valid = (BinnedRows(folder / str(outputs), features, (fold,)) for fold in (0, 1))
    model = Trees(target, features, n_estimators=rounds, num_leaves=leaves, early_stopping_rounds=10**6)
    started = time.perf_counter()
    model.fit(train, valid, FitRun(seed=0, threads=threads))
    return {
        "shape": shape, "rows": train.n_rows, "valid_rows": valid.n_rows, "rounds": rounds,
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


def _fit_terms(path: Path) -> Iterator[tuple[str, dict[str, float], float]]:
    for fit in _read(path):
        _, width, outputs, leaves, threads = fit["shape"]
        sizes = Sizes(
            rows=fit["rows"], columns={}, features=width, outputs=outputs, train_rows=fit["rows"],
            valid_rows=fit["valid_rows"],
        )  # fmt: skip
        candidate = Candidate(family="trees", params={"num_leaves": leaves})
        law, terms = unit_terms(candidate, sizes, 0.0, threads=threads, steps=fit["rounds"])
        yield law, terms, fit["seconds"]


def learn(folder: Path, fits: Path | None) -> None:
    """Write the shipped laws from the runs in `folder`, with single fits as further observations of theirs; what no run
    tells of keeps its law."""
    runs, refused = read_runs(folder)
    for reason in refused:
        print(f"left out: {reason}")
    known = knowledge.learned_anew(runs)
    observed = knowledge.observed_time(runs)
    for law, terms, seconds in _fit_terms(fits) if fits else ():
        observed.setdefault(law, []).append((terms, seconds))
    content = knowledge.to_json(known)
    before = json.loads(DEFAULTS.read_text(encoding="utf8"))["time"]
    learned = {name: fit_law(seen).to_json() for name, seen in observed.items()}
    content["time"] = dict(sorted((before | learned).items()))
    DEFAULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")
    for part in ("time", "memory"):
        for name, law in content[part].items():
            print(f"{part:6} {name:12} spread {law['spread']:.3f} from {law['runs']}")
    print({key: content[key] for key in ("rounds", "rounds_spread", "candidates", "measured_workers")})


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
