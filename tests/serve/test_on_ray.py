"""The same application behind Ray Serve: real replicas, which answer as the predictor in this process does."""

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest
from tests.data.stores import free_port
from tests.registry.parts import make_package
from tests.serve.online.servers import until
from tests.serve.online.test_server import BAD, ROW, answer_of, rows_of

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.monitor.canary import RolloutRules
from shardwise.registry.references import open_registry
from shardwise.registry.registry import Registry
from shardwise.registry.rollouts import Rollouts
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.predictor import Predictor

httpx = pytest.importorskip("httpx")
pytest.importorskip("ray.serve", reason="Ray Serve is not installed")

from ray import serve  # noqa: E402
from ray.serve.context import _get_global_client  # noqa: E402
from ray.serve.schema import ApplicationStatus, ServeDeploySchema  # noqa: E402

from shardwise.compute.on_ray import RayExecutor  # noqa: E402
from shardwise.serve.on_ray import DEPLOYMENT, Hosted, Replica, read_args  # noqa: E402
from shardwise.serve.online.assembly import Assembly  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own
KEY = "0123456789abcdef-key"
REPLICAS = 2


@pytest.fixture(scope="module")
def registry(packages, tmp_path_factory) -> Registry:
    found = Registry(tmp_path_factory.mktemp("registry") / "registry")
    found.register("m", packages[Task.BINARY])
    found.register("m", make_package(tmp_path_factory.mktemp("second"), rows=300))
    found.promote("m@1")
    return found


@pytest.fixture(scope="module")
def patient() -> Iterator[None]:
    """A busy machine does not start a proxy in the 5 s after which it is ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
        yield


@pytest.fixture(scope="module")
def client(packages, registry, tmp_path_factory, patient) -> Iterator["httpx.Client"]:
    """Of two replicas at a path of their own, which a cluster on this machine was told of as a RayService tells it."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{KEY}\n")
    port = free_port()
    args = {"packages": ["m", f"multiclass={packages[Task.MULTICLASS]}"], "registry": str(registry.place),
            "poll": "50ms", "max-rows": 600, "max_json": "400KB", "api_key_file": str(keys)}  # fmt: skip
    told = ServeDeploySchema(applications=[{
        "name": "models", "route_prefix": "/models", "import_path": "shardwise.serve.on_ray:app", "args": args,
        "deployments": [{"name": DEPLOYMENT, "num_replicas": REPLICAS, "graceful_shutdown_wait_loop_s": 0.1}],
    }])  # fmt: skip
    with RayExecutor(4):
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        try:
            _get_global_client().deploy_apps(told)
            wait_for_it()
            place, headers = f"http://127.0.0.1:{port}/models", {"x-api-key": KEY}
            with httpx.Client(base_url=place, headers=headers, timeout=60) as opened:
                yield opened
        finally:
            serve.shutdown()
    gc.collect()  # Ray's handles of its processes go here, where what they warn of is no error


def wait_for_it() -> None:
    """On a busy machine replicas take their time to import."""
    end = time.monotonic() + 300
    while (told := serve.status().applications["models"]).status != ApplicationStatus.RUNNING:
        assert told.status != ApplicationStatus.DEPLOY_FAILED, told.message
        assert time.monotonic() < end, told
        time.sleep(0.1)


def test_replicas_are_ready_and_ask_for_keys(client):
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert [each["name"] for each in client.get("/v2/models").json()["models"]] == ["m", "multiclass"]
    refused = client.post("/predict", json=ROW, headers={"x-api-key": "another"})
    assert (refused.status_code, refused.json()["code"]) == (401, "key_unknown")


@pytest.mark.parametrize("count", [1, 500])
def test_rows_get_the_answers_of_the_predictor_to_the_bit(client, predictors, count):
    rows = rows_of(count, Task.MULTICLASS)
    told = client.post("/predict", params={"model": "multiclass"}, json=rows).json()
    expected = [predictors[Task.MULTICLASS].predict_one(row) for row in rows]
    assert [answer_of(each) for each in told["predictions"]] == expected


