"""Reading a log while it is written and rotated: log_writer.py.

A reader has one file open and reads it to its end. If that is not the newest file any more, it goes on with the one
that came after it. Files are known by their inodes, because rotation gives them other names; the inode of a file that
is open is given to no other.
"""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 18


class Record:
    """What was written to one stream at one time; `time` in RFC 3339, all of one length."""

    __slots__ = ("data", "stream", "time")

    def __init__(self, stream: str, time: str, data: bytes) -> None:
        self.stream = stream
        self.time = time
        self.data = data


def parse(line: bytes) -> Record | None:
    """The record of a line; None for what a killed writer has left."""
    try:
        value = json_text.loads(line.decode())
        return Record(value["stream"], value["time"], value["log"].encode("utf-8", "surrogateescape"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class LogReader:
    """Reads the log at `path` from its beginning, or from the byte `offset` of the file with the number `inode`.

    Raises HostError where there is no log, OSError.
    """

    def __init__(self, path: str, inode: int = 0, offset: int = 0) -> None:
        self._path = path
        self._rest = b""  # of a line whose end has not been written
        self._skip = 0  # bytes of the next record
        self._file = self._find(inode)
        if self._file < 0:
            # The beginning, or what is left of a log of which that file has been rotated away.
            offset = 0
            self._file = self._find(next((inode for inode, _ in reversed(self._files())), 0))
        if self._file < 0:
            raise HostError("read the log", path, "there is none")
        os.lseek(self._file, offset, os.SEEK_SET)

    def records(self) -> Iterator[Record]:
        """Every record up to the present end. May be called again for what was written since."""
        while True:
            # Asked before it is read: nothing more is written to what is not the newest.
            is_newest = self._next() is None
            while block := os.read(self._file, _BLOCK):
                *lines, self._rest = (self._rest + block).split(b"\n")
                for record in filter(None, map(parse, lines)):
                    if self._skip:
                        record.data, self._skip = record.data[self._skip :], 0
                    yield record
            if is_newest or not self._advance():
                return

    def seek_lines(self, number: int, since: str = "", until: str = "") -> None:
        """Go to where the last `number` lines begin of those that were written between the two times."""
        ends = -1  # of lines that are still to be found
        for inode, _ in self._files():
            file = self._find(inode)
            if file < 0:
                return
            self._switch(file)
            if number == 0:
                os.lseek(file, 0, os.SEEK_END)
                return
            for offset, line in _lines_backwards(file):
                record = parse(line)
                if record is None or (until and record.time > until):
                    continue
                if record.time < since:
                    os.lseek(file, offset + len(line) + 1, os.SEEK_SET)
                    return
                if ends < 0:
                    ends = number + record.data.endswith(b"\n")
                found = record.data.count(b"\n")
                if found >= ends:
                    position = len(record.data)
                    for _ in range(ends):
                        position = record.data.rindex(b"\n", 0, position)
                    self._skip = position + 1
                    os.lseek(file, offset, os.SEEK_SET)
                    return
                ends -= found
            os.lseek(file, 0, os.SEEK_SET)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _files(self) -> list[tuple[int, str]]:
        """Inode and name of the log's files, newest first."""
        # Twice alike, because they are renamed meanwhile.
        before, files = None, self._list()
        while files != before:
            before, files = files, self._list()
        return files

    def _list(self) -> list[tuple[int, str]]:
        directory, base = os.path.split(self._path)
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            # The container has been removed; what is open can be read all the same.
            return []
        numbered = []
        for name in names:
            prefix, _, number = name.rpartition(".")
            if name == base or (prefix == base and number.isdecimal()):
                inode = _inode(f"{directory}/{name}")
                if inode:
                    numbered.append((0 if name == base else int(number), inode, f"{directory}/{name}"))
        return [(inode, name) for _, inode, name in sorted(numbered)]

    def _find(self, inode: int) -> int:
        """The file with this number, open; -1 where there is none any more."""
        while name := next((name for number, name in self._files() if number == inode), ""):
            file = _open(name)
            if file >= 0 and os.fstat(file).st_ino == inode:
                return file
            if file >= 0:
                os.close(file)
        return -1

    def _next(self) -> int | None:
        """The inode of the file that came after the open one; None where that is the newest."""
        own = os.fstat(self._file).st_ino
        inodes = [inode for inode, _ in self._files()]
        if own in inodes:
            index = inodes.index(own)
            return inodes[index - 1] if index else None
        # It has been removed: the oldest of the others comes next.
        return inodes[-1] if inodes else None

    def _advance(self) -> bool:
        while inode := self._next():
            file = self._find(inode)
            if file >= 0:
                self._switch(file)
                return True
        return False

    def _switch(self, file: int) -> None:
        os.close(self._file)
        self._file, self._rest = file, b""


def _lines_backwards(file: int) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each line, the last one first."""
    position = os.fstat(file).st_size
    rest = b""
    while position > 0:
        start = max(0, position - _BLOCK)
        block = os.pread(file, position - start, start) + rest
        rest, *lines = block.split(b"\n")
        offset = start + len(block)
        for line in reversed(lines):
            offset -= len(line)
            yield offset, line
            offset -= 1
        position = start
    yield 0, rest


def _open(name: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _inode(name: str) -> int:
    try:
        return os.stat(name).st_ino
    except FileNotFoundError:
        return 0
