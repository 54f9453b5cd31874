"""The registry: names, versions and aliases of packages, in a folder or an object store, for any number of writers.

    NAME/log/00000001.json ...            what happened, an entry for each event (`registry.log`)
    NAME/packages/<hash>-<time>-<token>/  a package, as it was sealed

A package is copied first, under a name that nobody else uses, and becomes a version by an entry of the log: a version
is complete when it is seen, and a writer that is killed leaves a folder that no entry names. Loading checks the hash of
the manifest against the log, and with it every file.
"""

import getpass
import os
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shardwise.core.errors import ConfigError, PackageError, context
from shardwise.core.names import nearest
from shardwise.data.places import is_url
from shardwise.registry import versions as events
from shardwise.registry.compare import compare
from shardwise.registry.log import Decide, Log
from shardwise.registry.manifest import NAME as MANIFEST
from shardwise.registry.manifest import Manifest, check_inside
from shardwise.registry.objects import ObjectShelf
from shardwise.registry.package import Package, load_package, package_hash
from shardwise.registry.shelf import FolderShelf, Shelf
from shardwise.registry.versions import CHALLENGER, CHAMPION, NameState, Version, check_alias, check_name
from shardwise.store.files import folder_bytes, hash_file, staged_folder

_LEFT_S = 86_400  # after which a copied package that no entry names belongs to a dead writer
_LOG, _PACKAGES = "log", "packages"


