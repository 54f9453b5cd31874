"""The page of a real server: what it tells whom, and the page in a real browser, clicked through."""

import re
import time
from pathlib import Path

import pytest
from tests.registry.parts import make_package, make_table
from tests.serve.online.chromium import CHROMIUM, browsing
from tests.serve.online.servers import PATIENCE_S, serving, until

import shardwise.report
import shardwise.serve.online.ui as ui
from shardwise.core.target import Task
from shardwise.data.profile import Profile
from shardwise.monitor.canary import RolloutRules
from shardwise.registry.registry import Registry
from shardwise.registry.rollouts import Rollouts, ended_rollouts
from shardwise.serve.online.ui.page import OPEN, SHELL

httpx = pytest.importorskip("httpx")
CLIENT, ADMIN = "client-0123456789abcdef", "admin-0123456789abcdef"
EVIL = '<img src=x onerror="document.title=1">'
ROW = {"x": 0.5, "z": 0.25, "town": "Ulm", "day": "2024-05-06", EVIL: 1.0}
RULES = {"steps": (0.2, 0.5), "least_requests": 10**6}
FOLDER = Path(ui.__file__).parent


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Three versions of `m`, with a column whose name is HTML; the second is being rolled out against the first."""
    folder = tmp_path_factory.mktemp("page")
    opened = Registry(folder / "registry")
    for number, families in enumerate((("trees",), ("linear",), ("baseline",))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.registry.parts.make_table", table_with_evil_name)
            table = table_with_evil_name(300)
            profile = Profile(table.schema)
            profile.update(table.combine_chunks().to_batches()[0])
            package = make_package(folder / str(number), Task.BINARY, families, 300, profile_state=profile.state())
        opened.register("m", package, note=EVIL)
    opened.promote("m@1")
    return opened


def table_with_evil_name(rows=400, task=Task.BINARY, seed=0):
    table = make_table(rows, task, seed)
    return table.add_column(0, EVIL, table["z"])


@pytest.fixture(scope="module")
def server(registry, tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys")
    (keys / "clients").write_text(CLIENT)
    (keys / "admins").write_text(ADMIN)
    Rollouts(registry).start("m@2", RolloutRules(**RULES).to_json())
    doors = ("--api-key-file", str(keys / "clients"), "--admin-key-file", str(keys / "admins"))
    words = ("m", "--registry", registry.place, "--poll", "100ms", "--monitor", *doors)
    with serving(*words) as running:
        running.wait_for("rollout_step")
        yield running


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as opened:
        yield opened


def key(text):
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize("path", SHELL)
def test_the_shell_is_open_allows_nothing_of_others_and_tells_of_no_model(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
    assert not {"Ulm", "town", EVIL, CLIENT} & set(re.findall(r"\w+", answer.text))


def test_an_address_with_a_slash_leads_to_the_page(client):
    answer = client.get("/ui/")
    assert (answer.status_code, answer.headers["location"]) == (308, "../ui")


@pytest.mark.parametrize(("method", "path"), [("GET", "/ui/state"), ("GET", "/ui/form"), ("POST", "/explain"),
                                              ("POST", "/rollout"), ("GET", "/rollout")])  # fmt: skip
def test_all_that_tells_something_asks_for_a_key(client, method, path):
    assert client.request(method, path).status_code == 401
    assert client.request(method, path, headers=key("wrong-0123456789abcdef")).status_code == 401
    assert path not in OPEN


def test_the_state_tells_of_models_and_a_client_may_not_decide(client):
    told = client.get("/ui/state", headers=key(CLIENT))
    assert told.headers["cache-control"] == "no-store"
    state = told.json()
    assert [each["name"] for each in state["models"]] == ["m"]
    assert [each["number"] for each in state["registry"][0]["versions"]] == [3, 2, 1]
    assert (state["rollouts"][0]["candidate"], state["decisions"]) == ("2", "key")
    assert client.get("/ui/state", headers=key(ADMIN)).json()["decisions"] == "on"
    asked = {"name": "m", "action": "promote", "version": 2, "expect": 1}
    assert client.post("/rollout", json=asked, headers=key(CLIENT)).status_code == 401


def test_a_form_has_typical_values_and_no_row_of_the_training(client):
    told = client.get("/ui/form", headers=key(CLIENT)).json()
    inputs = {each["name"]: each for each in told["inputs"]}
    assert {name: each["kind"] for name, each in inputs.items()} == {
        "x": "number", "z": "number", "town": "text", "day": "time", EVIL: "number"}  # fmt: skip
    assert abs(inputs["x"]["typical"]) < 0.5
    assert inputs["day"]["typical"].startswith("2024-0")
    assert inputs["town"]["typical"] in inputs["town"]["values"]


@pytest.mark.parametrize("version", ["1", "2"])
def test_an_explanation_belongs_to_the_answer_of_its_version(client, version):
    answer = client.post("/explain", json=ROW, params={"version": version}, headers=key(CLIENT)).json()
    plain = client.post("/predict", json=ROW, params={"version": version}, headers=key(CLIENT)).json()
    why = answer.pop("explanation")
    assert answer == plain
    assert why["of"] == "true"
    assert why["answer"] == pytest.approx(answer["probabilities"]["true"])
    assert why["start"] + sum(each["contribution"] for each in why["columns"]) == pytest.approx(why["answer"], abs=1e-6)
    assert {each["column"] for each in why["columns"]} <= set(ROW)


def test_a_row_that_is_tried_is_no_traffic(client):
    def seen():
        told = client.get("/rollout", headers=key(CLIENT)).json()["rollouts"][0]["seen"]
        return told["champion"]["requests"], told["candidate"]["requests"]

    before = seen()
    assert client.post("/explain", json=ROW, headers=key(CLIENT)).status_code == 200
    assert seen() == before


@pytest.mark.parametrize(("body", "status"), [(b"[]", 422), (b'{"x": 1}', 422), (b"{", 400), (b'{"x": [1]}', 422)])
def test_what_is_no_row_is_refused(client, body, status):
    assert client.post("/explain", content=body, headers=key(CLIENT)).status_code == status


def test_the_colours_are_those_of_the_report():
    """Whose contrast `tests/report/test_style.py` measures."""
    ours, theirs = ((folder / name).read_text() for folder, name in (
        (FOLDER, "page.css"), (Path(shardwise.report.__file__).parent / "templates", "style.css")))  # fmt: skip
    roots = [re.findall(r":root \{(.*?)\}", text, re.DOTALL) for text in (ours, theirs)]
    assert roots[0] == roots[1][:2]


def test_the_script_makes_no_html_of_texts():
    for path in FOLDER.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", path.read_text())


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def test_the_page_is_clicked_through(tab, server, registry):
    """Key, a row and why, rollback of a rollout, promotion of a version; by keyboard where people would."""
    tab.go(f"{server.url}/ui")
    tab.until("!document.getElementById('key').hidden", "it asks for a key")
    assert tab.run("document.activeElement.id") == "key-text"
    tab.write(CLIENT)
    tab.press("Enter")
    tab.until("document.querySelector('#models table') && document.querySelector('#row-inputs .field')")
    assert tab.run("document.querySelector('#models').innerText").count("<img") == 3
    try_a_row(tab)
    end_the_rollout(tab, registry)
    tab.run("document.querySelector('[data-key=promote-m-3]').click()")
    tab.until("document.getElementById('decision').open && document.getElementById('decision-key').hidden")
    tab.press("Escape")
    tab.until("!document.getElementById('decision').open", "Escape closes it")
    again = "document.querySelector('[data-key=promote-m-3]').click()"
    tab.run("document.getElementById('decision').addEventListener('close', () => document.body.dataset.closed = 1)")
    tab.run(f"{again}; document.getElementById('decision').close(); {again}")  # faster than the event of its closing
    tab.until("document.body.dataset.closed && document.getElementById('decision').open")
    tab.run("document.getElementById('decision-yes').click()")
    until(lambda: registry.aliases("m")["champion"] == 3, "not promoted")
    tab.until("document.querySelector('#models td').innerText === '3'", "the page follows")
    assert tab.run("document.title") == "shardwise: what is served"
    expected = ("401", "422")  # which the page itself has told of
    assert [problem for problem in tab.problems if not any(f"status of {code}" in problem for code in expected)] == []


def try_a_row(tab):
    tab.run("document.getElementById('row-typical').click()")
    tab.until("document.getElementById('in-0').value !== ''")
    tab.run("document.getElementById('in-0').focus()")
    tab.press("Enter")
    tab.until("document.querySelector('#row-answer table')", "an explanation")
    assert "the probability of true" in tab.run("document.getElementById('row-answer').innerText")
    tab.run("document.getElementById('in-0').value = 'much'")
    tab.run("document.querySelector('#row button.main').click()")
    tab.until("document.querySelector('#row-answer .problem')", "a number is asked for")
    assert tab.run("document.querySelectorAll('[aria-invalid=true]').length") == 1


def end_the_rollout(tab, registry):
    tab.run("document.querySelector('#rollouts button:not(.main)').click()")
    tab.until("document.getElementById('decision').open")
    tab.run("document.getElementById('decision-key-text').focus()")
    tab.write(CLIENT)
    tab.press("Enter")
    tab.until("document.getElementById('decision-problem').textContent", "a client's key decides nothing")
    assert Rollouts(registry).running("m") is not None
    tab.run("document.getElementById('decision-key-text').value = ''")
    tab.run("document.getElementById('decision-key-text').focus()")
    tab.write(ADMIN)
    tab.run("document.getElementById('decision-reason').focus()")
    tab.write("by the test")
    tab.press("Enter")
    until(lambda: Rollouts(registry).running("m") is None, "not rolled back")
    event = ended_rollouts(registry.history("m"))[-1]["event"]
    assert (event["outcome"], event["reason"]) == ("rolled_back", "by the test")
    tab.until("document.querySelector('#rollouts-body').innerText.startsWith('No version')", "the page follows")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_scrolls_sideways_and_all_has_a_name(tab, server, width):
    tab.go(f"{server.url}/ui", width)
    tab.until("document.getElementById('key-text').offsetParent", "it asks for a key")
    tab.run("document.getElementById('key-text').focus()")
    tab.write(ADMIN)
    tab.press("Enter")
    tab.until("document.querySelector('#row-inputs .field')")
    assert tab.run("document.scrollingElement.scrollWidth") <= width
    nodes = "[...document.querySelectorAll('button, input, select, svg[role=img]')]"
    named = "node.labels?.length || node.getAttribute('aria-label') || node.textContent.trim()"
    unnamed = f"{nodes}.filter(node => !({named})).map(node => node.id)"
    assert tab.run(unnamed) == []
    small = "[...document.querySelectorAll('button')].filter(n => n.offsetParent && n.offsetHeight < 24).length"
    assert tab.run(small) == 0


def test_points_of_traffic_come(client):
    client.post("/predict", json=ROW, headers=key(CLIENT))
    end = time.monotonic() + PATIENCE_S
    while not client.get("/ui/state", headers=key(CLIENT)).json()["traffic"]:
        assert time.monotonic() < end
        time.sleep(0.2)
