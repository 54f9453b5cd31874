"""A load generator: one process, one thread, many connections, requests that were made before the clock started.

`closed` asks again as soon as an answer is there, on each connection: what a server can do at most. `steady` asks at
times that were fixed before (open loop): a request that has to wait for a connection has waited since its own time, so
that a server which stalls cannot hide it. `told` counts what each body was answered, `again` makes a connection anew
that was lost, and `pushed` sends at fixed times whatever waits for its answer, as long as there are connections.
"""

import asyncio
import collections
import contextlib
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

WARM_S = 1.0
LOST, ENDED = 0, -1  # as a status: the connection of a request, and one on which nothing was under way
_LAST_CHUNK = b"\r\n0\r\n\r\n"  # of a body that is no empty one
_END = b"\r\n\r\n"


class _Connection(asyncio.Protocol):
    """One connection: `ask` sends a request; when its answer is whole, `done(connection, status)` is called."""

    def __init__(self, done: Any) -> None:
        self._done = done
        self._read = b""
        self.asked_s, self.number, self.body, self.waits = 0.0, 0, b"", False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, request: bytes, asked_s: float) -> None:
        self.asked_s = asked_s
        self.waits = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        end = self._read.find(_END)
        if end < 0:
            return
        head = self._read[:end].lower()
        whole = end + 4 + self._length(head, end + 4)
        if len(self._read) >= whole:
            self.body, self._read = self._read[end + 4 : whole], self._read[whole:]
            self.waits = False
            self._done(self, int(head[9:12]))

    def _length(self, head: bytes, start: int) -> int:
        """Bytes of the body, which begins at `start`; of one in chunks that has not ended, so many that it is not."""
        if b"transfer-encoding: chunked" in head:
            last = self._read.find(_LAST_CHUNK, start)
            return last + len(_LAST_CHUNK) - start if last >= 0 else len(self._read)
        place = head.find(b"content-length:")
        return int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        self._done(self, LOST if self.waits else ENDED)

    def close(self) -> None:
        self._done = lambda *_: None
        self._transport.close()


class _Tally:
    """What came back after the warming up."""

    def __init__(self, begin_s: float) -> None:
        self.begin_s = self.last_s = begin_s
        self.pause_s = 0.0  # the longest without a good answer
        self.seconds: list[float] = []
        self.statuses: collections.Counter[int] = collections.Counter()

    def add(self, asked_s: float, status: int) -> None:
        now = time.perf_counter()
        if asked_s >= self.begin_s and status != ENDED:
            self.statuses[status] += 1
            if status == 200:
                self.seconds.append(now - asked_s)
                self.pause_s, self.last_s = max(self.pause_s, now - self.last_s), now

    def figures(self, span_s: float) -> dict[str, Any]:
        good = len(self.seconds)
        quantiles = np.quantile(self.seconds, [0.5, 0.99]) if good else [float("nan")] * 2
        failed = {str(status): count for status, count in self.statuses.items() if status != 200}
        return {"requests_per_s": round(good / span_s, 1), "p50_ms": round(float(quantiles[0]) * 1e3, 3),
                "p99_ms": round(float(quantiles[1]) * 1e3, 3), "requests": good, "failed": failed,
                "longest_pause_ms": round(self.pause_s * 1e3, 1)}  # fmt: skip


def closed(url: str, bodies: str, connections: int, seconds: float) -> dict[str, Any]:
    """Requests a second and milliseconds, each connection asking without a pause; `bodies`: a file, one a line."""
    return _run(_closed(url, _requests(url, bodies), connections, seconds))


def steady(url: str, bodies: str, connections: int, seconds: float, rate: float) -> dict[str, Any]:
    """The same at `rate` requests a second, by the times at which they were due."""
    return _run(_steady(url, _requests(url, bodies), connections, seconds, rate))


def told(url: str, bodies: str, connections: int, least: int, stop: str) -> list[tuple[int, int, str, int]]:
    """Which body (its place), status, answer, and how often; until there were so many and the file `stop` is there."""
    return _run(_told(url, _requests(url, bodies), connections, least, Path(stop)))


def again(url: str, bodies: str, connections: int, seconds: float) -> dict[str, Any]:
    """As `closed`; the status of a request whose connection was lost is 0, and another is made."""
    return _run(_closed(url, _requests(url, bodies), connections, seconds, anew=True))


def pushed(url: str, bodies: str, connections: int, seconds: float, rate: float) -> dict[str, Any]:
    """Requests at `rate`, each sent when it is due; `held_back`: those for which all connections waited."""
    return _run(_pushed(url, _requests(url, bodies), connections, seconds, rate))


def closed_rpc(place: str, messages: str, connections: int, seconds: float) -> dict[str, Any]:
    """As `closed`, of `ModelInfer` over gRPC; `messages`: a file, one a line, in hexadecimal digits."""
    made = [bytes.fromhex(line) for line in Path(messages).read_text().split()]
    return _run(_closed_rpc(place, made, connections, seconds))


def _run(main: Any) -> Any:
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)


def _requests(url: str, bodies: str) -> list[bytes]:
    place = urlsplit(url)
    head = f"POST {place.path}{'?' + place.query if place.query else ''} HTTP/1.1\r\nhost: {place.netloc}\r\n"
    return [
        f"{head}content-type: application/json\r\ncontent-length: {len(body.encode())}\r\n\r\n{body}".encode()
        for body in Path(bodies).read_text(encoding="utf8").splitlines()
    ]


