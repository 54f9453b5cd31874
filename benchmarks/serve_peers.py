"""Peers of `bench_serve.py`: other ways through the same trees, and other servers around an answer.

Run as a program, `serve_peers.py bare PORT` and `serve_peers.py starlette PORT` are servers that read a body and answer
with one that was made before: what a server costs without a model. `serve_peers.py ray PORT TREES` is Ray Serve, one
replica, on a cluster of its own.
"""

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

ANSWER = json.dumps({"model": "m", "version": "1", "prediction": 1, "probabilities": {"0": 0.25, "1": 0.75}}).encode()
_MLFLOW = (
    "import sys, lightgbm, mlflow.lightgbm; "
    "mlflow.lightgbm.save_model(lightgbm.Booster(model_file=sys.argv[1]), sys.argv[2])"
)


def flat_walk(booster: lgb.Booster) -> Callable[[np.ndarray], float]:
    """All trees side by side in flat arrays, a level at a time; of a binary model without categories."""
    trees = [_flat(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]
    starts = np.cumsum([0, *(len(tree) for tree in trees[:-1])])
    shifts = [np.array([0, 0, start, start, 0]) for start in starts.tolist()]
    nodes = np.concatenate([tree + shift for tree, shift in zip(trees, shifts, strict=True)])
    feature, threshold = nodes[:, 0].astype(np.intp), nodes[:, 1]
    children, value = nodes[:, 2:4].astype(np.intp), nodes[:, 4]
    is_leaf = feature < 0
    feature = np.where(is_leaf, 0, feature)
    depth = 64

    def walk(row: np.ndarray) -> float:
        place = starts.copy()
        for _ in range(depth):
            right = (row[feature[place]] > threshold[place]).astype(np.intp)
            after = children[place, right]
            if (after == place).all():
                break
            place = after
        return float(1 / (1 + np.exp(-sum(value[place].tolist()))))

    return walk


def _flat(root: dict[str, Any]) -> np.ndarray:
    """Rows of feature (-1: a leaf), threshold, left, right, value; a leaf leads to itself."""
    rows: list[list[float]] = []

    def add(node: dict[str, Any]) -> int:
        place = len(rows)
        rows.append([-1.0, 0.0, place, place, node.get("leaf_value", 0.0)])
        if "split_feature" in node:
            left = add(node["left_child"])
            right = add(node["right_child"])
            rows[place] = [node["split_feature"], node["threshold"], left, right, 0.0]
        return place

    add(root)
    return np.array(rows, dtype=np.float64)


def onnx_row(booster: lgb.Booster, features: int) -> Callable[[np.ndarray], float] | None:
    """The model through ONNX Runtime on one thread; None where it, or the converter, is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnxmltools", "skl2onnx")):
        return None
    import onnxmltools
    import onnxruntime
    from onnxmltools.convert.common.data_types import FloatTensorType

    kind = FloatTensorType([None, features])
    model = onnxmltools.convert_lightgbm(booster, initial_types=[("x", kind)], zipmap=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda X: float(session.run(["probabilities"], {"x": X})[0][0, 1])


def write_mlflow_model(python: str, model: Path, folder: Path) -> None:
    """The same trees as a model of MLflow, written by a Python that has it."""
    subprocess.run([python, "-c", _MLFLOW, str(model), str(folder)], check=True, capture_output=True)


async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI function without any layer."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def with_starlette() -> Any:
    """The same through Starlette's routing, request and response."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def predict(request: Any) -> Response:
        await request.body()
        return Response(ANSWER, media_type="application/json")

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


def serve_on_ray(port: int, trees: str) -> None:
    """A deployment as Ray's guide writes one (https://docs.ray.io/en/latest/serve/tutorials): JSON in, JSON out."""
    import ray
    from ray import serve
    from starlette.requests import Request

    @serve.deployment(max_ongoing_requests=64)
    class Trees:
        def __init__(self) -> None:
            self.booster = lgb.Booster(model_file=trees)

        async def __call__(self, request: Request) -> dict[str, Any]:
            row = await request.json()
            positive = float(self.booster.predict(np.array([list(row.values())]), num_threads=1)[0])
            return {"prediction": int(positive > 0.5), "probabilities": {"0": 1 - positive, "1": positive}}

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"port": port})
        serve.run(Trees.bind(), route_prefix="/predict")
        signal.sigwait([signal.SIGTERM])
    finally:
        ray.shutdown()


if __name__ == "__main__":
    import uvicorn

    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "ray":
        serve_on_ray(port, sys.argv[3])
    else:
        uvicorn.run(bare if kind == "bare" else with_starlette(), port=port, log_level="error", lifespan="off")
