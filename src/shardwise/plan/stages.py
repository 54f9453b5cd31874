"""On what the time and the memory of each stage depend: named terms of the sizes. Pure.

The seconds and the bytes of a stage are coefficients (`learn.Law`) times these terms. With n workers a pass over the
partitions has the terms of Ernest: `1, size / n, log n, n`. Millions of cells, rows and bytes, so that coefficients are
of the order of seconds and megabytes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shardwise.plan.memory import trees_bytes
from shardwise.plan.sizes import Sizes
from shardwise.plan.training import Placement, workers_under

SMALL_BYTES = 64_000_000  # a pass over less runs in this process
THREADS_BYTES = 1_000_000_000  # with less memory, on one thread
BATCH_ROWS, BATCH_CELLS = 65_536, 1 << 20  # as in `train.passes`
SAMPLE_ROWS = 50_000  # of the profile
SAMPLE_CELLS = 8_000_000
KEPT_FLOATS_BYTES = 2**30  # of training rows that are kept as floats as well
LEAST_SELECTED, SELECTED_CELLS, FEW_CELLS = 1_000, 3_000_000, 1_000_000  # as in `train.selection`
MB = 1e-6
PROCESS_MB = 110.0  # with the libraries of a run loaded, before anything is read; a worker shares some of it

Terms = dict[str, float]
PASSES = ("profile", "recipe", "encode")
READING = (*PASSES, "leaks", "select")  # before models are trained
STAGES = ("open", "profile", "leaks", "recipe", "select", "encode", "train", "ensemble", "test", "package", "report")


@dataclass(frozen=True)
class Passing:
    """How partitions are read: `slots` at a time, in `processes` worker processes; 0: in threads of this one."""

    slots: int
    processes: int


def passing(sizes: Sizes, *, workers: int | None, cpus: int, memory_bytes: int, ceiling_bytes: int | None) -> Passing:
    """Workers where they are asked for or where there is much to read, else threads for several partitions.

    `memory_bytes` is what there is, `ceiling_bytes` what was asked for.
    """
    count = min(workers or cpus, sizes.partitions)
    if workers or (sizes.partitions > 1 and sizes.size_bytes > SMALL_BYTES):
        count = min(count, workers_under(ceiling_bytes, count))
        return Passing(count, count)
    return Passing(count if memory_bytes >= THREADS_BYTES else 1, 0)


def batch_rows(width: int) -> int:
    """Rows of a batch that is counted: more of few columns, because a batch has most of the words of another again."""
    return min(max(BATCH_CELLS // max(1, width), BATCH_ROWS), 2 * BATCH_ROWS)


def busiest(sizes: Sizes, slots: int) -> float:
    """Share of the work that the busiest of `slots` has: at least that of the largest partition."""
    return max(1 / slots, sizes.largest) if slots > 1 else 1.0


def float_rows(sizes: Sizes) -> float:
    """Rows that lie on disk as floats: those that are scored, and as many others as the limit holds."""
    scored = sizes.test_rows + sizes.valid_rows * sizes.folds
    others = max(0, sizes.rows - scored)
    return scored + min(others, KEPT_FLOATS_BYTES / (4 * max(1, sizes.features)))


def disk_bytes(sizes: Sizes) -> dict[str, float]:
    """Bytes that a run leaves on disk: encoded rows, profiles and fold numbers, models with their predictions."""
    row_codes = sizes.seen + 12
    rows = sizes.encodings * (sizes.rows * row_codes + float_rows(sizes) * (4 * sizes.features + 12))
    sample = min(SAMPLE_ROWS, sizes.rows) * sizes.memory_bytes / max(1, sizes.rows)
    blobs = sizes.rows + sample + sizes.partitions * 2e4 * sizes.width
    models = sizes.folds * (8 * sizes.valid_rows * sizes.outputs + 2e6 * sizes.outputs)
    return {"rows": float(rows), "blobs": float(blobs), "models": float(models)}


def time_terms(stage: str, sizes: Sizes, passes: Passing, *, trees: float = 0.0, refit_s: float = 0.0) -> Terms:
    """Terms of a stage's seconds; `trees` predict, those of all members together.

    A fold's model of a member that is trained anew on all rows took `refit_s`; 0 where none is.
    """
    if stage == "ensemble":
        valid = MB * sizes.valid_rows * sizes.folds * sizes.outputs
        return {"one": 1.0, "valid": valid, "refit": refit_s}
    return _TIME[stage](sizes, passes, trees)


def _pass(terms: Mapping[str, float], sizes: Sizes, passes: Passing) -> Terms:
    share = busiest(sizes, passes.slots)
    return {
        "one": 1.0,
        **{name: value * share for name, value in terms.items()},
        "log": math.log2(passes.slots),
        "workers": float(passes.processes),
    }


def _profile(sizes: Sizes, passes: Passing, _trees: float) -> Terms:
    strings = sizes.columns.get("string", 0)
    work = {
        "partitions": sizes.partitions * sizes.width / 100,
        "cells": MB * sizes.cells,
        "strings": MB * sizes.rows * strings,
        "bytes": MB * sizes.memory_bytes,
    }
    return _pass(work, sizes, passes)


def _leaks(sizes: Sizes, _passes: Passing, _trees: float) -> Terms:
    rows = min(sizes.rows, SAMPLE_ROWS, SAMPLE_CELLS // max(1, sizes.width))
    return {
        "one": 1.0, "columns": sizes.width / 100, "cells": MB * rows * sizes.width,
        "outputs": MB * rows * sizes.width * (sizes.outputs - 1),
    }  # fmt: skip


def _recipe(sizes: Sizes, passes: Passing, _trees: float) -> Terms:
    work = {"encoded": MB * sizes.rows * sizes.encoded, "texts": MB * sizes.rows * sizes.texts}
    return _pass(work, sizes, passes) | {"columns": sizes.width / 100}


def _select(sizes: Sizes, _passes: Passing, _trees: float) -> Terms:
    """Quick models of a bounded sample, and each feature scored alone; nothing where the sample is too small."""
    width = max(1, sizes.features * sizes.outputs)
    rows = min(SAMPLE_ROWS, sizes.rows - sizes.test_rows, max(LEAST_SELECTED, SELECTED_CELLS // width))
    if rows < LEAST_SELECTED:
        return {}
    repeats = 3 if rows * width < FEW_CELLS else 1
    return {
        "one": 1.0, "cells": MB * repeats * rows * width, "features": repeats * sizes.features / 100,
        "outputs": repeats * width / 100,
    }  # fmt: skip


def _encode(sizes: Sizes, passes: Passing, _trees: float) -> Terms:
    work = {
        "encodings": float(sizes.encodings),
        "cells": MB * sizes.encodings * sizes.rows * sizes.features,
        "floats": MB * sizes.encodings * float_rows(sizes) * sizes.features,
        "strings": MB * sizes.encodings * sizes.rows * sizes.columns.get("string", 0),
        "encoded": MB * sizes.encodings * sizes.rows * sizes.encoded,
        "texts": MB * sizes.encodings * sizes.rows * sizes.texts,
    }
    return _pass(work, sizes, passes)


def _test(sizes: Sizes, _passes: Passing, trees: float) -> Terms:
    return {
        "one": 1.0, "predict": MB * sizes.test_rows * trees / 100, "rows": MB * sizes.test_rows * sizes.outputs,
        "valid": MB * sizes.valid_rows * sizes.folds * sizes.outputs, "load": trees / 1000,
    }  # fmt: skip


def _package(sizes: Sizes, _passes: Passing, trees: float) -> Terms:
    return {"one": 1.0, "trees": trees / 1000, "columns": sizes.width / 100}


def _report(sizes: Sizes, _passes: Passing, _trees: float) -> Terms:
    return {"one": 1.0, "columns": sizes.width / 100, "rows": MB * sizes.test_rows * sizes.outputs}


def _open(_sizes: Sizes, _passes: Passing, _trees: float) -> Terms:
    return {"one": 1.0}


_TIME: dict[str, Callable[[Sizes, Passing, float], Terms]] = {
    "open": _open, "profile": _profile, "leaks": _leaks, "recipe": _recipe, "select": _select, "encode": _encode,
    "test": _test, "package": _package, "report": _report,
}  # fmt: skip


def known_megabytes(stage: str) -> Terms:
    """Coefficients that need not be learned, at least: processes, and what LightGBM keeps."""
    passes = stage in READING
    return {"one": PROCESS_MB, "workers": 30.0} if passes else {"one": PROCESS_MB, "workers": 110.0, "trees": 1.0}


def memory_terms(
    stage: str, sizes: Sizes, passes: Passing, placed: Placement, *, trees: float = 0.0, growing: float = 0.0
) -> Terms:
    """Terms of the peak bytes of a stage, in megabytes, the base of all processes among them.

    What counting took, which grows more slowly than the cells of a partition, is not given back to the system. What
    models were trained with is kept until the end, in as many processes as trained; `trees` are those of the members of
    the package, `growing` those of all models that are fitted at a time, in trees of 31 leaves.
    """
    if stage == "open":
        return {"one": 1.0}
    largest = sizes.rows * max(sizes.largest, 1 / max(1, sizes.partitions))
    batch = min(float(batch_rows(sizes.width)), largest)
    row_bytes = sizes.memory_bytes / max(1, sizes.rows)
    terms = {
        "one": 1.0, "sample": MB * min(SAMPLE_ROWS, sizes.rows) * row_bytes,
        "batches": MB * passes.slots * batch * row_bytes, "cells": MB * passes.slots * batch * 8 * sizes.width,
        "held": passes.slots * math.sqrt(MB * largest * sizes.width),
    }  # fmt: skip
    if stage in READING:
        matrix = passes.slots * batch * 4 * sizes.features if stage == "encode" else 0.0
        terms |= {"workers": float(passes.processes)}
        return terms | {"matrix": MB * matrix, "columns": sizes.width / 100}
    needed = trees_bytes(sizes.train_rows, sizes.seen, sizes.outputs, valid_rows=sizes.valid_rows)
    terms |= {"workers": float(placed.processes), "trees": MB * placed.slots * needed, "models": trees / 1000}
    if stage == "train":
        floats = MB * placed.slots * sizes.valid_rows * 4 * sizes.features
        return terms | {"floats": floats, "growing": growing / 1000}
    scored = MB * (sizes.test_rows + sizes.valid_rows * sizes.folds) * 8 * sizes.outputs
    return terms | {"scored": scored, "test": MB * sizes.test_rows * 4 * sizes.features}
