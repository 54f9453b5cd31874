"""Serving: microseconds of one row in process, and requests a second of `shardwise serve`, 30 numbers and 500 trees.

`row`: the median of `Predictor.predict_one` must be at most 100 microseconds; beside it LightGBM's own `predict` of a
row, its single-row call, a walk through all trees at once in NumPy, a batch of one row, and ONNX Runtime where it is
installed. `same`: rows one by one have the bits of the batch. `http`: one worker, the load generator in another
process (`load.py`): closed loop for requests/s, open loop at half of that for p50 and p99. `cache`: the same with rows
that come again. `routing`: what the server's own layers cost, against the same answer from a bare ASGI function, and
through Starlette where it is installed. `doors`: `infer` over HTTP and over gRPC, and what it costs to trace every
request. `mlflow`: MLflow's server on the same trees, where `--mlflow` names a Python that has it, and `ray`: Ray Serve,
one replica, where Ray is installed; ours must answer 3 times the requests.
"""

import argparse
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import load
from common import Results, in_fresh_process, make_parser, run_cases, trees_texts, verdict
from serve_peers import flat_walk, onnx_row, write_mlflow_model
from servers import serving, written
from shardwise.core.config import RunConfig
from shardwise.models.trees_row import SingleRow
from shardwise.registry.package import Member, load_package, write_package
from shardwise.serve.online.rpc_messages import MESSAGES
from shardwise.serve.predictor import Predictor
from shardwise.workflow import train

FEATURES, TREES = 30, 500
MOST_US = 100.0
LEAST_TIMES = 3.0
LEAST_CACHED = 1.5
_START_S = 120.0


