"""A tar archive as a forward-only sequence of members, each checked by tarsafe before anyone acts on it."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tarsafe import TarSafe, TarSafeException

from pycontainer.errors import ImageError, printable
from pycontainer.image.stream import ForwardStream

if TYPE_CHECKING:
    from typing import Self

MAX_GLOBAL_RECORDS = 64  # of pax headers that hold for all members, for each of which tarfile copies them
MAX_GLOBAL_BYTES = 64 << 10
MAX_DIGITS = 256  # in a row; tarfile looks for numbers in time that grows with the square of their length

# tarsafe compares a member's place with the directory that is unpacked into. The real one is a chroot, where `..` of
# the root is the root and everything is inside; against a directory below it the check means what it says.
_CHECKED_ROOT = "/layer"


# What the member's error says instead of the interpreter's own words, in which it refuses a number or a text.
UNFIT = "a number or a text in its header is out of range"


# What most programs write of most files: each number in all of its octal digits, of the device or none, and no prefix.
_PLAIN = re.compile(
    rb"(?s:.{100})([0-7]{7})\0([0-7]{7})\0([0-7]{7})\0([0-7]{11})\0([0-7]{11})\0([0-7]{6})\0 "
    rb"[0-6x](?s:.{100})ustar\x0000(?s:.{64})(?:([0-7]{7})\0|\0{8})(?:([0-7]{7})\0|\0{8})\0(?s:.{166})"
)
_CHECKSUM = slice(148, 156)


class _Header(tarfile.TarInfo):
    """A header whose pax records are looked at before tarfile parses them."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As tarfile does it; faster where the header is plain, because thousands of small files are mostly headers."""
        numbers = _PLAIN.fullmatch(buf)
        if numbers is None or int(numbers[6], 8) != sum(buf) - sum(buf[_CHECKSUM]) + sum(b" " * 8):
            return super().frombuf(buf, encoding, errors)

        def text(start: int, end: int) -> str:
            return buf[start:end].partition(b"\0")[0].decode(encoding, errors)

        header = cls(text(0, 100))
        header.mode, header.uid, header.gid, header.size, header.mtime, header.chksum, *device = (
            int(number or b"0", 8) for number in numbers.groups()
        )
        header.devmajor, header.devminor = device
        header.type = bytes(buf[156:157])
        header.linkname, header.uname, header.gname = text(157, 257), text(265, 297), text(297, 329)
        if header.isdir():
            header.name = header.name.rstrip("/")
        return header

    def _proc_pax(self, tar: ForwardTar) -> tarfile.TarInfo:
        size = -(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        _check_records(tar.stream.peek(size)[: self.size], tar.stream.name)
        member: tarfile.TarInfo = super()._proc_pax(tar)  # type: ignore[misc]
        return member


def _check_records(data: bytes, name: str) -> None:
    """Refuse what is no sequence of `LENGTH KEYWORD=VALUE` lines: tarfile would search all of it for each byte."""
    position = 0
    while position < len(data) and data[position]:
        length, space, _ = data[position : position + 20].partition(b" ")
        end = position + int(length) if space and length.isdigit() else 0
        start = position + len(length) + 1
        if not start < end <= len(data) or data[end - 1] != 0x0A or data.find(b"=", start, end) <= start:
            raise ImageError("read archive", name, "a pax header is broken")
        position = end
    if b"0" * (MAX_DIGITS + 1) in data.translate(_DIGITS):
        raise ImageError("read archive", name, f"more than {MAX_DIGITS} digits in a row in a pax header")


_DIGITS = bytes(0x30 if chr(byte).isdigit() and byte < 0x80 else 0x20 for byte in range(256))


class ForwardTar(TarSafe):  # type: ignore[misc]  # tarsafe has no types
    """Reads `stream` once, from front to back, in constant memory."""

    tarinfo = _Header

    def __init__(self, stream: ForwardStream) -> None:
        self.stream = stream
        self.directory = _CHECKED_ROOT
        source: Any = stream  # has the methods that are called for reading
        # Not TarSafe's constructor, nor a name, because both ask for the current directory, which may be gone.
        # UTF-8 whatever the locale: names that are not UTF-8 come out as surrogates and go back in unchanged.
        tarfile.TarFile.__init__(self, "", "r", source, encoding="utf-8", errors="surrogateescape")

    def check_global_records(self) -> None:
        """Bound what archives may say of all their members. Raises ImageError."""
        records = self.pax_headers
        size = sum(len(key) + len(value) for key, value in records.items()) if records else 0
        if len(records) > MAX_GLOBAL_RECORDS or size > MAX_GLOBAL_BYTES:
            limits = f"{MAX_GLOBAL_RECORDS} records or {MAX_GLOBAL_BYTES} bytes"
            raise ImageError("read archive", self.stream.name, f"global pax headers of more than {limits}")

    def check(self, member: tarfile.TarInfo) -> None:
        """Refuse a name, or a hard link's target, outside the archive's root. Raises ImageError."""
        try:
            if self._is_traversal_attempt(tarinfo=member, root=_CHECKED_ROOT):
                raise TarSafeException("the name leads outside the archive")
            if self._is_unsafe_link(tarinfo=member, root=_CHECKED_ROOT):
                raise TarSafeException(f"hard link to {member.linkname}, outside the archive")
        except TarSafeException as error:
            raise ImageError("read archive", printable(member.name), str(error)) from error


def members(stream: ForwardStream, complete: bool = False) -> Iterator[tuple[ForwardTar, tarfile.TarInfo]]:
    """Each member with its archive, positioned at the member's data; then drain the stream.

    With `complete` the end-of-archive marker must be there: where no digest is known, nothing else tells a truncated
    archive from a whole one. Raises ImageError.
    """
    tar = None
    try:
        tar = ForwardTar(stream)
        while (member := tar.next()) is not None:
            tar.members.clear()  # tarfile keeps every member, which a stream of millions must not
            tar.check_global_records()
            tar.check(member)
            if "\0" in member.name or "\0" in member.linkname:
                raise ImageError("read archive", printable(member.name), "a name with a NUL byte")
            if member.size < 0:
                raise ImageError("read archive", printable(member.name), "its size is negative")
            yield tar, member
            stream.header_bytes = 0
    except tarfile.TarError as error:
        raise ImageError("read archive", stream.name, f"corrupt or truncated data ({error})") from error
    except (RecursionError, ValueError, OverflowError) as error:
        cause = "corrupt or truncated data (a header is not understood)"
        raise ImageError("read archive", stream.name, cause) from error
    # tarfile takes any broken header after the first one for the end.
    if stream.last.strip(b"\0") or (complete and len(stream.last) != tarfile.BLOCKSIZE):
        raise ImageError("read archive", stream.name, "corrupt or truncated data (no end-of-archive marker)")
    stream.drain()
