"""A forward-only byte stream: decompressed, hashed, counted and bounded while it is read.

The compression is told by the first bytes, never by a name or a media type, as Docker does.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, cast

from pycontainer.errors import ImageError

CHUNK = 1 << 18
_PIECE = 1 << 16  # bytes; what a pipe holds
# What tarfile may read for one member's headers (names, pax records, sparse maps): it holds them in memory.
MAX_HEADERS = 1 << 20
# A zstd frame may demand its window in memory, and two layers are unpacked at a time: this is what level 20 demands.
MAX_ZSTD_WINDOW = 1 << 25

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_REFUSED = {
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"LZIP": "lzip",
    b"\x1f\x9d": "compress",
}
_MAGIC_LENGTH = 6
_CORRUPT = "corrupt or truncated data"


class Hash(Protocol):
    """The part of a hashlib object that is used."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Feed `data`."""

    def hexdigest(self) -> str:
        """The digest so far."""


class Readable(Protocol):
    """Anything to read bytes from; may give fewer than asked for, and none only at the end."""

    def read(self, size: int, /) -> bytes | None:
        """Up to `size` bytes."""


class ForwardStream:
    """What tarfile reads an archive through. `name` is what errors call it; `limit` is in bytes after decompression.

    `compressed` tells whether there is anything to decompress. `hasher` is fed with what comes out of it; it may be set
    as long as nothing has been read. `total` counts what came out of it. Every method raises ImageError.
    """

    def __init__(
        self,
        source: Readable,
        name: str,
        limit: int,
        on_read: Callable[[int], None] | None = None,
    ) -> None:
        self.name = name
        self.position = 0
        self.header_bytes = 0
        self.last = b""
        self._limit = limit
        self.hasher: Hash | None = None
        self.total = 0
        self._chunk = memoryview(b"")
        raw = _Counted(source, on_read)
        self.compressed, self._reader = _decompressor(raw, name)

    def tell(self) -> int:
        """Bytes read or skipped so far."""
        return self.position

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end. For headers only: see MAX_HEADERS."""
        self.header_bytes += size
        if size < 0 or self.header_bytes > MAX_HEADERS:
            raise ImageError("read archive", self.name, f"the headers of one member exceed {MAX_HEADERS} bytes")
        if len(self._chunk) >= size:
            self.last = bytes(self._take(size))
        else:
            parts = []
            while size and (self._chunk or self._fill()):
                parts.append(bytes(self._take(size)))
                size -= len(parts[-1])
            self.last = b"".join(parts)
        return self.last

    def peek(self, size: int) -> bytes:
        """The same as `read`, and it is there to be read again."""
        if 0 <= size <= len(self._chunk):
            return bytes(self._chunk[:size])
        data = self.read(size)
        self.header_bytes -= size
        self.position -= len(data)
        self._chunk = memoryview(data + bytes(self._chunk))
        return data

    def seek(self, position: int) -> None:
        """Skip forward to `position`."""
        if position < self.position:
            raise ImageError("read archive", self.name, "a header leads backwards")
        while self.position < position:
            if not self._chunk and not self._fill():
                raise ImageError("read archive", self.name, "unexpected end of data")
            self._take(position - self.position)

    def copy(self, descriptor: int, size: int, hasher: Hash | None = None) -> None:
        """Write the next `size` bytes to `descriptor`. Raises OSError too."""
        while size:
            if not self._chunk and not self._fill():
                raise ImageError("read archive", self.name, "unexpected end of data")
            piece = self._take(size)
            size -= len(piece)
            if hasher is not None:
                hasher.update(piece)
            write_all(descriptor, piece)

    def exhaust(self) -> None:
        """Read to the end, whatever comes."""
        while self._chunk or self._fill():
            self._take(CHUNK)

    def drain(self) -> None:
        """Read to the end, so that the digest covers everything. After the last member only zero bytes may follow."""
        zeros = bytes(CHUNK)
        while self._chunk or self._fill():
            piece = self._take(CHUNK)
            if piece != zeros[: len(piece)]:
                raise ImageError("read archive", self.name, "garbage after the end of the archive")

    def _take(self, size: int) -> memoryview:
        piece, self._chunk = self._chunk[:size], self._chunk[size:]
        self.position += len(piece)
        return piece

    def _fill(self) -> bool:
        try:
            data = self._reader.read(CHUNK)
        except OSError as error:
            # isal's own error is one too, without a number.
            cause = (error.strerror or "").lower() if error.errno else _CORRUPT
            raise ImageError("read archive", self.name, cause) from error
        except Exception as error:  # isal and zstandard have classes of their own, which this module imports late
            raise ImageError("read archive", self.name, _CORRUPT) from error
        if not data:
            return False
        self.total += len(data)
        if self.total > self._limit:
            raise too_large(self.name, self._limit, "unpacked")
        if self.hasher is not None:
            self.hasher.update(data)
        self._chunk = memoryview(data)
        return True


def too_large(name: str, limit: int, what: str) -> ImageError:
    """The error where more arrives than `limit` bytes."""
    return ImageError("read archive", name, f"more than {limit} bytes {what}", "--max-layer-size sets the limit")


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Gathered:
    """What is written to `descriptor` goes there in large pieces, and what is left with `flush`. Raises OSError."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Write `data`, now or later."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Write all that waits."""
        data = b"".join(self._waiting)
        self._waiting, self._size = [], 0
        write_all(self._descriptor, data)


class _Counted(io.RawIOBase):
    """`source` as the decompressors want it, with its first bytes visible in advance as `magic`."""

    def __init__(self, source: Readable, on_read: Callable[[int], None] | None) -> None:
        super().__init__()
        self._source = source
        self._on_read = on_read
        self._count = 0
        self._head = b""
        while len(self._head) < _MAGIC_LENGTH and (data := source.read(_MAGIC_LENGTH - len(self._head))):
            self._head += data
        self.magic = self._head

    def readable(self) -> bool:
        return True

    def read(self, size: int = CHUNK) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
        else:
            data = self._source.read(size) or b""
        self._count += len(data)
        if self._on_read is not None:
            self._on_read(self._count)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _decompressor(raw: _Counted, name: str) -> tuple[bool, Readable]:
    if raw.magic.startswith(_GZIP):
        from isal.igzip import IGzipFile

        return True, IGzipFile(fileobj=raw, mode="rb")
    if raw.magic.startswith(_ZSTD):
        from zstandard import ZstdDecompressor

        decompressor = ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
        return True, decompressor.stream_reader(cast(BinaryIO, raw), read_across_frames=True)
    for magic, compression in _REFUSED.items():
        if raw.magic.startswith(magic):
            raise ImageError(
                "read archive",
                name,
                f"{compression} compression is not supported, only gzip and zstd",
                "decompress it first and read it from standard input with -",
            )
    return False, raw
