"""The manifest of a package: what it is, what it expects, and the hash of every file in it."""

import hashlib
import json
import math
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.errors import DataError, PackageError, context
from shardwise.core.schema import schema_from_json, schema_to_json
from shardwise.core.target import Target
from shardwise.ensemble.stack import Stack
from shardwise.models.saved import HEADER as MODEL
from shardwise.registry.golden import PREDICTIONS, ROWS
from shardwise.store.files import hash_file, list_files

FORMAT = "shardwise-package"
FORMAT_VERSION = 2
MEAN_VERSION = 1  # of a package whose answers are the mean of its members, which earlier versions can read too
NAME = "manifest.json"
RECIPE = "recipe"
PROFILE = "profile/profile"
ANSWERS = "answers"  # optional: what is made of the models' mean
REQUIRED = (*(f"{name}.{kind}" for name in (RECIPE, PROFILE) for kind in ("json", "arrays")), ROWS, PREDICTIONS)
_LIBRARIES = ("lightgbm", "numpy", "pyarrow", "scikit-learn", "shardwise")
_OF_FAMILIES = frozenset({"catboost"})  # families that answer through a library of the same name
_RETRAIN = "Copy the package again, or train it anew."


@dataclass(frozen=True, kw_only=True)
class MemberEntry:
    """A model of the package: its folder, its family, and its weight in the mean."""

    folder: str
    family: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`.

    inputs     columns that a batch must have, with the types of the training data
    metrics    `test`: `{name: {"value", "low", "high"}}` on the sealed test; `valid`: `{name: value}` out of fold
    lineage    hashes of what the package was made from
    stack      how the members' answers become one (`ensemble.stack.Stack`); None: their weighted mean
    libraries  versions with which it was made
    files      SHA-256 of each file, by relative path
    """

    target: Target
    inputs: pa.Schema
    members: tuple[MemberEntry, ...]
    metrics: Mapping[str, Any]
    lineage: Mapping[str, Any]
    libraries: Mapping[str, str]
    files: Mapping[str, str]
    stack: Stack | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def _is_more_than_a_mean(self) -> bool:
        return bool(self.target.decision) or self.stack is not None or f"{ANSWERS}.json" in self.files

    def to_bytes(self) -> bytes:
        """Readable JSON, the same bytes for the same content; NaN and infinities are written as null.

        `seal` is the hash of all other fields.
        """
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION if self._is_more_than_a_mean else MEAN_VERSION,
            "task": self.target.task.value,
            "target": self.target.to_json(),
            "inputs": schema_to_json(self.inputs),
            "members": [vars(member) for member in self.members],
            "metrics": self.metrics,
            "lineage": self.lineage,
            "libraries": self.libraries,
            "files": self.files,
            "extra": self.extra,
        }
        if self.stack is not None:
            content["stack"] = self.stack.to_json()
        plain = _plain(content)
        return _dump({**plain, "seal": seal_of(plain)})

    @classmethod
    def from_bytes(cls, content: bytes) -> "Manifest":
        """Inverse of `to_bytes`; raises `PackageError` for another format, a newer version, or damage."""
        try:
            fields = json.loads(content)
            _check_version(fields)
            if fields.pop("seal") != seal_of(fields):
                raise PackageError(f"{NAME} has been changed or damaged", hint=_RETRAIN)
            return cls(
                target=Target.from_json(fields["target"]),
                inputs=schema_from_json(fields["inputs"]),
                members=tuple(MemberEntry(**member) for member in fields["members"]),
                stack=Stack.from_json(fields["stack"]) if "stack" in fields else None,
                **{name: fields[name] for name in ("metrics", "lineage", "libraries", "files", "extra")},
            )
        except PackageError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
            raise PackageError(f"{NAME} is damaged", hint=_RETRAIN) from error

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of the package in `folder`; raises `PackageError` when there is none."""
        hint = "Give the folder that `shardwise train ... --out FOLDER` wrote."
        if not folder.exists():
            raise PackageError("there is no such folder", hint=hint)
        if not (folder / NAME).is_file():
            raise PackageError(f"this is no package: it has no {NAME}", hint=hint)
        with context(path=str(folder / NAME)):
            return cls.from_bytes((folder / NAME).read_bytes())

    def check(self, folder: Path) -> None:
        """All files must be as they were sealed, and models have no others; raises `PackageError` naming the file."""
        unsealed = sorted({*REQUIRED, *(f"{member.folder}/{MODEL}" for member in self.members)} - set(self.files))
        if unsealed or not self.members or (self.stack and len(self.stack.groups) != len(self.members)):
            raise PackageError(f"{NAME} does not name {unsealed or 'a model'}", hint=_RETRAIN)
        self.check_files(folder, sorted(self.files))
        for member in self.members:
            check_inside(folder, member.folder)
            self._check_complete(folder, member.folder)

    def check_files(self, folder: Path, paths: Sequence[str]) -> None:
        """Files must lie in the folder, be plain files and have their hashes; raises `PackageError` naming one."""
        for path in paths:
            check_inside(folder, path)
            if not (folder / path).is_file():
                raise PackageError(f"the file {path!r} of the package is missing", hint=_RETRAIN)
            if hash_file(folder / path) != self.files.get(path):
                raise PackageError(f"the file {path!r} of the package has been changed or damaged", hint=_RETRAIN)

    def _check_complete(self, folder: Path, model: str) -> None:
        """A model's folder holds nothing that was not sealed."""
        for path in list_files(folder / model):
            if f"{model}/{path}" not in self.files:
                raise PackageError(f"the file {model}/{path!r} does not belong to the package", hint=_RETRAIN)


def seal_of(fields: Mapping[str, Any]) -> str:
    """SHA-256 over all fields of a manifest but the seal."""
    return hashlib.sha256(_dump(fields)).hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a package, without its manifest."""
    return {path: hash_file(folder / path) for path in list_files(folder) if path != NAME}


def libraries(families: Collection[str] = ()) -> dict[str, str]:
    """Versions of what a prediction of models of these families depends on; what is not installed is left out."""
    names = [*_LIBRARIES, *(name for name in sorted(_OF_FAMILIES & set(families)) if find_spec(name))]
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def _check_version(fields: Mapping[str, Any]) -> None:
    if fields["format"] != FORMAT:
        raise PackageError("this is no package of shardwise")
    if fields["version"] > FORMAT_VERSION:
        message = f"the package has format version {fields['version']}, this shardwise reads up to {FORMAT_VERSION}"
        raise PackageError(message, hint="Upgrade shardwise: pip install --upgrade shardwise.")


def check_inside(folder: Path, path: str) -> None:
    """Raise `PackageError` where a path of the manifest would leave the folder, or a link leads out of it."""
    parts = PurePosixPath(path)
    if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\\" in path or "\0" in path:
        raise PackageError(f"the manifest names the path {path!r}, which is not allowed", hint=_RETRAIN)
    place = folder
    for part in parts.parts:
        place = place / part
        if place.is_symlink():
            raise PackageError(f"{path!r} is a link; a package holds plain files only", hint=_RETRAIN)


def _plain(value: Any) -> Any:
    """JSON values alone; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
