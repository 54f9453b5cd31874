"""A package as bytes: a zip file that goes where a folder cannot, such as into a pickle."""

import io
import zipfile
from pathlib import Path

from shardwise.core.errors import PackageError
from shardwise.store.files import list_files


def pack(folder: Path) -> bytes:
    """The files of a folder as a zip file; the same files give the same bytes, since it tells no time."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in list_files(folder):
            archive.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """Write the files of `pack` into a folder; raises `PackageError` for bytes that are something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise PackageError("these bytes are no package", hint="Fit again, or load another pickle.") from error
