"""Text files as streams of UTF-8 blocks that hold whole records: decompression, encodings, byte ranges.

A file can be read from the middle when it is not compressed and a line break is one byte in its encoding (UTF-8, ASCII
and all one-byte encodings); any other is read from its beginning, as one partition, and still in bounded memory.
"""

import codecs
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from shardwise.core.errors import DataError
from shardwise.data.places import File, open_file

CHUNK_BYTES = 4 << 20
MAX_RECORD_BYTES = 64 << 20
_HEAD_BYTES = 1 << 18
_CODECS = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4"))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """How the bytes of a file become UTF-8: `codec` decompresses, `encoding` decodes; its mark is `skip_bytes` long."""

    path: str
    size_bytes: int
    codec: str | None
    encoding: str
    skip_bytes: int
    storage: Mapping[str, object]

    @property
    def is_utf8(self) -> bool:
        return self.encoding == "utf-8"

    @property
    def is_seekable(self) -> bool:
        return self.codec is None and (self.is_utf8 or _is_one_byte(self.encoding))

    def stored(self, start: int, stop: int, chunk_bytes: int = CHUNK_BYTES) -> Generator[bytes, None, None]:
        """The bytes from `start` to `stop` as they are; of a file that is not seekable, all of it, decompressed."""
        with open_file(self.path, self.storage) as raw:
            if self.codec is not None:
                yield from _decompressed(raw, self.codec, self.path, chunk_bytes)
                return
            raw.seek(start if self.is_seekable else 0)
            yield from _chunks(raw, stop - start if self.is_seekable else None, chunk_bytes)

    def decoded(self, start: int, stop: int, chunk_bytes: int = CHUNK_BYTES) -> Generator[bytes, None, None]:
        """The same as UTF-8; raises `UnicodeDecodeError`."""
        chunks = self.stored(start, stop, chunk_bytes)
        return chunks if self.is_utf8 else _transcode(chunks, self.encoding)


def open_text(file: File, encoding: str, storage: Mapping[str, object]) -> TextFile:
    """Look at the first bytes of a file: its compression, and a byte order mark, which wins over `encoding`."""
    with open_file(file.path, storage) as raw:
        magic = raw.read(4)
        codec = next((name for start, name in _CODECS if magic.startswith(start)), None)
        if codec is not None:
            raw.seek(0)
            with closing(_decompressed(raw, codec, file.path, _HEAD_BYTES)) as chunks:
                magic = next(chunks, b"")[:4]
    name = codecs.lookup(encoding).name
    mark, marked = next(((mark, name) for mark, name in _MARKS if magic.startswith(mark)), (b"", None))
    chosen = marked or ("utf-8" if name == "utf-8-sig" else name)
    skip = len(mark) if chosen == "utf-8" else 0
    return TextFile(
        path=file.path, size_bytes=file.size_bytes, codec=codec, encoding=chosen, skip_bytes=skip, storage=storage
    )


def head(text: TextFile, is_whole: Callable[[bytes], bool]) -> bytes:
    """The first bytes of `text` behind its mark, at least as many as `is_whole` asks for; all where there are no more.

    Stored bytes of a seekable file, UTF-8 of any other.
    """
    size = text.size_bytes
    chunks = text.stored(0, size, _HEAD_BYTES) if text.is_seekable else text.decoded(0, size, _HEAD_BYTES)
    content = b""
    with closing(chunks):
        for chunk in chunks:
            content += chunk
            if is_whole(content[text.skip_bytes :]) or len(content) > MAX_RECORD_BYTES:
                break
    return content[text.skip_bytes :]


def blocks(
    chunks: Iterable[bytes], last_end: Callable[[bytes], int], check_tail: Callable[[bytes], None]
) -> Generator[bytes, None, None]:
    """Regroup chunks into blocks of whole records.

    `last_end` is the length of the whole records in some bytes; `check_tail` looks at what is left at the end.
    """
    rest = b""
    for chunk in chunks:
        content = rest + chunk if rest else chunk
        end = last_end(content)
        if end:
            yield content if end == len(content) else content[:end]
        rest = content[end:]
        if len(rest) > MAX_RECORD_BYTES:
            raise DataError(
                f"a record is longer than {MAX_RECORD_BYTES >> 20} MiB",
                hint="A quote that is never closed makes all that follows one cell; look for it.",
            )
    if rest:
        check_tail(rest)
        yield rest


def skip(chunks: Iterable[bytes], count: int) -> Generator[bytes, None, None]:
    """The chunks without their first `count` bytes."""
    for chunk in chunks:
        taken = min(count, len(chunk))
        count -= taken
        if taken < len(chunk):
            yield chunk[taken:] if taken else chunk


def _chunks(stream: pa.NativeFile, total: int | None, chunk_bytes: int) -> Generator[bytes, None, None]:
    left = total
    while left is None or left > 0:
        chunk = stream.read(chunk_bytes if left is None else min(chunk_bytes, left))
        if not chunk:
            return
        if left is not None:
            left -= len(chunk)
        yield chunk


def _decompressed(raw: pa.NativeFile, codec: str, path: str, chunk_bytes: int) -> Generator[bytes, None, None]:
    try:
        with pa.CompressedInputStream(raw, codec) as stream:
            yield from _chunks(stream, None, chunk_bytes)
    except OSError as error:
        if error.errno is not None:
            raise
        said = str(error).splitlines()[0]
        hint = f"The {codec} file is damaged or was not written to its end; write it again."
        raise DataError(f"it cannot be decompressed: {said}", hint=hint, path=path) from error


def _transcode(chunks: Generator[bytes, None, None], encoding: str) -> Generator[bytes, None, None]:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    with closing(chunks):
        for chunk in chunks:
            if text := decoder.decode(chunk).encode():
                yield text
    if text := decoder.decode(b"", final=True).encode():
        yield text


def _is_one_byte(encoding: str) -> bool:
    """Whether each byte is a character of its own, and the first 128 are ASCII."""
    text = bytes(range(256)).decode(encoding, errors="replace")
    return len(text) == 256 and text[:128].isascii() and text[:128].encode() == bytes(range(128))