def test_infer_gives_the_same_answers(client, predictors):
    rows = rows_of(7)
    kinds = {"x": "FP64", "z": "FP32", "town": "BYTES", "day": "BYTES"}
    inputs = [{"name": name, "shape": [7], "datatype": kind, "data": [row[name] for row in rows]}
              for name, kind in kinds.items()]  # fmt: skip
    told = client.post("/v2/models/m/infer", json={"inputs": inputs}).json()
    expected = [predictors[Task.BINARY].predict_one(row) for row in rows]
    labels, shares = told["outputs"]
    assert labels["data"] == [each["prediction"] for each in expected]
    assert shares["data"][1::2] == [each["probability_true"] for each in expected]


@pytest.mark.parametrize("name", ["no JSON", "a missing column", "a list for a number", "too many bytes"])
def test_bad_bodies_are_told_as_by_the_server(client, name):
    content, status, code = BAD[name]
    answer = client.post("/predict", params={"model": "m"}, content=content)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code)
    assert told["message"] == told["error"]
    assert told["hint"]
    assert told["request_id"] == answer.headers["x-request-id"]


def test_all_replicas_follow_the_registry_and_take_part_in_a_rollout(client, registry):
    rules = RolloutRules(steps=(0.5,), promote=False)
    rollouts = Rollouts(registry)
    rollout = rollouts.start("m@2", rules.to_json())
    until(lambda: len(rollouts.tallies("m", rollout)[0]) == REPLICAS, "not all replicas take part")
    answers = [client.post("/predict", params={"model": "m"}, json=ROW, headers={"x-rollout-key": str(key)}).json()
               for key in range(20)]  # fmt: skip
    assert {answer["version"] for answer in answers} == {"1", "2"}
    rollouts.override("m", "promoted", "by hand")
    expected = Predictor(registry.load("m@2")).predict_one(ROW)
    streak = []

    def followed() -> bool:
        told = client.post("/predict", params={"model": "m"}, json=ROW).json()
        streak.append(told["version"] == "2" and answer_of(told) == expected)
        return all(streak[-20:]) and len(streak) >= 20

    until(followed, "a replica goes on with the old version")


def test_threads_live_as_long_as_the_replica(packages):
    """By ASGI's lifespan, which Ray calls; health is asked for meanwhile."""
    hosted = Hosted(Assembly([f"m={packages[Task.BINARY]}"], open_registry("nowhere"), ServeConfig(poll_s=0.01)))
    replica = Replica()
    replica.app = hosted
    seen: list[bool | str] = []

    async def live() -> None:
        asked: asyncio.Queue[dict] = asyncio.Queue()

        async def send(message: dict) -> None:
            seen.extend((message["type"], hosted.assembly.watches))

        for kind in ("lifespan.startup", "lifespan.shutdown"):
            asked.put_nowait({"type": kind})
        with pytest.raises(RuntimeError, match="has ended"):
            replica.check_health()
        await hosted({"type": "lifespan"}, asked.get, send)

    asyncio.run(live())
    gc.unfreeze()  # what a server freezes for good is this process's, too
    assert seen == ["lifespan.startup.complete", True, "lifespan.shutdown.complete", False]
    assert not hosted.assembly.routes.ready


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({}, "no package is named"),
        ({"packages": "m", "port": 80}, "port is Ray Serve's own to say"),
        ({"packages": "m", "dedline": "5s"}, "Did you mean 'deadline'"),
        ({"packages": "m", "queue": "many"}, r"'many' is no whole number \(option queue\)"),
        ({"packages": 3}, "3 is no list of names"),
    ],
)
def test_args_that_are_none_are_told(args, told):
    with pytest.raises(ConfigError, match=told):
        read_args(args)


def test_args_are_the_options_of_the_server():
    args = {"packages": "m@champion", "cache": "memory:1MB", "deadline": "5s", "monitor": "true", "alert": ["log"]}
    packages, registry, config = read_args(args)
    assert (packages, registry) == (("m@champion",), None)
    assert (config.cache, config.deadline_s, config.monitor, config.alerts) == (("memory:1MB",), 5.0, True, ("log",))