class Registry:
    """Names and versions at `place`: a folder, or a URL that fsspec reaches with the options `storage`.

    Packages of an object store are fetched into the folder `cache`, once. Making a registry reads and writes nothing;
    reading takes no lock. `guarantee` says how far several writers are kept apart: `registry.shelf`.
    """

    def __init__(
        self, place: str | Path, *, storage: Mapping[str, object] | None = None, cache: Path | None = None
    ) -> None:
        text = str(place).removeprefix("file://")
        self.shelf: Shelf = ObjectShelf(text, storage) if is_url(text) else FolderShelf(Path(text).expanduser())
        self.cache = cache or _default_cache()

    @property
    def place(self) -> str:
        return self.shelf.place

    @property
    def guarantee(self) -> str:
        """`atomic`, or `lease` where the store cannot decide between writers: see `registry.leases`."""
        return self.shelf.guarantee

    # -- reading -----------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Names that have a version, sorted."""
        return [name for name in self._folders() if self._log(name).head().state.versions]

    def state(self, name: str) -> NameState:
        """Versions and aliases of a name now; raises `ConfigError` with the nearest name where there is none."""
        state = self._log(check_name(name)).head().state
        if not state.last:
            raise self._no_name(name)
        return state

    def versions(self, name: str) -> list[Version]:
        """Versions of a name, the oldest first."""
        return sorted(self.state(name).versions.values(), key=lambda version: version.number)

    def aliases(self, name: str) -> dict[str, int]:
        """Which version each alias of a name points at."""
        return dict(self.state(name).aliases)

    def version(self, reference: str) -> Version:
        """The version of `NAME@3`, `NAME@alias`, or `NAME` (its champion); raises `ConfigError` where there is none."""
        name, which = split_reference(reference)
        return _find(self.state(name), name, which)

    def history(self, name: str, last: int | None = None) -> list[dict[str, Any]]:
        """What happened to a name: `number`, `time`, `by`, `event`, the oldest first; all of it, or the `last` ones."""
        self.state(name)
        log = self._log(name)
        keep, end = ("number", "time", "by", "event"), log.last_number()
        first = 1 if last is None else max(1, end - last + 1)
        return [{key: log.entry(number)[key] for key in keep} for number in range(first, end + 1)]

    def origin(self, name: str) -> str:
        """Tells this name from one that is spelled alike in another registry: the seal of its first entry."""
        self.state(name)
        return str(self._log(name).entry(1)["seal"])

    def folder(self, reference: str | Version) -> Path:
        """A folder with the package of a version, fetched where it lies in an object store.

        Raises `PackageError` when the manifest is not the one that was registered.
        """
        version = reference if isinstance(reference, Version) else self.version(reference)
        path = f"{version.name}/{version.folder}"
        place = self.shelf.local(path) or self._fetched(path, version)
        with context(path=str(place)):
            if package_hash(place) != version.hash:
                hint = "Restore it from a copy, or delete the version and register the package again."
                raise PackageError(f"the package is not the one that was registered as {version.reference}", hint=hint)
        return place

    def load(self, reference: str | Version) -> Package:
        """The package of a version, checked as `load_package` does."""
        return load_package(self.folder(reference))

    def diff(self, before: str, after: str) -> dict[str, Any]:
        """What differs between two versions: `registry.compare`."""
        first, second = self.version(before), self.version(after)
        told = compare(Manifest.read(self.folder(first)), self.folder(first), Manifest.read(self.folder(second)),
                       self.folder(second))  # fmt: skip
        return {"before": first.reference, "after": second.reference, "same": first.hash == second.hash, **told}

    # -- writing -----------------------------------------------------------------------------------------------------

    def register(
        self, name: str, package: str | Path, *, aliases: Iterable[str] = (), note: str = "",
        tags: Mapping[str, str] | None = None, parent: str | int | None = None, code: str | None = None,
    ) -> Version:  # fmt: skip
        """Make a package the next version of a name; aliases point at it in the same step.

        The package is loaded first, and refused when it is damaged. One that is a version of the name already stays
        that version: it is given back, with the aliases, and with the note and the tags where they are given. `parent`
        is the version that this one was made from, else the one of the package that its own lineage names; `code` the
        version of the code, else that of shardwise.
        """
        wanted = tuple(check_alias(alias) for alias in aliases)
        source = load_package(package)
        draft = self._draft(check_name(name), source, note, tags or {})
        known = self._known(draft)
        if known is None:
            made_from = source.manifest.lineage.get("parent")
            older = self._parent(name, parent, made_from)
            lineage = {**draft.lineage, "code": code or source.manifest.libraries.get("shardwise"), "parent": older,
                       **({} if made_from is None else {"parent_package": made_from})}  # fmt: skip
            known = self._add(replace(draft, lineage=lineage), source.folder, wanted)
        if known.folder == draft.folder:
            return known
        return self._again(known, wanted, note, tags)

    def describe(self, reference: str, *, note: str | None = None, tags: Mapping[str, str] | None = None) -> Version:
        """Replace the note, add tags; an empty tag is removed."""
        name, which = split_reference(reference)

        def decide(state: NameState) -> events.Event | None:
            version = _find(state, name, which)
            merged = {key: text for key, text in {**version.tags, **(tags or {})}.items() if text}
            told = version.note if note is None else note
            same = (told, merged) == (version.note, dict(version.tags))
            return None if same else events.described(version.number, told, merged)

        return _find(self.commit(name, decide), name, which)

    def promote(self, reference: str, alias: str = CHAMPION, *, expect: int | None = None) -> Version:
        """Let an alias point at a version: `NAME@3`, `NAME@alias`, or `NAME` for its challenger.

        With `champion` the one before becomes `previous`, in the same step. `expect` is the version that the alias must
        point at now (0: none), so that of two who decide at once the second is told; raises `ConfigError`.
        """
        check_alias(alias)
        name, which = split_reference(reference, otherwise=CHALLENGER)

        def decide(state: NameState) -> events.Event | None:
            version = _find(state, name, which)
            _check_expected(state, name, alias, expect)
            return None if state.aliases.get(alias) == version.number else events.pointed(alias, version.number)

        state = self.commit(name, decide)
        return state.versions[state.aliases[alias]]

    def rollback(self, name: str, *, expect: int | None = None) -> Version:
        """Make the previous champion the champion again; raises `ConfigError` where there was none.

        `expect` is the version that is champion now, as in `promote`.
        """

        def decide(state: NameState) -> events.Event:
            _check_expected(state, name, CHAMPION, expect)
            if len(state.champions) < 2:
                raise ConfigError(f"{name!r} had no champion before this one", hint="Promote a version instead.")
            return events.rolled_back(state.champions[-2])

        state = self.commit(name, decide)
        return state.versions[state.champions[-1]]

    def remove_alias(self, name: str, alias: str) -> None:
        """An alias points at nothing any more; raises `ConfigError` where there is none of that name."""

        def decide(state: NameState) -> events.Event:
            if alias not in state.aliases:
                raise _no_version(state, name, alias)
            return events.unpointed(alias)

        self.commit(name, decide)

    def delete(self, reference: str) -> Version:
        """Delete a version and its files; raises `ConfigError` when an alias or a rollout needs it.

        Its number is not used again. Packages that writers left, who died more than a day ago, are removed as well.
        """
        name, which = split_reference(reference)
        gone: list[Version] = []

        def decide(state: NameState) -> events.Event:
            gone[:] = [_find(state, name, which)]
            named = state.aliases_of(gone[0].number)
            if named:
                hint = f"Point it elsewhere first, or remove it: shardwise models delete {name} --alias {named[0]}."
                raise ConfigError(f"{gone[0].reference} is {' and '.join(named)}", hint=hint)
            if state.rollout and gone[0].number in (state.rollout["candidate"], state.rollout["champion"]):
                hint = f"End the rollout first: shardwise rollout stop {name}."
                raise ConfigError(f"{gone[0].reference} takes part in a rollout", hint=hint)
            return events.deleted(gone[0].number)

        state = self.commit(name, decide)
        self.shelf.remove_folder(f"{name}/{gone[0].folder}")
        self._sweep(name, state)
        return gone[0]

    # -- how ---------------------------------------------------------------------------------------------------------

    def _log(self, name: str) -> Log:
        return Log(self.shelf, f"{name}/{_LOG}")

    def _folders(self) -> list[str]:
        return [name for name in self.shelf.names("") if events.is_name(name)]

    def commit(self, name: str, decide: Decide) -> NameState:
        """Append an event to the log of a name that is there, decided as in `Log.commit`; the state after it."""

        def checked(state: NameState) -> events.Event | None:
            if not state.last:
                raise self._no_name(name)
            return decide(state)

        return self._log(name).commit(checked, _facts())

    def _parent(self, name: str, parent: str | int | None, made_from: str | None) -> int | None:
        """The number of a version, by what was said or by the package that it was retrained from."""
        if parent is not None:
            return self.version(_of(name, parent)).number
        versions = self._log(name).head().state.versions.values()
        return next((version.number for version in versions if version.hash == made_from), None)

    def _known(self, draft: Version) -> Version | None:
        return _same(self._log(draft.name).head().state, draft)

    def _add(self, draft: Version, source: Path, aliases: tuple[str, ...]) -> Version:
        """Copy the package and make it a version; the copy goes when that fails, or somebody else has made it one."""
        path = f"{draft.name}/{draft.folder}"

        def decide(state: NameState) -> events.Event | None:
            if _same(state, draft):
                return None
            self.shelf.read(f"{path}/{MANIFEST}")
            return events.registered(replace(draft, number=state.last + 1), aliases)

        added = None
        try:
            self.shelf.add_folder(path, source)
            added = _same(self._log(draft.name).commit(decide, _facts()), draft)
        finally:
            if added is None or added.folder != draft.folder:
                self.shelf.remove_folder(path)
        assert added is not None
        return added

    def _again(self, known: Version, aliases: tuple[str, ...], note: str, tags: Mapping[str, str] | None) -> Version:
        for alias in aliases:
            self.promote(known.reference, alias)
        return self.describe(known.reference, note=note or None, tags=tags)

    def _draft(self, name: str, package: Package, note: str, tags: Mapping[str, str]) -> Version:
        manifest, now = package.manifest, time.time()
        return Version(
            name=name, number=0, hash=package.hash,
            folder=f"{_PACKAGES}/{package.hash[:12]}-{int(now):x}-{secrets.token_hex(4)}",
            created=_timestamp(now), task=manifest.target.task.value, target=manifest.target.column,
            families=tuple(sorted({member.family for member in manifest.members})), metrics=manifest.metrics,
            lineage={key: manifest.lineage.get(key) for key in ("data", "config", "rows")},
            size_bytes=folder_bytes(package.folder), note=note, tags=dict(tags),
        )  # fmt: skip

    def _fetched(self, path: str, version: Version) -> Path:
        """The package in the cache, fetched if it is not there or not whole."""
        place = self.cache / version.hash
        with context(path=f"{self.place}/{path}"):
            if not _is_whole(place, version.hash):
                with staged_folder(place) as temp:
                    self.shelf.fetch(path, [MANIFEST], temp)
                    if hash_file(temp / MANIFEST) != version.hash:
                        raise PackageError(f"the package is not the one that was registered as {version.reference}",
                                           hint="Restore it from a copy, or delete the version.")  # fmt: skip
                    names = sorted(Manifest.read(temp).files)
                    for name in names:
                        check_inside(temp, name)
                    self.shelf.fetch(path, names, temp)
        return place

    def _sweep(self, name: str, state: NameState) -> None:
        """Remove copied packages that no entry names, of writers who died more than a day ago."""
        named = {version.folder for version in state.versions.values()}
        for folder in self.shelf.names(f"{name}/{_PACKAGES}"):
            parts = folder.split("-")
            if f"{_PACKAGES}/{folder}" not in named and len(parts) == 3 and int(parts[1], 16) < time.time() - _LEFT_S:
                self.shelf.remove_folder(f"{name}/{_PACKAGES}/{folder}")

    def _no_name(self, name: str) -> ConfigError:
        known = self._folders()
        hint = nearest(name, known) if known else "It is empty: add a package with `shardwise models register`."
        return ConfigError(f"the registry has no model {name!r}", hint=hint, path=self.place)


