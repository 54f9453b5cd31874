"""The command line: few verbs, in the order of the way. A verb's module is imported when it is called."""

import contextlib
import importlib
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TextIO

import click

import shardwise
from shardwise.compute.clock import kept_signals
from shardwise.core import startup
from shardwise.core.errors import ShardwiseError, foreign
from shardwise.core.names import nearest
from shardwise.core.plain import finite

VERBS = {
    "profile": "Describe a dataset: one pass, readable or as JSON.",
    "partition": "Write a dataset anew in partitions, append, compact, remedy; advise on sizes.",
    "plan": "Does it fit, how long, how much disk: before anything is trained.",
    "train": "Train, evaluate honestly, and seal a package.",
    "tune": "Search for better candidates: samplers, early stopping of trials, a history that goes on.",
    "retrain": "Train again as a run did, on old and new data; what has not changed is not read again.",
    "evaluate": "Score a package on new labelled data, with intervals and slices.",
    "predict": "Predict files of any size, in input order.",
    "serve": "HTTP: rows, Arrow, the Open Inference Protocol; new versions are followed.",
    "monitor": "Is new data like the data of training? Drift, quality, and what to retrain on.",
    "gate": "May a challenger take the place of the champion? Quality, behaviour, cost; yes or no.",
    "export": "A package as a model of MLflow, of ONNX, or a scikit-learn estimator.",
    "deploy": "Dockerfile and manifests of Kubernetes, Istio and KServe for a package.",
    "rollout": "Let a version go live step by step, and take it back by itself.",
    "models": "The registry: names, versions and aliases of packages; promote, roll back.",
}


class Verbs(click.Group):
    """Loads a verb from `shardwise.cli.<verb>`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in VERBS:
            return None
        command = importlib.import_module(f"shardwise.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS:
            raise click.UsageError(f"there is no verb {args[0]!r}. {nearest(args[0], VERBS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(shardwise.__version__, prog_name="shardwise")
def group() -> None:
    """Machine learning on data bigger than memory.

    One command, with hard ceilings on memory and time; one artefact that predicts the same everywhere.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point. Exit codes: 0 done, 1 the answer is no, 2 bad input, 3 ceiling reached with nothing to show, or
    before a package was registered."""
    startup.claim()
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error is told in one paragraph on standard error."""
    try:
        with kept_signals():  # this process is the command: what stops its run has done its work
            result = group.main(args=arguments, prog_name="shardwise", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "shardwise"
        return _tell(f"{error.format_message()} See {where} --help.", 2)
    except (KeyboardInterrupt, click.Abort):
        return _tell("stopped at once; the same command goes on.", 130)
    except BrokenPipeError:
        return 0
    except ShardwiseError as error:
        return _tell(str(error), error.exit_code)
    except (OSError, MemoryError) as error:
        mapped = foreign(error)
        return _tell(str(mapped), mapped.exit_code)
    except Exception:
        traceback.print_exc()
        return _tell("this is a defect of shardwise, please report it with the lines above.", 70)


def _tell(text: str, code: int) -> int:
    print(f"shardwise: {' '.join(text.split())}", file=sys.stderr)
    return code


@contextlib.contextmanager
def chatter_to_stderr() -> Iterator[None]:
    """What libraries print while a command works goes to standard error: standard output is for the answer alone."""
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells of lost machines there, from a thread of its own
        yield


def print_json(content: Any, file: TextIO | None = None) -> None:
    """One JSON object on standard output, or in `file`; what is not finite becomes null."""
    print(json.dumps(finite(content), ensure_ascii=False, default=str), file=file)
