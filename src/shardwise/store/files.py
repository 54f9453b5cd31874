"""Files and folders that appear whole or not at all, survive a kill at any instant, and are hashed by content.

A file is written under a temporary name in its own folder, synchronised, renamed; a folder likewise, and where one
stands already the two names are exchanged in one system call (`renameat2` with `RENAME_EXCHANGE`, Linux), so that the
path is never without a whole folder. File systems that cannot exchange (NFS, some network mounts) get two renames; a
kill between them leaves the old folder under `.NAME.aside`, where `standing_folder` finds it.

Temporary names are `.NAME.TOKEN.tmp`. Whoever writes one holds a kernel lock on it, which ends with the process:
`remove_leftovers` removes those that nobody holds.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shardwise.core.errors import DataError, context

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_CANNOT_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
CANNOT_LINK = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
_CANNOT_SYNC = {errno.EINVAL, errno.EOPNOTSUPP}  # some network file systems have no fsync of folders


def write_atomic(path: Path, content: bytes) -> None:
    """Write or replace a file, durably: a reader sees the old content or the new; raises `DiskFull`, `DataError`."""
    with staged_file(path) as temp:
        temp.write_bytes(content)


def create_atomic(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet, durably and whole; False where one stands: of several writers one wins.

    Raises `DiskFull`, and `DataError` on a file system that can neither link nor rename without replacing.
    """
    with context(path=str(path)):
        make_folder(path.parent)
        temp, lock = _create(path, folder=False)
        try:
            temp.write_bytes(content)
            _sync(temp)
            created = _appear(temp, path)
            _sync(path.parent)
            return created
        finally:
            temp.unlink(missing_ok=True)
            os.close(lock)


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """An empty temporary file to write to; when the block ends well it becomes `path`, otherwise it is removed."""
    final = Path(os.path.realpath(path))
    with context(path=str(path)):
        if final.is_dir():
            raise DataError("a folder was given where a file is needed", hint="Give the path of a file.")
        make_folder(final.parent)
        temp, lock = _create(final, folder=False)
        try:
            yield temp
            _sync(temp)
            temp.replace(final)
            _sync(final.parent)
        finally:
            temp.unlink(missing_ok=True)
            os.close(lock)


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder to fill; when the block ends well it becomes `path`, otherwise it is removed."""
    final = Path(os.path.realpath(path))
    with context(path=str(path)):
        make_folder(final.parent)
        remove_leftovers(final.parent, final.name)
        temp, lock = _create(final, folder=True)
        try:
            yield temp
            replace_folder(temp, final)
        finally:
            shutil.rmtree(temp, ignore_errors=True)  # what stays here is a leftover, which the next one removes
            os.close(lock)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder inside `parent` that is removed in the end; those that dead processes left are removed first."""
    with context(path=str(parent)):
        make_folder(parent)
        remove_leftovers(parent, name)
        temp, lock = _create(parent / name, folder=True)
    try:
        yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)
        os.close(lock)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    _sync(path)


def replace_folder(temp: Path, final: Path) -> None:
    """Put the folder `temp` in the place of `final`, durably and in one step; what stood there is removed.

    Both must lie on one file system. A reader that opens `final` by its path finds the old folder or the new one.
    """
    if final.exists() and not final.is_dir():
        raise DataError("a file stands where a folder is to be written", hint="Choose another name.", path=str(final))
    with context(path=str(final)):
        _restore_aside(final)
        _sync_tree(temp)
        if not final.exists():
            temp.rename(final)
        elif not _exchange(temp, final):
            _swap_by_two_renames(temp, final)
        _sync(final.parent)
        shutil.rmtree(temp, ignore_errors=True)  # the old content now; a leftover if this fails


def remove_folder(folder: Path) -> None:
    """Remove a folder in one step, if it is there: a kill leaves it whole, or gone.

    What it held lies under `.NAME.gone` meanwhile; what a killed process left there is removed by the next one.
    """
    gone = folder.with_name(f".{folder.name.lstrip('.')}.gone")
    if gone.exists():
        shutil.rmtree(gone)
    if folder.exists():
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)  # what a file system keeps for who has it open goes with the next one