def split_reference(text: str, otherwise: str = CHAMPION) -> tuple[str, str]:
    """The name and the version or alias of a reference.

    >>> split_reference("delays@3"), split_reference("delays")
    (('delays', '3'), ('delays', 'champion'))
    """
    name, at, which = text.partition("@")
    if at and not which:
        raise ConfigError(f"{text!r} names no version", hint=f"Write it like {name}@3 or {name}@champion.")
    return check_name(name), which or otherwise


def _check_expected(state: NameState, name: str, alias: str, expect: int | None) -> None:
    now = state.aliases.get(alias, 0)
    if expect is not None and now != expect:
        message = f"{name}@{alias} is version {now or 'none'}, and {expect or 'none'} was expected"
        raise ConfigError(message, hint="Somebody else has moved it: look at `shardwise models show`.")


def _find(state: NameState, name: str, which: str) -> Version:
    number = int(which) if which.isdecimal() else state.aliases.get(which, 0)
    if number not in state.versions:
        raise _no_version(state, name, which)
    return state.versions[number]


def _no_version(state: NameState, name: str, which: str) -> ConfigError:
    known = [*state.aliases, *map(str, sorted(state.versions))]
    hint = nearest(which, known, "There are") if known else "All its versions were deleted."
    return ConfigError(f"{name!r} has no version {which!r}", hint=hint)


def _same(state: NameState, draft: Version) -> Version | None:
    """The version that has the package of a draft."""
    return next((version for version in state.versions.values() if version.hash == draft.hash), None)


def _of(name: str, parent: str | int) -> str:
    """A parent as a reference: a number or alias alone is one of the same name."""
    text = str(parent)
    if "@" in text and text.partition("@")[0] != name:
        raise ConfigError(f"the parent {text!r} has another name than {name!r}", hint="Tell of it in a note or a tag.")
    return text if "@" in text else f"{name}@{text}"


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        Manifest.read(folder).check(folder)
        return package_hash(folder) == digest
    except PackageError:
        return False


def _facts() -> dict[str, str]:
    return {"time": _timestamp(time.time()), "by": f"{_user()}@{socket.gethostname()}"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardwise" / "packages"
