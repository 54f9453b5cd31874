"""A name of the registry mirrored into MLflow's: every version as a model of MLflow, with its aliases, tags and note.

The registry stays the truth; the mirror is for those whose tools read MLflow's. Doing it again adds what is missing,
changes what is different, and touches nothing else. Of each version there is

    a run           in the experiment `shardwise/NAME`: params, metrics; in `model` what `deploy.mlflow_model` writes
    a version       of the registered model, whose source is that folder; MLflow numbers it, a tag tells our number

A copy is taken for ours where number and hash of the package are those here, and what lies at its source names the same
package. A model that is not the mirror of this very name is refused. A run that was broken off is never a source.
MLflow moves one alias at a time, so that for an instant champion and previous can be the same version.
"""

import json
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from mlflow.entities import Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from shardwise.core.errors import ConfigError, context
from shardwise.deploy import mlflow_words as words
from shardwise.deploy.mlflow_model import MODEL, write_mlflow
from shardwise.registry.registry import Registry, split_reference
from shardwise.registry.versions import NameState, Version

FOLDER = "model"  # of a run's artifacts
_WAIT_S = 5.0  # to be let in, and for the first answer
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_MISSING, _INVALID = "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"


@dataclass(frozen=True, kw_only=True)
class MirrorConfig:
    """Where to: MLflow's tracking URI (`http://host:5000`, `sqlite:////srv/mlflow.db`).

    model        its name there, else the same
    experiment   that holds the runs, else `shardwise/NAME`
    artifacts    where a new experiment keeps its files, else where MLflow has it by default
    prune        delete there what was deleted here
    """

    uri: str
    model: str | None = None
    experiment: str | None = None
    artifacts: str | None = None
    prune: bool = False


@dataclass(kw_only=True)
class Mirrored:
    """What was found and done. `versions`: of each number here the number there; `gone`: those that were deleted here,
    and `foreign`: those that are not ours, by their number there; `left_out`: what does not go there, and why."""

    name: str
    model: str
    versions: dict[int, int] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    added: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    gone: dict[int, int] = field(default_factory=dict)
    pruned: bool = False
    foreign: list[int] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def mirror(registry: Registry, reference: str, config: MirrorConfig) -> Mirrored:
    """Bring all versions of `NAME`, or that of `NAME@3` or `NAME@champion`, to MLflow.

    Raises `ConfigError` where MLflow cannot be reached or says no, and for a model there that is not this mirror;
    `PackageError` for a package that is damaged.
    """
    name, _ = split_reference(reference)
    state = registry.state(name)
    chosen = [registry.version(reference)] if "@" in reference else registry.versions(name)
    with _told(config.uri):
        _reach(config.uri)
        return _Mirror(registry, state, config, Mirrored(name=name, model=config.model or name)).bring(chosen)


