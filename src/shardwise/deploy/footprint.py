"""What a package takes in memory: run as a process of its own, so that nothing else counts.

    python -m shardwise.deploy.footprint PACKAGE ROWS.arrow

prints `{"before", "loaded", "predicted"}`: the most resident memory, in bytes, before the package was loaded, after,
and after a batch of rows was predicted.
"""

import json
import resource
import sys
from pathlib import Path

import pyarrow as pa

from shardwise.serve.predictor import Predictor


def peak_bytes() -> int:
    """The most memory that this process has had, as the program that it is now: `getrusage` counts that of before."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(package: str, rows: str) -> None:
    with pa.OSFile(rows, "rb") as file:
        table = pa.ipc.open_file(file).read_all()
    before = peak_bytes()
    predictor = Predictor.load(Path(package))
    loaded = peak_bytes()
    predictor.predict(table)
    print(json.dumps({"before": before, "loaded": loaded, "predicted": peak_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
