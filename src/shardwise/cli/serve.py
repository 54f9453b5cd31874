"""shardwise serve PACKAGE|NAME..."""

import sys
from typing import Any

import click

from shardwise.cli.options import registry_option
from shardwise.core.errors import ConfigError
from shardwise.registry.references import open_registry
from shardwise.serve.online.settings import EXTRA, ServeConfig

try:
    from shardwise.serve.online.server import serve
    from shardwise.serve.online.workers import serve_with_workers

    _MISSING = ""
except ModuleNotFoundError as error:
    _MISSING = str(error)


@click.command("serve")
@click.argument("packages", nargs=-1, required=True, metavar="PACKAGE|NAME...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all.")
@click.option("--port", default=8080, show_default=True, help="Port; 0 for a free one, which is told.")
@click.option(
    "--grpc-port", type=int, help="Port of the Open Inference Protocol over gRPC, if it is wanted; 0 for a free one."
)
@click.option("--workers", default=1, show_default=True, help="Processes that share the ports.")
@registry_option
@click.option("--deadline", default="10s", show_default=True, help="The longest that a request may take.")
@click.option("--queue", default=2_000, show_default=True, help="Rows that may wait; more are refused with 429.")
@click.option("--wait", default="2ms", show_default=True, help="The longest that a row waits for others.")
@click.option("--max-rows", default=10_000, show_default=True, help="Rows of a body of JSON.")
@click.option("--max-json", default="8MB", show_default=True, help="Size of a body of JSON, or of a message of gRPC.")
@click.option("--max-arrow", default="256MB", show_default=True, help="Size of a body of Arrow or of binary tensors.")
@click.option("--extra", type=click.Choice(EXTRA), default="refuse", show_default=True,
              help="What is done about columns that the model does not read.")  # fmt: skip
@click.option("--poll", default="1s", show_default=True, help="Between two looks for a new version.")
@click.option("--drain-delay", help="From SIGTERM, when it says it is not ready, until it listens no more.")
@click.option("--drain", default="30s", show_default=True, help="For requests that are under way then.")
@click.option(
    "--cache", multiple=True, metavar="NAME", help="memory:256MB, redis://, valkey://, memcached://; repeatable."
)
@click.option("--cache-replicas", type=int, help="On how many of the caches each answer is kept; else 1.")
@click.option("--cache-behind", is_flag=True, help="Put answers there by a thread, for which no request waits.")
@click.option("--cache-ttl", help="How long an answer is kept, such as 1h.")
@click.option("--monitor", is_flag=True, help="Compare windows of rows and answers with those of training.")
@click.option("--window", default="5m", show_default=True, help="A window ends after so long ...")
@click.option("--window-rows", default=5_000, show_default=True, help="... or with so many rows.")
@click.option("--alert", multiple=True, metavar="log|URL", help="Where findings go; else log.")
@click.option(
    "--api-key-file", metavar="FILE", help="Keys, one a line; also in SHARDWISE_API_KEYS. Then clients need one."
)
@click.option(
    "--admin-key-file", metavar="FILE", help="Keys of those who may promote and roll back; also SHARDWISE_ADMIN_KEYS."
)
@click.option("--tls-cert", metavar="FILE", help="Chain of certificates in PEM: HTTPS, and TLS for gRPC.")
@click.option("--tls-key", metavar="FILE", help="The key of the certificate, in PEM.")
@click.option("--traces", metavar="URL", help="Collector of OpenTelemetry, such as http://localhost:4318.")
@click.option("--worker", is_flag=True, hidden=True)  # one of the processes of --workers
def command(packages: tuple[str, ...], *, registry: str | None, worker: bool, **given: Any) -> int:
    """Serve packages over HTTP and gRPC: folders, NAME (its champion, whatever it is), NAME@3, NAME@alias, name=FOLDER.

    POST /predict takes a row, a list of rows, or Arrow; /v2 is the Open Inference Protocol; /ui is a page for people;
    also /metrics and /openapi.json. A folder that is written anew, or an alias that is moved, is followed without a
    failed request.
    """
    if _MISSING:
        what = f"serve needs a library that is not installed ({_MISSING})"
        raise ConfigError(what, hint="Run: pip install 'shardwise[serve]'.")
    config = ServeConfig.from_words({**given, "alert": given["alert"] or None})
    if config.workers > 1 and not worker:
        return serve_with_workers(sys.argv[1:], config)
    serve(packages, open_registry(registry), config)
    return 0