def main() -> None:
    args = _arguments()
    results = Results("serve", args.results)
    measures: dict[str, Callable[[Path, argparse.Namespace], Iterator[tuple[str, dict[str, Any]]]]] = {
        "row": measure_rows, "same": measure_same, "http": measure_http, "cache": measure_cache,
        "routing": measure_routing, "doors": measure_doors, "mlflow": measure_mlflow,
        "ray": measure_ray,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        package = make_package(Path(place), args)
        run_cases(measures, results, args, package)


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--calls", type=int, default=5_000, help="rows of which microseconds are the quantiles")
    parser.add_argument("--same-rows", type=int, default=1_000_000, help="rows that are compared one by one")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--train-rows", type=int, default=50_000)
    parser.add_argument("--mlflow", metavar="PYTHON", help="a Python that has mlflow and lightgbm")
    return parser.parse_args()


# -- the model -------------------------------------------------------------------------------------------------------


def table_of(rows: int, seed: int) -> pa.Table:
    """`FEATURES` numbers and a target that depends on most of them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, FEATURES))
    drive = X[:, :20] @ np.linspace(1, 0.1, 20) + np.sin(3 * X[:, 0]) * X[:, 1] + X[:, 2] * X[:, 3]
    columns = {f"x{place}": X[:, place] for place in range(FEATURES)}
    return pa.table({**columns, "y": (drive + rng.normal(size=rows) > 0).astype(np.int64)})


def make_package(folder: Path, args: argparse.Namespace) -> Path:
    """A package of one model of `TREES` trees of 31 leaves, on all features."""
    table = table_of(args.train_rows, 0)
    pq.write_table(table, folder / "train.parquet")
    config = RunConfig(
        data=(str(folder / "train.parquet"),), target="y", families=("trees",), trials=2, select="none",
        params={"trees": {"n_estimators": TREES, "learning_rate": 0.02, "early_stopping_rounds": TREES}},
        runs_folder=str(folder / "runs"), run="bench", report=False,
    )  # fmt: skip
    trained = load_package(Path(train(config).package))
    model = next(member for member in trained.members if member.family == "trees").model
    if getattr(model, "rounds", 0) != TREES:
        raise RuntimeError(f"the model has {getattr(model, 'rounds', 0)} trees, {TREES} were wanted")
    write_package(
        folder / "package", recipe=trained.recipe, models=[Member("trees", model)], target=trained.target,
        schema=table.schema, metrics={}, lineage={}, profile_state=trained.profile_state(), golden=table.slice(0, 50),
    )  # fmt: skip
    return folder / "package"


def rows_of(count: int) -> list[dict[str, Any]]:
    return table_of(count, 1).drop_columns(["y"]).to_pylist()


# -- in process ------------------------------------------------------------------------------------------------------


def measure_rows(package: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    predictor, rows = Predictor.load(package), rows_of(args.calls)
    booster = lgb.Booster(model_str=trees_texts(package)[0])
    single = SingleRow(booster, FEATURES, 1)
    X = np.ascontiguousarray(predictor.package.recipe.transform(predictor.rows_batch(rows)))  # type: ignore[arg-type]
    walk, onnx = flat_walk(booster), onnx_row(booster, FEATURES)
    ways: dict[str, Callable[[int], Any]] = {
        "predict_one": lambda place: predictor.predict_one(rows[place]),
        "batch of one row": lambda place: predictor.package.scores(predictor.row_batch(rows[place])),
        "encoding alone": lambda place: predictor._encode(rows[place]),
        "trees alone: single-row call": lambda place: single(X[place : place + 1]),
        "trees alone: Booster.predict": lambda place: booster.predict(X[place : place + 1], num_threads=1),
        "trees alone: walk in NumPy": lambda place: walk(X[place]),
    }
    if onnx is not None:
        ways["trees alone: ONNX Runtime"] = lambda place: onnx(X[place : place + 1])
    expected = booster.predict(X[:200])
    bits = {
        "trees alone: single-row call": np.array([single(X[i : i + 1])[0] for i in range(200)]),
        "trees alone: walk in NumPy": np.array([walk(X[i]) for i in range(200)]),
        **({"trees alone: ONNX Runtime": np.array([onnx(X[i : i + 1]) for i in range(200)])} if onnx else {}),
    }
    for name, call in ways.items():
        p50, p99 = quantiles_us(call, args.calls)
        figures: dict[str, Any] = {"p50_us": p50, "p99_us": p99}
        if name in bits:
            figures["largest_difference"] = float(np.abs(bits[name] - expected).max())
        if name == "predict_one":
            figures |= {"limit_us": MOST_US, "verdict": verdict(p50, MOST_US)}
        yield f"row {name}", figures


def quantiles_us(call: Callable[[int], Any], calls: int) -> tuple[float, float]:
    for place in range(min(200, calls)):
        call(place)
    spent = []
    for place in range(calls):
        started = time.perf_counter_ns()
        call(place)
        spent.append(time.perf_counter_ns() - started)
    return round(statistics.median(spent) / 1e3, 1), round(float(np.quantile(spent, 0.99)) / 1e3, 1)


def measure_same(package: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    predictor, different, seconds = Predictor.load(package), 0, 0.0
    for start in range(0, args.same_rows, 50_000):
        table = table_of(min(50_000, args.same_rows - start), 2 + start).drop_columns(["y"])
        expected = predictor.predict(table)
        rows = table.to_pylist()
        started = time.perf_counter()
        found = np.array([predictor.row_scores(row) for row in rows])
        seconds += time.perf_counter() - started
        different += int((found != expected).any(axis=1).sum())
    yield "same", {"rows": args.same_rows, "rows_that_differ": different, "rows_per_s": round(args.same_rows / seconds),
                   "verdict": verdict(different, 0)}  # fmt: skip


# -- HTTP ------------------------------------------------------------------------------------------------------------


def loaded(url: str, bodies: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Closed loop, then open loop at half of what that gave."""
    with written(bodies) as file:
        given = {"url": url, "bodies": file, "connections": args.connections, "seconds": args.seconds}
        most, _ = in_fresh_process(load.closed, **given)
        half, _ = in_fresh_process(load.steady, **given, rate=most["requests_per_s"] / 2)
    open_loop = {f"half_{name}": half[name] for name in ("requests_per_s", "p50_ms", "p99_ms", "failed")}
    return {**most, **open_loop, "connections": args.connections}


def bodies_of(count: int) -> list[str]:
    return [json.dumps(row) for row in rows_of(count)]


def measure_http(package: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    with serving(f"m={package}") as server:
        yield "http one worker", loaded(f"{server.url}/predict", bodies_of(2_000), args)
        bare = dict(vars(args), connections=1)
        yield "http one connection", loaded(f"{server.url}/predict", bodies_of(2_000), argparse.Namespace(**bare))


def measure_cache(package: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    bodies = bodies_of(200)
    with serving(f"m={package}") as server:
        without = loaded(f"{server.url}/predict", bodies, args)
    with serving(f"m={package}", "--cache", "memory:64MB") as server:
        cached = loaded(f"{server.url}/predict", bodies, args)
    ratio = round(cached["requests_per_s"] / without["requests_per_s"], 3)
    yield "cache hits", {**cached, "without": without["requests_per_s"], "ratio": ratio,
                         "verdict": verdict(-ratio, -LEAST_CACHED)}  # fmt: skip


def measure_routing(package: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same body, read and answered with one that was made before: by a bare function, and through Starlette."""
    for kind in ("bare", "starlette"):
        command = [sys.executable, str(Path(__file__).parent / "serve_peers.py"), kind]
        with _other(command, "http://127.0.0.1:{port}") as url:
            if url is None:
                yield f"routing {kind}", {"skipped": "it is not installed"}
            else:
                yield f"routing {kind}", loaded(f"{url}/predict", bodies_of(500), args)
    with serving(f"m={package}") as server:
        yield "routing ours, with the model", loaded(f"{server.url}/predict", bodies_of(500), args)


def measure_doors(package: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row a call: `predict`, the same with each request traced, `infer` over HTTP, and over gRPC."""
    kinds = [[{"name": name, "shape": [1], "datatype": "FP64", "data": [value]} for name, value in row.items()]
             for row in rows_of(500)]  # fmt: skip
    port = free_port()
    with serving(f"m={package}", "--grpc-port", str(port)) as server:
        plain = loaded(f"{server.url}/predict", bodies_of(500), args)
        yield "doors predict", plain
        yield (
            "doors infer over HTTP",
            loaded(f"{server.url}/v2/models/m/infer", [json.dumps({"inputs": k}) for k in kinds], args),
        )
        with tempfile.NamedTemporaryFile("w", suffix=".hex") as file:
            file.write("\n".join(message_of(inputs).hex() for inputs in kinds))
            file.flush()
            given = {"place": f"127.0.0.1:{port}", "messages": file.name, "connections": args.connections}
            rpc, _ = in_fresh_process(load.closed_rpc, **given, seconds=args.seconds)
        yield "doors infer over gRPC", {**rpc, "connections": args.connections}
    sink = [sys.executable, str(Path(__file__).parent / "serve_peers.py"), "bare"]
    with (
        _other(sink, "http://127.0.0.1:{port}") as collector,
        serving(f"m={package}", "--traces", str(collector)) as server,
    ):
        traced = loaded(f"{server.url}/predict", bodies_of(500), args)
    yield "doors predict, traced", {**traced, "ratio": round(traced["requests_per_s"] / plain["requests_per_s"], 3)}


def message_of(inputs: list[dict[str, Any]]) -> bytes:
    """A `ModelInferRequest`."""
    keys = ("name", "shape", "datatype")
    tensors = [{**{key: each[key] for key in keys}, "contents": {"fp64_contents": each["data"]}} for each in inputs]
    message: bytes = MESSAGES["ModelInferRequest"](model_name="m", inputs=tensors).SerializeToString()
    return message


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure_mlflow(package: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    if not args.mlflow:
        yield "mlflow", {"skipped": "--mlflow names no Python that has mlflow and lightgbm"}
        return
    with tempfile.TemporaryDirectory() as place:
        folder, trees = Path(place) / "model", Path(place) / "trees.txt"
        trees.write_text(trees_texts(package)[0], encoding="utf8")
        write_mlflow_model(args.mlflow, trees, folder)
        rows = rows_of(500)
        names = [f"Column_{number}" for number in range(FEATURES)]
        split = [json.dumps({"dataframe_split": {"columns": names, "data": [list(row.values())]}}) for row in rows]
        command = [args.mlflow, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local",
                   "--workers", "1", "--port", "{port}"]  # fmt: skip
        with _other(command, "http://127.0.0.1:{port}", cwd=Path(place), ready="/ping") as url:
            if url is None:
                yield "mlflow", {"skipped": "its server has not come up"}
                return
            peer = loaded(f"{url}/invocations", split, args)
    yield "mlflow", _beside(peer, package, args)


def measure_ray(package: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    if importlib.util.find_spec("ray") is None:
        yield "ray", {"skipped": "Ray is not installed"}
        return
    with tempfile.TemporaryDirectory() as place:
        trees = Path(place) / "trees.txt"
        trees.write_text(trees_texts(package)[0], encoding="utf8")
        command = [sys.executable, str(Path(__file__).parent / "serve_peers.py"), "ray", "{port}", str(trees)]
        with _other(command, "http://127.0.0.1:{port}", ready="/-/healthz") as url:
            if url is None:
                yield "ray", {"skipped": "its server has not come up"}
                return
            _wait_for(f"{url}/predict", bodies_of(1)[0])
            peer = loaded(f"{url}/predict", bodies_of(500), args)
    yield "ray", _beside(peer, package, args)


def _beside(peer: dict[str, Any], package: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What ours answers under the load that a peer had, and the ratio."""
    with serving(f"m={package}") as server:
        ours = loaded(f"{server.url}/predict", bodies_of(500), args)
    ratio = round(ours["requests_per_s"] / peer["requests_per_s"], 2)
    peers = {f"peer_{name}": peer[name] for name in ("requests_per_s", "p50_ms", "p99_ms", "failed")}
    return {**ours, **peers, "ratio": ratio, "verdict": verdict(-ratio, -LEAST_TIMES)}


def _wait_for(url: str, body: str) -> None:
    """Until a route is there that a proxy, which answers already, learns of later."""
    until = time.monotonic() + _START_S
    while True:
        try:
            request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


@contextmanager
def _other(command: list[str], url: str, *, cwd: Path | None = None, ready: str = "/") -> Iterator[str | None]:
    """Another server on a free port, when it answers; None when it does not start."""
    port = free_port()
    words = [word.format(port=port) for word in command]
    words = words if any("{port}" in word for word in command) else [*words, str(port)]
    path = f"{Path(words[0]).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(words, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "PATH": path}, start_new_session=True)  # fmt: skip
    place, until = url.format(port=port), time.monotonic() + _START_S
    try:
        while process.poll() is None and time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{place}{ready}", timeout=2).close()
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.2)
            else:
                break
        yield place if process.poll() is None else None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
        process.wait()


if __name__ == "__main__":
    main()
