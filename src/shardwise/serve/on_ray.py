"""The server on a Ray cluster that is there already: `shardwise.serve.on_ray:app` is what Ray Serve imports.

    applications:                                   # of `serve deploy` and of a RayService's serveConfigV2
      - name: churn
        import_path: shardwise.serve.on_ray:app
        args: {packages: churn@champion, registry: s3://models/registry, cache: memory:256MB, deadline: 5s}
        deployments: [{name: shardwise, num_replicas: 2}]

`args` are the options of `shardwise serve`, by the same names; paths have to be the same on all machines. Each replica
runs the very application that `shardwise serve` runs, behind Ray's HTTP proxy, and follows aliases and rollouts through
the registry as each worker of a server does. Ports, TLS and the number of processes are Ray's own. Keys may also come
from SHARDWISE_API_KEYS and SHARDWISE_ADMIN_KEYS in the environment of the workers, as of a secret; not in a
`runtime_env`, which Ray's dashboard shows. SHARDWISE_REGISTRY names the registry.

The interface: https://docs.ray.io/en/latest/serve/http-guide.html and ASGI's lifespan,
https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any

from ray import serve

from shardwise.core.errors import ConfigError
from shardwise.registry.references import open_registry
from shardwise.serve.online.assembly import Assembly
from shardwise.serve.online.front import ID_HEADER
from shardwise.serve.online.http import Receive, Scope, Send
from shardwise.serve.online.settings import ServeConfig, names_of

DEPLOYMENT = "shardwise"
_OF_RAY = ("host", "port", "grpc_port", "workers", "drain_delay", "tls_cert", "tls_key")
_SPARE_S = 5.0  # after the drain, to end the threads


class Hosted:
    """The application in a replica. Its threads begin and end as ASGI's lifespan says."""

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        root = scope.get("root_path", "")  # Ray's route_prefix, with which the path begins
        if root and scope["type"] == "http":
            scope = {**scope, "path": scope["path"].removeprefix(root) or "/"}
        await self.assembly.app(scope, receive, _without_id(send))

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.assembly.start()
                self.assembly.journal.tell("serving", models=self.assembly.told)
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.assembly.routes.ready = False
                await asyncio.to_thread(self.assembly.close)
                await send({"type": "lifespan.shutdown.complete"})
                return


def _without_id(send: Send) -> Send:
    """Ray's proxy gives each request an id, which ours is taken from, and tells it in the answer by itself."""

    async def told(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [each for each in message["headers"] if each[0] != ID_HEADER]
        await send(message)

    return told


class Replica:
    """What Ray Serve asks beside requests."""

    app: Hosted  # set by Ray's ingress

    def check_health(self) -> None:
        """Raise for a replica that follows nothing any more: Ray ends it, and starts another one."""
        if not self.app.assembly.watches:
            raise RuntimeError("the thread that follows the registry has ended")


def app(args: Mapping[str, Any]) -> Any:
    """The Ray Serve application of these options; models are loaded in its replicas.

    Raises `ConfigError` for an option that there is none of, or that is Ray's own.
    """
    packages, registry, config = read_args(args)

    def build() -> Hosted:
        return Hosted(Assembly(packages, open_registry(registry), config))

    deployed = serve.deployment(
        name=DEPLOYMENT, max_ongoing_requests=config.most_connections,
        graceful_shutdown_timeout_s=config.drain_s + _SPARE_S,
    )  # fmt: skip
    return deployed(serve.ingress(build)(Replica)).bind()


def read_args(args: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None, ServeConfig]:
    """The packages, the place of the registry, and the settings that `args` say."""
    words = dict(args)
    packages, registry = names_of(words.pop("packages", ())), words.pop("registry", None)
    if not packages:
        raise ConfigError("no package is named", hint="Give args: {packages: NAME@champion}, or a list of them.")
    for word in words:
        if word.replace("-", "_") in _OF_RAY:
            hint = "Say it in http_options, or in num_replicas and autoscaling_config of the deployment."
            raise ConfigError(f"{word} is Ray Serve's own to say", hint=hint)
    return packages, registry, ServeConfig.from_words(words)
