"""What workers read again: bytes and seconds of several passes over the same partitions, on files and over HTTP.

Two workers of an engine read all columns of every partition, pass after pass, each partition by the worker that is
free. `cold`: the files of this disk, which the kernel is asked to forget before each pass; `warm`: it may keep them.
`http`: the same files from a server on this machine, which counts what it gives. `known` is the share of the partitions
of later passes that fell to a worker that had read them before: what a worker alone keeps helps with these. The seconds
between `cold` and `warm` are the most that a choice of the worker could save where the kernel's cache is all there is.
"""

import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from common import Results, chosen, folder_bytes, make_parser, megabytes
from generated import write_wide
from partition_reads import Reads
from shardwise.compute.bandwidth import disk_bandwidth
from shardwise.compute.base import Executor, stream
from shardwise.compute.engines import make_executor
from shardwise.data.dataset import Dataset, open_dataset

WORKERS = 2
CASES = ("cold", "warm", "http")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the generated table")
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--engine", default="dask")
    args = parser.parse_args()
    results = Results("locality", args.results)
    with tempfile.TemporaryDirectory() as place, closing(make_executor(args.engine, WORKERS)) as executor:
        folder = write_wide(Path(place), args.rows, files=16)
        os.sync()  # what is not written yet cannot be forgotten
        disk = megabytes(disk_bandwidth([str(file) for file in sorted(folder.iterdir())]))
        for case in chosen(args.only, CASES) * args.repeat:
            figures = measured(case, folder, executor, args.passes)
            results.add(case, figures, rows=args.rows, engine=args.engine, disk_mb_s=disk)
            print(", ".join(f"{key} {value}" for key, value in results.rows[-1].items()), flush=True)
    results.print_table()


def measured(case: str, folder: Path, executor: Executor, passes: int) -> dict[str, Any]:
    """Passes over the files of a folder; those after the first are later ones."""
    files = sorted(folder.glob("*.parquet"))
    size = folder_bytes(folder)
    seen: dict[int, set[int]] = {}
    known, spent = 0, list[Pass]()
    with served(folder) as server:
        sources = [f"{server}/{file.name}" for file in files] if case == "http" else [str(file) for file in files]
        dataset = open_dataset(sources, target_bytes=size // (4 * len(files)))
        for number in range(passes):
            if case == "cold" or number == 0:
                forget(files)
            done = one_pass(executor, dataset)
            known += sum(worker in seen.get(index, ()) for index, worker in done.readers.items()) if number else 0
            for index, worker in done.readers.items():
                seen.setdefault(index, set()).add(worker)
            spent.append(done)
    later = spent[1:]
    return {
        "partitions": len(dataset.partitions), "files_mb": megabytes(size),
        "known": round(known / (len(later) * len(dataset.partitions)), 3),
        "first_s": round(spent[0].seconds, 2), "later_s": round(sum(each.seconds for each in later) / len(later), 2),
        "cpu_s": round(sum(each.cpu_s for each in later) / len(later), 2),
        "read_mb": megabytes(sum(each.read for each in later) / len(later)),
        "disk_mb": megabytes(sum(each.disk for each in later) / len(later)),
        "served_mb": megabytes(sum(each.served for each in later) / len(later)),
    }  # fmt: skip


@dataclass
class Pass:
    """One pass: seconds, also of the workers' processors, who read what, bytes read, of the disk, and of the server."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    readers: dict[int, int] = field(default_factory=dict)
    read: int = 0
    disk: int = 0
    served: int = 0


def one_pass(executor: Executor, dataset: Dataset) -> Pass:
    done, began, before = Pass(), time.perf_counter(), Served.bytes
    for outcome in stream(executor, Reads(dataset), dataset.partitions, ordered=True, ahead=executor.slots):
        told = outcome.unwrap()
        done.readers[told["index"]] = told["worker"]
        done.read += told["read"]
        done.disk += told["disk"]
        done.cpu_s += told["cpu_s"]
    done.seconds, done.served = time.perf_counter() - began, Served.bytes - before
    return done


def forget(files: list[Path]) -> None:
    """Ask the kernel to drop what it keeps of files."""
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Served(SimpleHTTPRequestHandler):
    """Gives files, or the range of one that is asked for, and counts the bytes."""

    protocol_version = "HTTP/1.1"
    bytes: ClassVar[int] = 0
    counting: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = (int(asked[1]), min(size, int(asked[2] or size) + 1)) if asked else (0, size)
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(stop - start)
        with self.counting:
            Served.bytes += len(content)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content)))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a folder while it is served on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    main()