class _Mirror:
    """The mirror of a name, and what was done to it so far."""

    def __init__(self, registry: Registry, state: NameState, config: MirrorConfig, done: Mirrored) -> None:
        self.registry, self.state, self.config, self.done = registry, state, config, done
        self.client = MlflowClient(tracking_uri=config.uri, registry_uri=config.uri)
        self.origin = registry.origin(done.name)
        self.model = done.model

    def bring(self, chosen: list[Version]) -> Mirrored:
        model = self._claimed()
        copies = self._copies()
        for version in chosen:
            copy = copies.get(version.number)
            if copy is not None and not self._is_whole(copy.run_id, version):
                self.client.delete_model_version(self.model, copy.version)
                copy = None
            if copy is None:
                copy = self._added(version)
                self.done.added.append(version.number)
            self._describe(copy, version)
            self.done.versions[version.number] = int(copy.version)
        others = {number: int(copy.version) for number, copy in copies.items() if number in self.state.versions}
        self._point({**others, **self.done.versions}, model.aliases, model.tags.get(words.ALIASES))
        for number, place in sorted(self.done.gone.items()):
            self._tell_gone(copies[number], place)
        return self.done

    def _claimed(self) -> Any:
        """The registered model, made where there is none; raises `ConfigError` where it is somebody else's."""
        try:
            found = self.client.get_registered_model(self.model)
        except MlflowException as error:
            if error.error_code != _MISSING:
                raise
            told = f"Mirror of {self.done.name} in shardwise's registry {self.registry.place}: change it there."
            found = self.client.create_registered_model(self.model, {words.ORIGIN: self.origin}, told)
        if found.tags.get(words.ORIGIN) != self.origin:
            message = f"the model {self.model!r} is there, and is not the mirror of {self.done.name!r} in this registry"
            raise ConfigError(message, hint="Mirror it under another name: --as NAME.")
        return found

    def _copies(self) -> dict[int, ModelVersion]:
        """Versions there that are copies of ours, by our number; the others are told."""
        found: dict[int, ModelVersion] = {}
        for copy in sorted(self._all_versions(), key=lambda version: int(version.version)):
            number = copy.tags.get(words.VERSION, "")
            known = self.state.versions.get(int(number)) if number.isdecimal() else None
            gone = known is None and number.isdecimal() and int(number) <= self.state.last
            if gone or (known is not None and copy.tags.get(words.PACKAGE) == known.hash):
                found.setdefault(int(number), copy)
            else:
                self.done.foreign.append(int(copy.version))
        self.done.gone = {n: int(copy.version) for n, copy in found.items() if n not in self.state.versions}
        return found

    def _all_versions(self) -> Iterator[ModelVersion]:
        token = None
        while True:
            page = self.client.search_model_versions(f"name = '{self.model}'", page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _is_whole(self, run_id: str | None, version: Version) -> bool:
        """Whether the files of a run are there, and say that they are this package."""
        if run_id is None:
            return False
        try:
            names = [item.path for item in self.client.list_artifacts(run_id, FOLDER)]
            if f"{FOLDER}/{MODEL}" not in names:
                return False
            with tempfile.TemporaryDirectory() as temp:
                path = self.client.download_artifacts(run_id, f"{FOLDER}/{MODEL}", temp)
                content = yaml.safe_load(Path(path).read_text(encoding="utf8"))
        except MlflowException as error:
            if error.error_code == _MISSING:
                return False
            raise
        except yaml.YAMLError:
            return False
        return isinstance(content, dict) and (content.get("metadata") or {}).get("package") == version.hash

    # -- writing -----------------------------------------------------------------------------------------------------

    def _added(self, version: Version) -> ModelVersion:
        experiment = self._experiment()
        run = self._finished_run(experiment, version) or self._uploaded(experiment, version)
        facts = {**words.facts_of(version), words.TAGS: "[]"}
        return self.client.create_model_version(
            self.model, f"{run.info.artifact_uri}/{FOLDER}", run.info.run_id, facts, description=version.note
        )

    def _experiment(self) -> str:
        name = self.config.experiment or f"shardwise/{self.model}"
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return str(self.client.create_experiment(name, self.config.artifacts))
        if found.lifecycle_stage != "active":
            raise ConfigError(f"the experiment {name!r} was deleted there", hint="Restore it, or give --experiment.")
        return str(found.experiment_id)

    def _finished_run(self, experiment: str, version: Version) -> Any:
        """A run that holds all files of a version, of which somebody was stopped before he made it one."""
        query = (f"tags.`{words.PACKAGE}` = '{version.hash}' and tags.`{words.ORIGIN}` = '{self.origin}' "
                 f"and tags.`{words.VERSION}` = '{version.number}' and attributes.status = 'FINISHED'")  # fmt: skip
        runs = self.client.search_runs([experiment], query, max_results=10)
        return next((run for run in runs if self._is_whole(run.info.run_id, version)), None)

    def _uploaded(self, experiment: str, version: Version) -> Any:
        tags = {words.ORIGIN: self.origin, words.PACKAGE: version.hash, words.VERSION: str(version.number),
                "mlflow.source.name": "shardwise models mirror"}  # fmt: skip
        run = self.client.create_run(experiment, tags=tags, run_name=version.reference)
        with tempfile.TemporaryDirectory() as temp:
            write_mlflow(self.registry.load(version), Path(temp) / FOLDER)
            self.client.log_artifacts(run.info.run_id, str(Path(temp) / FOLDER), FOLDER)
        now = time.time_ns() // 1_000_000
        metrics = [Metric(name, value, now, 0) for name, value in words.metrics_of(version).items()]
        params = [Param(name, text) for name, text in words.params_of(version).items()]
        self.client.log_batch(run.info.run_id, metrics, params)
        self.client.set_terminated(run.info.run_id)
        return run

    def _describe(self, copy: ModelVersion, version: Version) -> None:
        """Tags and note of a copy become those of the version."""
        wanted, seen = words.tags_of(version), dict(copy.tags)
        changed = False
        for key in words.stale_tags(seen, wanted):
            self.client.delete_model_version_tag(self.model, copy.version, key)
            changed = True
        for key in sorted(wanted, key=lambda key: key != words.TAGS):  # what is ours is told before it is there
            if seen.get(key) != wanted[key]:
                with self._refusable(f"the tag {key!r} of {version.reference}"):
                    self.client.set_model_version_tag(self.model, copy.version, key, wanted[key])
                    changed = True
        if (copy.description or "") != version.note:
            self.client.update_model_version(self.model, copy.version, version.note)
            changed = True
        if changed and version.number not in self.done.added:
            self.done.changed.append(version.number)

    def _point(self, places: Mapping[int, int], seen: Mapping[str, Any], before: str | None) -> None:
        """Aliases there point where they point here; one whose version is not there points at nothing."""
        wanted = {alias: places[number] for alias, number in self.state.aliases.items() if number in places}
        absent = {alias for alias in self.state.aliases if alias not in wanted}
        self._tell_model(words.ALIASES, json.dumps(sorted({*wanted, *absent})), before)
        for alias in sorted({*words.stale_aliases(seen, before, self.state), *(absent & set(seen))}):
            self.client.delete_registered_model_alias(self.model, alias)
        for alias, place in wanted.items():
            with self._refusable(f"the alias {alias!r}"):
                if str(seen.get(alias)) != str(place):
                    self.client.set_registered_model_alias(self.model, alias, str(place))
                self.done.aliases[alias] = place
        self.done.left_out += [f"the alias {alias!r}: its version is not mirrored" for alias in sorted(absent)]

    def _tell_gone(self, copy: ModelVersion, place: int) -> None:
        if self.config.prune:
            self.client.delete_model_version(self.model, str(place))
            if copy.run_id is not None:
                self.client.delete_run(copy.run_id)
            self.done.pruned = True
        elif words.DELETED not in copy.tags:
            self.client.set_model_version_tag(self.model, str(place), words.DELETED, "true")

    def _tell_model(self, key: str, text: str, before: str | None) -> None:
        if text != before:
            self.client.set_registered_model_tag(self.model, key, text)

    @contextmanager
    def _refusable(self, what: str) -> Iterator[None]:
        """What MLflow has no words for is told, and the rest goes on."""
        try:
            yield
        except MlflowException as error:
            if error.error_code != _INVALID:
                raise
            self.done.left_out.append(f"{what}: {_first_line(error)}")


# -- is anybody there --------------------------------------------------------------------------------------------------


def _reach(uri: str) -> None:
    """Raises within some seconds where nobody answers: MLflow's own client tries for minutes."""
    parts = urlsplit(uri)
    database = parts.scheme.partition("+")[0]
    if database == "sqlite":
        _check_sqlite(Path(uri.partition(":///")[2].partition("?")[0]))
    try:
        if database in _PORTS:
            place = (parts.hostname or "localhost", parts.port or _PORTS[database])
            socket.create_connection(place, _WAIT_S).close()
        elif database in ("http", "https"):
            _ask_health(uri)
    except (MlflowException, OSError) as error:
        reason = str(error).strip().rpartition(": ")[2].rstrip("'\")")
        hint = "Is it running, and is --to its address?"
        raise ConfigError(f"nobody answers there: {reason}", hint=hint) from error


def _ask_health(uri: str) -> None:
    answer = http_request(
        get_default_host_creds(uri), "/health", "GET", max_retries=0, timeout=_WAIT_S, raise_on_status=False
    )
    if answer.status_code >= 500:
        raise ConfigError(f"the server answers {answer.status_code}", hint="Look at its log.")


def _check_sqlite(path: Path) -> None:
    """Raises where it cannot be written; folders that are not there yet are made by MLflow."""
    if not path.absolute().parent.is_dir():
        return
    try:
        with closing(sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise ConfigError(f"SQLite says: {error}", hint="Look at the file, or give another --to.") from None


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """Errors of MLflow, and of the network, as ours; none of them tells what the URI logs in with."""
    parts = urlsplit(uri)
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    place = uri.replace(login, "", 1)
    with context(mlflow=place):
        try:
            yield
        except MlflowException as error:
            text = _first_line(error).replace(login, "") if login else _first_line(error)
            needs_more = parts.scheme.partition("+")[0] in ("sqlite", *_PORTS) and not find_spec("sqlalchemy")
            hint = "For databases run: pip install mlflow." if needs_more else (
                "Give --to a tracking URI of MLflow, such as http://host:5000 or sqlite:////srv/m.db.")  # fmt: skip
            raise ConfigError(f"MLflow says: {text}", hint=hint) from error


def _first_line(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 300 else f"{text[:300]} ..."
