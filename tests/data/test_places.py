"""Sources become files: order, hidden names, globs, URLs."""

import functools
import http.server
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fsspec.registry import _registry
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError, DataError
from shardwise.data.dataset import open_dataset
from shardwise.data.places import find_files, natural_key
from shardwise.testing.readers import rows_of


def names(folder: Path, *sources: str) -> list[str]:
    return [Path(file.path).relative_to(folder).as_posix() for file in find_files(sources, {})]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/part-10.csv", "b/part-2.csv", "a.csv", "_tmp/x.csv", ".git/x.csv", "b/_meta.csv", "c=1/_x=2/d.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n1\n")
    return tmp_path


def test_a_folder_is_walked_in_natural_order_without_hidden_names(folder: Path) -> None:
    assert names(folder, str(folder)) == ["a.csv", "b/part-2.csv", "b/part-10.csv", "c=1/_x=2/d.csv"]


def test_globs(folder: Path) -> None:
    assert names(folder, f"{folder}/b/*.csv") == ["b/part-2.csv", "b/part-10.csv"]
    assert names(folder, f"{folder}/**/*.csv") == ["a.csv", "b/part-2.csv", "b/part-10.csv", "c=1/_x=2/d.csv"]
    assert names(folder, f"{folder}/c=*") == ["c=1/_x=2/d.csv"]


def test_sources_keep_their_order_and_repeats_do_not_count(folder: Path) -> None:
    files = [f"{folder}/b/part-10.csv", f"{folder}/a.csv"]
    assert names(folder, *files, f"{folder}/b/part-10.csv") == ["b/part-10.csv", "a.csv"]
    assert names(folder, *reversed(files)) == ["a.csv", "b/part-10.csv"]


def test_a_name_with_glob_characters_is_a_name_when_it_exists(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").write_text("x\n1\n")
    assert names(tmp_path, f"{tmp_path}/a[1].csv") == ["a[1].csv"]


def test_file_urls_are_local(folder: Path) -> None:
    assert names(folder, f"file://{folder}/a.csv") == ["a.csv"]


@given(st.lists(st.text(alphabet="a1209-/", max_size=8), min_size=1))
def test_natural_order_is_total(paths: list[str]) -> None:
    backwards = paths[::-1]
    assert sorted(paths, key=natural_key) == sorted(backwards, key=natural_key)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(_registry, "gs", raising=False)  # what another test has imported
    with pytest.raises(ConfigError, match=r"pip install 'shardwise\[gcs\]'"):
        open_dataset(["gs://bucket/x.csv"])


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(ConfigError, match="foo:// is not a known kind"):
        open_dataset(["foo://x/y.csv"])


class WholeFiles(http.server.SimpleHTTPRequestHandler):
    """A server that always gives all of a file."""

    def log_message(self, *args: object) -> None:
        pass


class Ranges(WholeFiles):
    """A server that understands `Range: bytes=first-last`, as all the large ones do."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path))
        if "Range" not in self.headers or not content.exists():
            super().do_GET()
            return
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part = content.read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{content.stat().st_size}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@contextmanager
def serve(folder: Path, kind: type[WholeFiles]) -> Iterator[str]:
    handler = functools.partial(kind, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


needs_http = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="the extra http is not installed")


@needs_http
def test_http(folder: Path) -> None:
    with serve(folder, Ranges) as web:
        assert rows_of(open_dataset([f"{web}/a.csv", f"{web}/b/part-2.csv"])).to_pydict() == {"x": [1, 1]}
        with pytest.raises(DataError, match=r"no such file.*nope\.csv"):
            open_dataset([f"{web}/nope.csv"])


@needs_http
def test_http_without_ranges_is_said(folder: Path) -> None:
    with serve(folder, WholeFiles) as web, pytest.raises(DataError, match=r"parts of files.*Download"):
        open_dataset([f"{web}/a.csv"])
