"""One network in parts on several workers: what each of them holds, what it costs, and a network too large for one.

`tensor-2` and so on: a fit of some epochs by (workers) processes of one thread, against the same fit by one process;
`held` is the largest share of the parameters that a worker has, `step` that with what it borrows at once in a step,
`peak` its memory beyond what it had before the fit, as a share of the one process's. Validation losses are compared in
float64. In float32 each order of sums ends elsewhere, as Adam makes whole steps of rounding errors: `float32_spread` is
how far the losses of one process lie apart, which adds up the gradients of a batch from one, two or eight slices.
`ceiling`: a table of categories larger than what a worker may take beside its libraries (`RLIMIT_DATA`): one worker
fails, `--workers-of-ceiling` train it.
"""

import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import Results, chosen, make_parser, megabytes, verdict
from parted_fits import TARGET, Fit
from shardwise.compute.gang.local import process_gang
from shardwise.core.errors import ShardwiseError
from shardwise.core.parallel import Split
from shardwise.core.schema import Feature, FeatureKind
from shardwise.data.rows import RowsWriter
from shardwise.models.neural.model import Neural
from shardwise.models.neural.parts.cuts import Cuts
from shardwise.plan.splits import parameters

NUMBERS, CODES = 16, 2
SLACK = 0.15  # of the parameters, that a worker may hold beside its part
STACK_BYTES = 2**20  # of a thread, where memory is bounded
CASES = {
    "tensor-2": ("tensor", 2, 2), "tensor-4": ("tensor", 4, 4), "tensor-2x2": ("tensor", 2, 4),
    "pipeline-2": ("pipeline", 2, 2), "pipeline-4": ("pipeline", 4, 4), "pipeline-2x2": ("pipeline", 2, 4),
    "embedding-2": ("embedding", 2, 2), "embedding-4": ("embedding", 4, 4),
}  # fmt: skip
ALONE: dict[str, dict[str, Any]] = {}  # what was fitted by one process, for the cases that follow


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--categories", type=int, default=2_000_000, help="of the case ceiling")
    parser.add_argument("--workers-of-ceiling", type=int, default=4)
    args = parser.parse_args()
    results = Results("model_parallel", args.results)
    with tempfile.TemporaryDirectory() as place:
        for case in chosen(args.only, (*CASES, "ceiling")):
            folder = Path(place) / case
            if case == "ceiling":
                results.add(case, beyond(folder, args))
            else:
                results.add(case, compared(folder, CASES[case], args), rows=args.rows, width=args.width)
            print(", ".join(f"{key} {value}" for key, value in results.rows[-1].items()))


def compared(folder: Path, lies: tuple[str, int, int], args: Any) -> dict[str, Any]:
    """A fit in parts against one by one process, in float64 and in float32."""
    kind, parts, size = lies
    params: dict[str, Any] = {"width": args.width, "depth": 6, "members": 4, "epochs": 2, "batch_rows": 512,
                              "dropout": 0.0}  # fmt: skip
    table = kind == "embedding"
    if table:
        params |= {"width": 64, "depth": 2, "embedding_limit": 200_000}
    features = written(folder, args.rows, 200_000 if table else 50)
    split = Split(kind=kind, parts=parts)
    whole = Fit(folder, features, params, None)
    alone = fits_alone(whole, "table" if table else "layers")
    part = replace(whole, split=split)
    many, exact = fitted(part, size), fitted(replace(part, exact=True), size)
    cuts = Cuts(Neural(TARGET, features, **params).shape, split, size)
    held = cuts.largest / parameters(cuts.shape)
    step = held + max(told["lent"] for told in many) / parameters(cuts.shape)
    differs = apart(alone["exact"], exact[0])
    peak = max(told["peak"] for told in many) / alone["one"]["peak"]
    return {
        "workers": size, "parameters": parameters(cuts.shape), "held": round(held, 3),
        "step": round(step, 3), "step_limit": verdict(step, 1 / size + SLACK),
        "peak": round(peak, 3), "loss_differs": differs,
        "loss_limit": verdict(differs, 1e-9), "float32_differs": apart(alone["one"], many[0]),
        "float32_spread": max(apart(alone["one"], alone[name]) for name in ("two", "eight")),
        "one_s": round(alone["one"]["seconds"], 2), "parts_s": round(many[0]["seconds"], 2),
    }  # fmt: skip


def fits_alone(fit: Fit, name: str) -> dict[str, Any]:
    """By one process: as it is, with gradients added up from slices of each batch, and in float64; once for a name."""
    if name not in ALONE:
        fits = {"one": fit, "two": replace(fit, slices=2), "eight": replace(fit, slices=8),
                "exact": replace(fit, exact=True)}  # fmt: skip
        ALONE[name] = {each: fitted(asked, 1)[0] for each, asked in fits.items()}
    return ALONE[name]


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest relative difference of two fits' validation losses."""
    return float(np.abs(np.array(other["losses"]) / np.array(one["losses"]) - 1).max())


def beyond(folder: Path, args: Any) -> dict[str, Any]:
    """A table whose numbers alone take more than a worker may: whether one and several workers train it."""
    features = written(folder, args.rows, args.categories // CODES)
    params = {"width": 32, "depth": 2, "members": 2, "epochs": 1, "batch_rows": 1024, "embedding_limit": 2**20 - 1,
              "code_embedding": 16}  # fmt: skip
    size = args.workers_of_ceiling
    count = parameters(Neural(TARGET, features, **params).shape)
    cap = int(0.95 * 4 * count)
    ended = ""
    with small_stacks():
        try:
            fitted(Fit(folder, features, params, None, cap), 1)
        except (MemoryError, RuntimeError, ShardwiseError) as error:
            ended = type(error).__name__
        told = fitted(Fit(folder, features, params, Split(kind="embedding", parts=size), cap), size)
    return {
        "workers": size, "parameters_mb": megabytes(4 * count), "ceiling_mb": megabytes(cap),
        "one": ended or "trained", "peak_mb": megabytes(max(each["peak"] for each in told)),
        "loss": round(told[0]["losses"][-1], 4), "seconds": round(told[0]["seconds"], 1),
    }  # fmt: skip


@contextmanager
def small_stacks() -> Iterator[None]:
    """For the processes that are started meanwhile: `RLIMIT_DATA` counts the 8 MB that a thread may use as used."""
    before = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, before)


def fitted(fit: Fit, size: int) -> list[dict[str, Any]]:
    with process_gang(size, threads=1) as gang:
        return gang.run(fit, size)


def written(folder: Path, rows: int, categories: int) -> tuple[Feature, ...]:
    """Numbers and categories, a tenth of the rows for validation; the features."""
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((rows, NUMBERS), dtype=np.float32)
    codes = rng.integers(0, categories, (rows, CODES)).astype(np.float32)
    drive = numbers[:, 0] + numbers[:, 1] * numbers[:, 2] + (codes % 2).sum(axis=1) - 1
    y = (drive + rng.standard_normal(rows) > 0).astype(np.float64)
    folds = (np.arange(rows) % 10 == 9).astype(np.int8)
    RowsWriter(folder, NUMBERS + CODES).write(0, np.hstack([numbers, codes]), y, None, folds)
    kinds = [FeatureKind.NUMBER] * NUMBERS + [FeatureKind.CODE] * CODES
    return tuple(
        Feature(name=f"x{i}", source=f"x{i}", kind=kind, low=-5.0, high=5.0,
                cardinality=categories if kind is FeatureKind.CODE else 0)
        for i, kind in enumerate(kinds)
    )  # fmt: skip


if __name__ == "__main__":
    main()
