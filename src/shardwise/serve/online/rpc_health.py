"""gRPC's own health checking, `grpc.health.v1`: what Kubernetes' probes, Envoy and gRPC's clients ask.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md. The services are "" (the server), the one of inference,
and each model by its name. A status is SERVING until the server drains, which is what `/v2/health/ready` says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from shardwise.serve.online.call import Call
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.rpc_messages import SERVICE, classes

PACKAGE = "grpc.health.v1"
HEALTH = f"{PACKAGE}.Health"
FIELDS: Mapping[str, Sequence[str]] = {
    "HealthCheckRequest": ["string service"],
    "HealthCheckResponse": ["int32 status"],  # an enumeration, which is the same on the wire
}
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
_LOOK_S = 0.1
_MESSAGES = classes(PACKAGE, FIELDS)


class Health:
    """What the two methods answer; `ended` says that nobody is watched any more."""

    request: Any = _MESSAGES["HealthCheckRequest"]

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self.ended = False

    def status(self, service: str) -> int:
        """Of the server, of inference, or of a model."""
        if service not in ("", SERVICE) and service not in (slot.name for slot in self._routes.models.slots):
            return SERVICE_UNKNOWN
        return SERVING if self._routes.ready else NOT_SERVING

    async def check(self, message: Any, call: Call) -> Any:  # noqa: ARG002 - as all methods
        """Raises `Problem` 404 for a service that there is not, as the protocol has it."""
        status = self.status(message.service)
        if status == SERVICE_UNKNOWN:
            names = ", ".join(repr(name) for name in ("", SERVICE, *(slot.name for slot in self._routes.models.slots)))
            raise Problem(404, "no_service", f"there is no service {message.service!r}", hint=f"There are: {names}.")
        return _MESSAGES["HealthCheckResponse"](status=status)

    async def watch(self, message: Any, is_over: Callable[[], bool]) -> AsyncIterator[Any]:
        """The status at once, then each that differs from the one before, until the server ends."""
        told: int | None = None
        while True:
            status = self.status(message.service)
            if status != told:
                yield _MESSAGES["HealthCheckResponse"](status=status)
                told = status
            if self.ended or is_over():
                return
            await asyncio.sleep(_LOOK_S)
