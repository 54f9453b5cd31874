"""Networks for grids: the accuracy of a CNN on MNIST, and an RNN against trees on windows of an accelerometer.

mnist: the official training rows, `shardwise train --families cnn` (a tenth of them for early stopping), then
`shardwise evaluate` on the official test rows. Limits: an accuracy of at least 0.99, at most 10 minutes of training.
hmp_accelerometer: `shardwise partition --window` cuts recordings into windows of 128 rows; `--families rnn` on them,
split by recording (or with --group volunteer by person). The peer gets the same windows and the same split: default
trees (`--families trees`) on the mean of each axis; beside it, for information, on mean, standard deviation, minimum
and maximum, and on the 384 values as they are. Limit: at most 1.0 times the log loss of the trees on means, on sealed
rows.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from common import Results, available, chosen, make_parser, megabytes, run_measured, shardwise_command, verdict
from shardwise.compute.ceiling import cpu_quota

ACCURACY, SECONDS = 0.99, 600.0
ROWS, STEP = 128, 64
AXES = ("acc_x", "acc_y", "acc_z")
WINDOW = f"{','.join(AXES)} by recording over {ROWS} step {STEP} of t"
SUMMARIES: dict[str, Callable[..., np.ndarray]] = {
    "mean": np.nanmean, "std": np.nanstd, "min": np.nanmin, "max": np.nanmax,
}  # fmt: skip


def main() -> None:
    args = _arguments()
    results = Results("neural_grids", args.results)
    cases = {"mnist": mnist, "hmp_accelerometer": accelerometer}
    for name in available(chosen(args.only, cases), args.data):
        for _ in range(args.repeat):
            with tempfile.TemporaryDirectory() as folder:
                for case, figures in cases[name](args, Path(folder)).items():
                    results.add(case, figures, threads=cpu_quota(), epochs=args.epochs, group=args.group)
                    print(case, figures, flush=True)
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--group", default="recording", choices=("recording", "volunteer"), help="how windows are split"
    )
    parser.add_argument("--epochs", type=int, help="of the networks, for a quick look; else by the size of the data")
    return parser.parse_args()


def mnist(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Trained on the official training rows, scored on the official test rows."""
    table = pq.read_table(args.data / "mnist.parquet")
    for part in ("train", "test"):
        rows = table.filter(pc.equal(table["split"], part)).drop_columns(["split"])
        pq.write_table(rows, folder / f"{part}.parquet", row_group_size=10_000)
    config = {
        "target": "label", "families": ["cnn"], "trials": 2, "valid_share": 0.1, "test_share": 0,
        "workers": cpu_quota(), "parallel": "data" if cpu_quota() > 1 else "none", "params": params(args, "cnn"),
    }  # fmt: skip
    trained, seconds, peak = train(folder, "mnist", "train.parquet", config)
    scored = run_measured(shardwise_command("evaluate", trained["package"], "test.parquet", "--json"), folder)
    accuracy = scored.answer()["metrics"]["accuracy"]
    figures = {
        "accuracy": accuracy["value"], "low": round(accuracy["low"], 5), "seconds": round(seconds, 1), "peak_mb": peak,
        "evaluate_s": round(scored.seconds, 1),
    }  # fmt: skip
    good = accuracy["value"] >= ACCURACY and seconds <= SECONDS
    return {"mnist cnn": {**figures, "verdict": verdict(0 if good else 1, 0)}}


def accelerometer(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """The network and the trees on the same windows, with the same sealed rows."""
    source = str(args.data / "hmp_accelerometer.parquet")
    words = ["partition", source, "windows", "--window", WINDOW, "--by", "rows:100000", "--json"]
    run_measured(shardwise_command(*words), folder).checked()
    tables(folder)
    common = {
        "target": "activity", "group": args.group, "trials": 2, "workers": cpu_quota(), "metric": "log_loss",
        "drop": [name for name in ("recording", "volunteer", "started", "t") if name != args.group],
    }  # fmt: skip
    sequence = f"{','.join(f'{axis}_*' for axis in AXES)}:{ROWS}"
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "trees on means": ("mean.parquet", {"families": ["trees"], "trials": 4}),
        "rnn": ("windows", {"families": ["rnn"], "sequence": sequence, "params": params(args, "rnn")}),
        "trees on four summaries": ("summaries.parquet", {"families": ["trees"], "trials": 4}),
        "trees on values": ("windows", {"families": ["trees"]}),
    }
    cases: dict[str, dict[str, Any]] = {}
    for name, (data, own) in asked.items():
        trained, seconds, peak = train(folder, name.replace(" ", "-"), data, {**common, **own})
        metrics = json.loads((folder / trained["package"] / "manifest.json").read_text())["metrics"]["test"]
        loss, accuracy = metrics["log_loss"]["value"], metrics["accuracy"]
        cases[name] = {
            "log_loss": round(loss, 4), "accuracy": round(accuracy["value"], 4), "low": round(accuracy["low"], 4),
            "high": round(accuracy["high"], 4), "seconds": round(seconds, 1), "peak_mb": peak,
        }  # fmt: skip
        ratio = loss / cases["trees on means"]["log_loss"]
        judged = verdict(ratio, 1.0) if name == "rnn" else "for information"
        cases[name] |= {"ratio": round(ratio, 4), "verdict": judged}
    return {f"hmp {name} by {args.group}": figures for name, figures in cases.items()}


def tables(folder: Path) -> None:
    """`mean.parquet` and `summaries.parquet`: windows by what their values have in common."""
    whole = pq.read_table(folder / "windows")
    kept = whole.select([name for name in whole.schema.names if not name.startswith(AXES)])
    wide = kept
    for axis in AXES:
        values = np.stack([whole[f"{axis}_{i}"].to_numpy().astype(np.float64) for i in range(ROWS)])
        for name, summary in SUMMARIES.items():
            wide = wide.append_column(f"{name}_{axis}", pa.array(summary(values, axis=0)))
    pq.write_table(wide, folder / "summaries.parquet")
    means = [name for name in wide.schema.names if name in kept.schema.names or name.startswith("mean_")]
    pq.write_table(wide.select(means), folder / "mean.parquet")


def params(args: argparse.Namespace, family: str) -> dict[str, Any]:
    return {} if args.epochs is None else {family: {"epochs": args.epochs}}


def train(folder: Path, name: str, data: str, config: dict[str, Any]) -> tuple[dict[str, Any], float, float]:
    """The result of a run, its seconds, and its peak memory in MB."""
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**config, "run": name}))
    done = run_measured(shardwise_command("train", data, "--config", f"{name}.yaml", "--json"), folder)
    return done.answer(), done.seconds, megabytes(done.peak_rss_bytes)


if __name__ == "__main__":
    main()
