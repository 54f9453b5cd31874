"""Dates in text mean in prediction what they meant in training."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from shardwise.core.config import RunConfig
from shardwise.data.dataset import open_dataset
from shardwise.serve.batch import predict_files
from shardwise.serve.predictor import Predictor
from shardwise.workflow import train


def written(path: Path, days: list[np.datetime64], form: str, answers: np.ndarray | None = None) -> str:
    """A CSV file of dates in `form`, with answers."""
    lines = [day.item().strftime(form) for day in days]
    if answers is None:
        path.write_text("\n".join(["day,x", *(f"{line},{i % 3}" for i, line in enumerate(lines))]) + "\n")
    else:
        rows = [f"{line},{i % 3},{answer:.3f}" for i, (line, answer) in enumerate(zip(lines, answers, strict=True))]
        path.write_text("\n".join(["day,x,y", *rows]) + "\n")
    return str(path)


def test_ambiguous_dates_are_read_as_in_training(tmp_path: Path) -> None:
    days = [np.datetime64("2023-01-01") + i for i in range(365)] * 2
    months = np.array([day.item().month for day in days], dtype=float)
    data = written(tmp_path / "train.csv", days, "%d/%m/%Y", 10 * months)
    config = {"data": data, "target": "y", "trials": 2, "folds": 2, "runs_folder": str(tmp_path / "runs")}
    predictor = Predictor.load(train(RunConfig.from_mapping({**config, "report": False})).package)

    asked = [np.datetime64(f"2023-{month:02}-{day:02}") for month in range(1, 13) for day in range(1, 13)]
    answers = {}
    for name, form in (("either", "%d/%m/%Y"), ("iso", "%Y-%m-%d")):  # of `either` no file tells day from month
        dataset = open_dataset([written(tmp_path / f"{name}.csv", asked, form)])
        predict_files(predictor, dataset, tmp_path / f"{name}.parquet")
        answers[name] = pq.read_table(tmp_path / f"{name}.parquet").column("prediction").to_numpy()
    np.testing.assert_array_equal(answers["either"], answers["iso"])
    assert np.corrcoef(answers["iso"], [day.item().month for day in asked])[0, 1] > 0.9
    assert predictor.predict_one({"day": "01/12/2023", "x": 0}) == predictor.predict_one({"day": "2023-12-01", "x": 0})
