"""New versions under traffic: no request fails, none is answered by a mix, and what is damaged never answers."""

import shutil
import threading
from pathlib import Path

import pytest
from tests.registry.parts import make_package, make_parts
from tests.serve.online.servers import serving, until
from tests.serve.online.test_server import ROW, answer_of

from shardwise.registry.package import write_package
from shardwise.registry.registry import Registry
from shardwise.serve.predictor import Predictor

httpx = pytest.importorskip("httpx")
REQUESTS = 2_000
SWAPS = 6
POLL = ("--poll", "50ms")


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> list[Path]:
    """Three packages that answer differently."""
    return [make_package(tmp_path_factory.mktemp("version"), rows=rows) for rows in (300, 400, 500)]


@pytest.fixture
def registry(tmp_path, versions) -> Registry:
    found = Registry(tmp_path / "registry")
    for package in versions[:2]:
        found.register("m", package)
    found.promote("m@1")
    return found


@pytest.fixture
def answers(versions) -> dict[str, dict]:
    """What each version says of the row."""
    told = {str(place + 1): Predictor.load(package).predict_one(ROW) for place, package in enumerate(versions)}
    assert len({str(answer) for answer in told.values()}) == 3
    return told


class Traffic:
    """Four clients that ask until there were so many requests; each answer is kept with its version."""

    def __init__(self, url: str, most: int) -> None:
        self.found: list[tuple[int, str, dict]] = []
        self.errors: list[Exception] = []
        self._url, self._most = url, most
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=60) as client:
                while len(self.found) < self._most:
                    answer = client.post("/predict", json=ROW)
                    told = answer.json()
                    self.found.append((answer.status_code, told.get("version"), told))
        except Exception as error:
            self.errors.append(error)

    def seen(self, version: str, since: int = 0) -> bool:
        return any(each[1] == version for each in self.found[since:])


def test_swaps_under_traffic_fail_nothing_and_mix_nothing(registry, answers):
    with serving("m", "--registry", registry.place, *POLL) as server:
        with Traffic(server.url, REQUESTS * 50) as traffic:
            for number in range(SWAPS):
                version = str(2 - number % 2)
                since = len(traffic.found)
                registry.promote(f"m@{version}")
                server.wait_for("swapped", number + 1)
                until(lambda v=version, s=since: traffic.seen(v, s) or traffic.errors, "the old version goes on")
            until(lambda: len(traffic.found) >= REQUESTS or traffic.errors, "too few requests")
            traffic._most = 0
        assert traffic.errors == []
        assert {status for status, _, _ in traffic.found} == {200}
        assert {version for _, version, _ in traffic.found} == {"1", "2"}
        assert all(answer_of(told) == answers[version] for _, version, told in traffic.found)
        assert len(traffic.found) >= REQUESTS


def test_a_damaged_version_never_answers_and_the_old_one_goes_on(registry, answers, versions):
    third = registry.register("m", versions[2])
    model = next(registry.folder(third).glob("models/*/model.txt.zst"))
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    with serving("m", "--registry", registry.place, *POLL) as server, httpx.Client(base_url=server.url) as client:
        model.write_bytes(content)
        registry.promote("m@3")
        refused = server.wait_for("refused")
        assert refused["version_that_goes_on"] == "1"
        assert "changed or damaged" in refused["error"]
        assert answer_of(client.post("/predict", json=ROW).json()) == answers["1"]
        assert 'shardwise_swaps_total{model="m",outcome="refused"}' in client.get("/metrics").text
        content[len(content) // 2] ^= 1
        model.write_bytes(content)
        server.wait_for("swapped")
        assert answer_of(client.post("/predict", json=ROW).json()) == answers["3"]


def test_a_folder_that_is_written_anew_is_followed(tmp_path, versions, answers):
    place = tmp_path / "package"
    shutil.copytree(versions[0], place)
    with serving(f"m={place}", *POLL) as server, httpx.Client(base_url=server.url) as client:
        assert answer_of(client.post("/predict", json=ROW).json()) == answers["1"]
        write_package(place, **make_parts(tmp_path / "rows", rows=400))
        server.wait_for("swapped")
        assert answer_of(client.post("/predict", json=ROW).json()) == answers["2"]


def test_versions_side_by_side_answer_by_their_number(registry, answers):
    words = ("m", "m@2", "--registry", registry.place, *POLL)
    with serving(*words) as server, httpx.Client(base_url=server.url) as client:
        for version in ("1", "2"):
            told = client.post("/predict", params={"version": version}, json=ROW).json()
            assert (told["version"], answer_of(told)) == (version, answers[version])
        assert client.post("/predict", json=ROW).json()["version"] == "1"
        assert client.get("/v2/models/m").json()["versions"] == ["1", "2"]
