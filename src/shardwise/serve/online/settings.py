"""What may be asked of a server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from shardwise.core.errors import ConfigError, context
from shardwise.core.names import nearest
from shardwise.core.units import parse_duration, parse_size

EXTRA = ("refuse", "ignore")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where to listen, and limits.

    host, port         0: a free port
    grpc_port          of the Open Inference Protocol over gRPC; 0: a free one, None: not offered
    workers            processes that share the ports
    deadline_s         the longest that a request may take; a request can ask for less
    queue_rows         rows that may wait; more are refused with 429
    wait_s             the longest that a row waits for others to be predicted together with
    max_rows           rows of a body of JSON
    max_json_bytes     of a body of JSON, of the JSON before binary tensors, of a message of gRPC
    max_arrow_bytes    of a body of Arrow, or of JSON with binary tensors
    max_text_bytes     of a single text
    extra              what is done about columns that the model does not read: `refuse` or `ignore`
    poll_s             between two looks at what is to be served
    drain_delay_s      from SIGTERM, when the server says that it is not ready, until it listens no more
    drain_s            from there until requests that are still under way are given up
    header_s           the longest that the head of a request may take to come, or the rest of one that was refused
    most_connections   beyond which requests are refused with 429
    cache, cache_ttl_s names of `serve.cache.opening`, and how long an answer is kept
    cache_replicas     on how many of the caches that are named each answer is kept
    cache_behind       answers are put there by a thread, and no request waits for that
    monitor            whether rows and answers are compared with those of training, in windows
    window_s, window_rows   a window ends after so long, or with so many rows (or requests), or 64 MB of them
    alerts             where findings go: `log`, URLs of webhooks
    api_key_file       keys, one a line, of which a client has to send one; see `keys`
    admin_key_file     keys of those who may promote and roll back over HTTP; without one nobody may
    tls_cert, tls_key  files in PEM: the chain of certificates, and the key of the first; both or none
    traces             URL of a collector of OpenTelemetry, to which predictions are told as spans
    """

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    workers: int = 1
    deadline_s: float = 10.0
    queue_rows: int = 2_000
    wait_s: float = 0.002
    max_rows: int = 10_000
    max_json_bytes: int = 8_000_000
    max_arrow_bytes: int = 256_000_000
    max_text_bytes: int = 1_000_000
    extra: str = "refuse"
    poll_s: float = 1.0
    drain_delay_s: float = 0.0
    drain_s: float = 30.0
    header_s: float = 10.0
    most_connections: int = 2_000
    cache: tuple[str, ...] = ()
    cache_ttl_s: float | None = None
    cache_replicas: int = 1
    cache_behind: bool = False
    monitor: bool = False
    window_s: float = 300.0
    window_rows: int = 5_000
    alerts: tuple[str, ...] = ("log",)
    api_key_file: str | None = None
    admin_key_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    traces: str | None = None

    def __post_init__(self) -> None:
        for port in (self.port, self.grpc_port or 0):
            if not 0 <= port < 65_536:
                raise ConfigError(f"{port} is no port", hint="Give 1 to 65535, or 0 for a free one.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("TLS needs a certificate and its key", hint="Give both --tls-cert and --tls-key.")
        if not 1 <= self.cache_replicas <= max(1, len(set(self.cache))):
            what = f"{self.cache_replicas} replicas on {len(set(self.cache))} caches"
            raise ConfigError(what, hint="Name as many caches with --cache, or give fewer --cache-replicas.")
        if self.extra not in EXTRA:
            raise ConfigError(f"extra is {self.extra!r}", hint=f"Give one of: {', '.join(EXTRA)}.")
        whole = ("workers", "queue_rows", "max_rows", "max_json_bytes", "max_arrow_bytes", "max_text_bytes",
                 "most_connections", "window_rows")  # fmt: skip
        for name in whole:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="Give a whole number of at least 1.")
        for name in ("deadline_s", "poll_s", "header_s", "window_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="Give a time above 0.")

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> Self:
        """From options as `shardwise serve` has them, such as `deadline: 5s`; None stands for the default.

        Raises `ConfigError` for an option that there is none of, and for a value that is none.
        """
        given = {}
        for raw, value in words.items():
            word = str(raw).replace("-", "_")
            if word not in WORDS:
                raise ConfigError(f"there is no option {raw!r} of a server", hint=nearest(word, WORDS))
            if value is not None:
                name, read = WORDS[word]
                with context(option=word):
                    given[name] = read(value)
        return cls(**given)


def names_of(value: Any) -> tuple[str, ...]:
    """One name, or several.

    >>> names_of("memory:1MB"), names_of(["log", "http://127.0.0.1/"])
    (('memory:1MB',), ('log', 'http://127.0.0.1/'))
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{value!r} is no list of names", hint="Give a name, or a list of names.")
    return tuple(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not str(value).strip().isdecimal():
        raise ConfigError(f"{value!r} is no whole number", hint="Give one from 0 up, such as 2000.")
    return int(value)


def _yes(value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ConfigError(f"{value!r} is neither true nor false", hint="Give one of them.")
    return text == "true"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{value!r} is no text", hint="Put it in quotes.")
    return value


WORDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {  # of options: the field, and how its value is read
    "host": ("host", _text), "port": ("port", _whole), "grpc_port": ("grpc_port", _whole),
    "workers": ("workers", _whole), "deadline": ("deadline_s", parse_duration), "queue": ("queue_rows", _whole),
    "wait": ("wait_s", parse_duration), "max_rows": ("max_rows", _whole), "max_json": ("max_json_bytes", parse_size),
    "max_arrow": ("max_arrow_bytes", parse_size), "extra": ("extra", _text), "poll": ("poll_s", parse_duration),
    "drain_delay": ("drain_delay_s", parse_duration), "drain": ("drain_s", parse_duration),
    "cache": ("cache", names_of), "cache_ttl": ("cache_ttl_s", parse_duration),
    "cache_replicas": ("cache_replicas", _whole),
    "cache_behind": ("cache_behind", _yes), "monitor": ("monitor", _yes),
    "window": ("window_s", parse_duration), "window_rows": ("window_rows", _whole), "alert": ("alerts", names_of),
    "api_key_file": ("api_key_file", _text), "admin_key_file": ("admin_key_file", _text),
    "tls_cert": ("tls_cert", _text), "tls_key": ("tls_key", _text), "traces": ("traces", _text),
}  # fmt: skip
