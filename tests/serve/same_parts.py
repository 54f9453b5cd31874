"""What each engine's test does with its own executor."""

from pathlib import Path

import pyarrow.parquet as pq
from tests.registry.parts import make_package, make_table

from shardwise.compute.base import Executor
from shardwise.data.dataset import open_dataset
from shardwise.serve.batch import predict_files
from shardwise.serve.predictor import Predictor


def assert_same_predictions(executor: Executor, folder: Path) -> None:
    """A folder of predictions has the same bytes, whoever writes them."""
    pq.write_table(make_table(900), folder / "rows.parquet", row_group_size=150)
    dataset = open_dataset([str(folder / "rows.parquet")], target_bytes=3000)
    predictor = Predictor.load(make_package(folder))
    for name, workers in (("here", None), ("there", executor)):
        assert predict_files(predictor, dataset, folder / name, keep=["row"], executor=workers) == 900
    here, there = ({path.name: path.read_bytes() for path in (folder / name).iterdir()} for name in ("here", "there"))
    assert here == there
    assert len(here) > 3