def standing_folder(final: Path) -> Path:
    """Where the folder `final` stands: its own path, or aside after a kill between two renames (see the module)."""
    return _aside(final) if not final.exists() and _aside(final).is_dir() else final


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; raises `DataError` where a file stands in the way."""
    with context(path=str(folder)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove temporary files and folders of dead processes in `folder`: those made for `name`, or all."""
    pattern = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.[0-9a-f]{{12}}\.tmp")
    if folder.is_dir():
        for leftover in sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name)):
            _remove_unheld(leftover)


def hash_file(path: Path) -> str:
    """SHA-256 of the content, in hexadecimal."""
    with context(path=str(path)), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> str:
    """SHA-256 over the sorted relative paths and contents of all files; raises `DataError` for links and devices."""
    digest = hashlib.sha256()
    for path in list_files(folder):
        digest.update(f"{path}\0{hash_file(folder / path)}\n".encode())
    return digest.hexdigest()


def list_files(folder: Path) -> list[str]:
    """Relative paths with `/` of all files in `folder`, sorted; raises `DataError` for links and devices."""
    found = []
    with context(path=str(folder)):
        for path in folder.rglob("*"):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise DataError("only files and folders are expected, no links or devices", path=str(path))
            if path.is_file():
                found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def _create(final: Path, *, folder: bool) -> tuple[Path, int]:
    """A new temporary file or folder beside `final`, and the descriptor that holds its lock."""
    while True:
        temp = final.with_name(f".{final.name}.{secrets.token_hex(6)}.tmp")
        if folder:
            temp.mkdir()
        else:
            temp.touch(exist_ok=False)
        lock = _try_lock(temp)
        if lock is not None:
            return temp, lock


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of `path`; None when somebody else holds it, or it has just been removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _remove_unheld(path: Path) -> None:
    lock = _try_lock(path)
    if lock is None:
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    os.close(lock)


def _appear(temp: Path, final: Path) -> bool:
    """Give a file the name `final`; False where something has it."""
    try:
        os.link(temp, final)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in CANNOT_LINK:
            raise
        return _rename_new(temp, final)
    return True


def _rename_new(temp: Path, final: Path) -> bool:
    """`_appear` for file systems without hard links."""
    code = _rename(temp, final, _RENAME_NOREPLACE)
    if code in _CANNOT_EXCHANGE:
        message = "this file system can neither link a file nor rename it without replacing another"
        raise DataError(message, hint="Choose a folder on another file system, or an object store.")
    if code not in (0, errno.EEXIST):
        raise OSError(code, os.strerror(code), str(final))
    return code == 0


def _exchange(temp: Path, final: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    code = _rename(temp, final, _RENAME_EXCHANGE)
    if code and code not in _CANNOT_EXCHANGE:
        raise OSError(code, os.strerror(code), str(final))
    return code == 0


def _rename(temp: Path, final: Path, flags: int) -> int:
    """Linux's `renameat2`: 0, or the number of the error."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return errno.ENOSYS
    done = call(_AT_FDCWD, os.fsencode(temp), _AT_FDCWD, os.fsencode(final), flags) == 0
    return 0 if done else ctypes.get_errno()


def _swap_by_two_renames(temp: Path, final: Path) -> None:
    final.rename(_aside(final))
    temp.rename(final)
    _sync(final.parent)
    shutil.rmtree(_aside(final), ignore_errors=True)


def _restore_aside(final: Path) -> None:
    """After a kill between the two renames the old folder goes back to its place; after them it is removed."""
    if not _aside(final).exists():
        return
    if final.exists():
        shutil.rmtree(_aside(final))
    else:
        _aside(final).rename(final)


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.aside")


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            _sync(Path(place, name))
        _sync(Path(place))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; what is removed meanwhile does not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            status = path.lstat()
            total += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return total