async def _connect(url: str, done: Any, count: int) -> list[_Connection]:
    place, loop = urlsplit(url), asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Connection(done), place.hostname, place.port) for _ in range(count)]
    return [protocol for _, protocol in made]


async def _closed(
    url: str, requests: list[bytes], count: int, seconds: float, *, anew: bool = False
) -> dict[str, Any]:  # fmt: skip
    begin_s = time.perf_counter() + WARM_S
    tally, number, tasks = _Tally(begin_s), 0, set()

    def done(connection: _Connection, status: int) -> None:
        nonlocal number
        tally.add(connection.asked_s, status)
        number += 1
        if status:
            connection.ask(requests[number % len(requests)], time.perf_counter())
        elif anew:
            tasks.add(asyncio.get_running_loop().create_task(begin()))

    async def begin() -> None:
        [made] = await _connect(url, done, 1)
        connections.append(made)
        made.ask(requests[0], time.perf_counter())

    connections = await _connect(url, done, count)
    for place, connection in enumerate(connections):
        connection.ask(requests[place % len(requests)], time.perf_counter())
    await asyncio.sleep(WARM_S + seconds)
    figures = tally.figures(time.perf_counter() - begin_s)
    for connection in connections:
        connection.close()
    return figures


async def _told(
    url: str, requests: list[bytes], count: int, least: int, stop: Path
) -> list[tuple[int, int, str, int]]:  # fmt: skip
    seen: collections.Counter[tuple[int, int, str]] = collections.Counter()
    asked, ended = 0, False

    def ask(connection: _Connection) -> None:
        nonlocal asked
        connection.number = asked % len(requests)
        asked += 1
        connection.ask(requests[connection.number], time.perf_counter())

    def done(connection: _Connection, status: int) -> None:
        seen[connection.number, status, connection.body.decode() if status else ""] += 1
        if status and not ended:
            ask(connection)

    connections = await _connect(url, done, count)
    for connection in connections:
        ask(connection)
    while seen.total() < least or not stop.exists():
        await asyncio.sleep(0.05)
    ended = True
    while seen.total() < asked:
        await asyncio.sleep(0.01)
    for connection in connections:
        connection.close()
    return [(*key, times) for key, times in seen.items()]


async def _pushed(url: str, requests: list[bytes], count: int, seconds: float, rate: float) -> dict[str, Any]:
    begin_s = time.perf_counter()
    tally, asked, held_back, step_s, tasks = _Tally(begin_s + WARM_S), 0, 0, 0.002, set()

    def done(connection: _Connection, status: int) -> None:
        tally.add(connection.asked_s, status)
        if status > 0:
            free.append(connection)
        else:
            tasks.add(asyncio.get_running_loop().create_task(begin(connection)))

    async def begin(lost: _Connection) -> None:
        with contextlib.suppress(ValueError):
            free.remove(lost)
        made = await _connect(url, done, 1)
        connections.extend(made)
        free.extend(made)

    connections = await _connect(url, done, count)
    free = collections.deque(connections)
    while (now := time.perf_counter()) < begin_s + WARM_S + seconds:
        for _ in range(int(rate * (now - begin_s)) - asked - held_back):
            if free:
                asked += 1
                free.popleft().ask(requests[asked % len(requests)], now)
            else:
                held_back += 1
        await asyncio.sleep(step_s)
    figures = tally.figures(time.perf_counter() - begin_s - WARM_S)
    for connection in connections:
        connection.close()
    return {**figures, "asked_per_s": rate, "held_back": held_back}


async def _closed_rpc(place: str, messages: list[bytes], count: int, seconds: float) -> dict[str, Any]:
    import grpc

    begin_s = time.perf_counter() + WARM_S
    end_s, tally = begin_s + seconds, _Tally(begin_s)

    async def ask(start: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
        async with grpc.aio.insecure_channel(place, options=options) as channel:
            infer, number = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer"), start
            while (asked_s := time.perf_counter()) < end_s:
                number += 1
                try:
                    await infer(messages[number % len(messages)])
                    status = 200
                except grpc.aio.AioRpcError as error:
                    status = error.code().value[0]
                tally.add(asked_s, status)

    await asyncio.gather(*(ask(start) for start in range(count)))
    return tally.figures(seconds)


async def _steady(url: str, requests: list[bytes], count: int, seconds: float, rate: float) -> dict[str, Any]:
    free: collections.deque[_Connection] = collections.deque()
    due: collections.deque[float] = collections.deque()
    begin_s = time.perf_counter()
    tally, asked = _Tally(begin_s + WARM_S), 0

    def go_on() -> None:
        nonlocal asked
        while free and due:
            asked += 1
            free.popleft().ask(requests[asked % len(requests)], due.popleft())

    def done(connection: _Connection, status: int) -> None:
        tally.add(connection.asked_s, status)
        if status > 0:
            free.append(connection)
            go_on()

    connections = await _connect(url, done, count)
    free.extend(connections)
    times = begin_s + np.cumsum(np.random.default_rng(0).exponential(1 / rate, int(rate * (WARM_S + seconds))))
    for at in times.tolist():
        late = at - time.perf_counter()
        if late > 0.0005:
            await asyncio.sleep(late)
        due.append(at)
        go_on()
        if late <= -0.001:
            await asyncio.sleep(0)
    while due:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    for connection in connections:
        connection.close()
    return {**tally.figures(times[-1] - begin_s - WARM_S), "asked_per_s": rate}
