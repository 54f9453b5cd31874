"""New files of a dataset take the place of old ones in one step, and a kill at any instant leaves the one or the other.

    1. the names of the new files are noted in `.shardwise.pending`
    2. they are synchronised and moved into the folder, where no reader looks for them yet
    3. the manifest is replaced: from here on the new files count
    4. files that it does not name any more are removed, and the note

`recover` ends what a dead process began: files that are noted and not named by the manifest are removed.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shardwise.core.errors import DataError, context
from shardwise.data.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from shardwise.store.files import remove_leftovers, sync, write_atomic

PENDING_NAME = ".shardwise.pending"
SCRATCH_NAME = "shuffle"
_THREADS = 8  # waiting for the disk


def commit(folder: Path, scratch: Path, manifest: Manifest, old: Sequence[str]) -> None:
    """Move the files that are in `scratch` into `folder`, and replace the manifest; `old` files are of no use then."""
    named = {file.path for file in manifest.files}
    new = sorted(path.name for path in scratch.iterdir() if path.name in named)
    with context(path=str(folder)):
        write_atomic(folder / PENDING_NAME, json.dumps({"files": sorted({*new, *old})}).encode())
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(sync, [scratch / name for name in new]))
        for name in new:
            (scratch / name).rename(folder / name)
        sync(folder)
        write_manifest(folder, manifest)
        recover(folder)


def recover(folder: Path) -> None:
    """Remove what a dead writer left: the caller holds the lock of the folder."""
    remove_leftovers(folder, SCRATCH_NAME)
    note = folder / PENDING_NAME
    if not note.exists():
        return
    manifest = read_manifest(folder)
    named = {file.path for file in manifest.files} if manifest else set()
    for name in json.loads(note.read_bytes())["files"]:
        if name not in named:
            (folder / name).unlink(missing_ok=True)
    sync(folder)
    note.unlink()


def check_free(folder: Path) -> None:
    """Raise `DataError` for a folder that holds something and is no dataset of ours."""
    if folder.exists() and not folder.is_dir():
        raise DataError("a file stands where a folder is to be written", hint="Choose another name.", path=str(folder))
    if not folder.is_dir() or (folder / MANIFEST_NAME).exists() or (folder / PENDING_NAME).exists():
        return
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if found:
        raise DataError(
            f"the folder is not empty, and no dataset that shardwise partitioned: it holds {found[0]!r}",
            hint="Choose another folder, or empty this one.", path=str(folder),
        )  # fmt: skip
