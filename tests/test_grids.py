"""Images and sequences end to end: one command, one package, the same bits everywhere, no PyTorch to answer."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError
from shardwise.workflow import TrainResult, train

pytest.importorskip("torch", reason="the extra torch is not installed")

SIDE = 6
CNN = {"epochs": 5, "width": 16, "members": 2, "filters": 4, "units": 16, "batch_rows": 32, "learning_rate": 0.01}
RNN = {"epochs": 16, "width": 16, "members": 2, "hidden": 16, "batch_rows": 32, "learning_rate": 0.01}


def images(n_rows: int = 500) -> pa.Table:
    """Images with a bright bar that stands or lies, somewhere; the pixels of the corner are always black."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (n_rows, SIDE, SIDE))
    standing = rng.random(n_rows) < 0.5
    for image, upright in zip(pixels, standing, strict=True):
        line, start = rng.integers(0, SIDE), rng.integers(0, SIDE - 3)
        view = image.T if upright else image
        view[line, start : start + 4] = 255
    pixels[:, 0, 0] = 0
    columns = {f"p{i}": column.astype(np.uint8) for i, column in enumerate(pixels.reshape(n_rows, -1).T)}
    return pa.table({**columns, "bar": np.where(standing, "stands", "lies"), "shade": rng.choice(["a", "b"], n_rows)})


def steps() -> pa.Table:
    """Sensors that go up and down quickly or slowly, from any beginning."""
    rng = np.random.default_rng(1)
    parts = []
    for number in range(40):
        count, quick = int(rng.integers(60, 90)), number % 2
        t = np.arange(count)
        wave = np.sin(rng.uniform(0, 6) + t * (0.9 if quick else 0.4)) + 0.2 * rng.normal(size=count)
        pace = ["fast" if quick else "slow"] * count
        parts.append(pa.table({"sensor": [f"s{number}"] * count, "t": t, "level": wave, "pace": pace}))
    return pa.concat_tables(parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grids")
    pq.write_table(images(), folder / "images.parquet", row_group_size=250)
    pq.write_table(steps(), folder / "steps.parquet")
    shardwise.partition(folder / "steps.parquet", folder / "windows", window="level by sensor over 16 step 8 of t")
    return folder


def run(folder: Path, name: str, **asked: Any) -> TrainResult:
    common = {"trials": 2, "folds": 2, "runs_folder": str(folder / "runs"), "report": False, "device": "cpu"}
    return train(RunConfig.from_mapping({"data": str(folder / name), **common, **asked}))


@pytest.fixture(scope="module")
def cnn(folder: Path) -> TrainResult:
    return run(folder, "images.parquet", target="bar", families=("cnn",), params={"cnn": CNN}, metric="accuracy")


@pytest.fixture(scope="module")
def rnn(folder: Path) -> TrainResult:
    return run(
        folder, "windows", target="pace", families=("rnn",), params={"rnn": RNN}, metric="accuracy", drop="t",
        group="sensor", sequence="level_*:16",
    )  # fmt: skip


def test_an_image_is_found_by_its_columns_and_learned(cnn: TrainResult) -> None:
    assert cnn.score["value"] > 0.9
    package = shardwise.load(cnn.package).package
    assert len([feature for feature in package.recipe.features if feature.place]) == SIDE * SIDE
    assert {member.model.family for member in package.members} == {"cnn"}  # type: ignore[attr-defined]


def test_windows_of_a_sequence_are_learned_and_split_by_their_key(rnn: TrainResult) -> None:
    assert rnn.score["value"] > 0.9
    features = shardwise.load(rnn.package).package.recipe.features
    assert [feature.place for feature in features] == [(step, 0) for step in range(16)]


@pytest.mark.parametrize(("kind", "name"), [("cnn", "images.parquet"), ("rnn", "windows")])
def test_a_row_gets_the_same_bits_alone_in_a_batch_and_without_torch(
    request: pytest.FixtureRequest, folder: Path, kind: str, name: str
) -> None:
    result: TrainResult = request.getfixturevalue(kind)
    predictor = shardwise.load(result.package)
    table = pq.read_table(folder / name).slice(0, 30)
    together = predictor.predict(table)
    alone = np.stack([predictor.row_scores(row) for row in table.select(predictor.columns).to_pylist()])
    np.testing.assert_array_equal(alone, together)
    code = (
        "import sys; import shardwise; import pyarrow.parquet as pq; "
        f"scores = shardwise.load({result.package!r}).predict(pq.read_table({str(folder / name)!r}).slice(0, 30)); "
        "print(scores.tobytes().hex(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [together.tobytes().hex(), "False"]


def test_two_workers_that_share_each_batch_come_to_the_same_package(folder: Path) -> None:
    asked: dict[str, Any] = {"target": "bar", "families": ("cnn",), "params": {"cnn": {**CNN, "epochs": 2}}}
    hashes = {
        run(folder, "images.parquet", parallel="data", workers=workers, run=f"w{workers}", **asked).package_hash
        for workers in (1, 2)
    }
    assert len(hashes) == 1


def test_a_plan_tells_what_it_takes_and_what_is_missing(folder: Path) -> None:
    data = str(folder / "images.parquet")
    found = shardwise.plan(data, "bar", families=("cnn",), trials=2, runs_folder=str(folder / "plans"))
    assert found.fits
    with pytest.raises(ConfigError, match="columns of a sequence"):
        shardwise.plan(data, "bar", families=("rnn",), trials=2, runs_folder=str(folder / "plans"))
