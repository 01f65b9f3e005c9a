"""The index of SQLite's write-ahead log, db.sqlite-shm: kept so that a full disk kills nobody and a start is short.

SQLite maps the file, and makes it by writing one byte to each 4 KiB of it. On a full disk holes stay between these, and
a process that touches one dies of SIGBUS. And the first process that comes, which cannot know what a crash of the
machine has left, empties the file and reads the whole log to make it anew: up to 10 ms for every command.

So here all blocks are allocated before SQLite maps the file, and who is first empties it only where it does not fit:
where it was made in another boot, or for other files (a mark behind its end says so); where the log's frame that it
calls the last is another one; and where the log goes on behind that, because a process was killed between writing a
transaction and publishing it. SQLite would find that one in the log at some later time, and who had looked in between
would have seen the database without it.

That it is not the first SQLite learns by a lock that others have on byte 128 (UNIX_SHM_DMS in os_unix.c). Ours is one
of an open file description, because SQLite's own record locks would go when this process closes any descriptor of the
file: fcntl(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys

_LOCK_BYTE = 128
_SIZE = 64 << 10  # bytes: two of the parts that SQLite maps, for a log of 8,158 pages; it is written back at 1,000
_MARK_SIZE = 96  # bytes
_F_OFD_SETLK = 37
_F_OFD_SETLKW = 38


class Index:
    """The index beside the database at `path`, from before SQLite opens it until after it has closed it."""

    def __init__(self, path: str) -> None:
        """Raises OSError: ENOSPC where its blocks are not to be had."""
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(f"{path}-shm", flags, 0o600)
        self._is_new = False
        try:
            self._claim()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _claim(self) -> None:
        try:
            _lock(self._descriptor, _F_OFD_SETLK, fcntl.F_WRLCK)
        except (BlockingIOError, PermissionError):
            pass
        else:
            # Nobody has it open.
            mark = os.pread(self._descriptor, _MARK_SIZE, _SIZE).rstrip(b"\0")
            if not mark or mark != self._mark() or not self._fits_log():
                self._is_new = True
                os.ftruncate(self._descriptor, 0)
        status = os.fstat(self._descriptor)
        if status.st_size < _SIZE + _MARK_SIZE or status.st_blocks * 512 < _SIZE:
            os.posix_fallocate(self._descriptor, 0, _SIZE + _MARK_SIZE)
        _lock(self._descriptor, _F_OFD_SETLKW, fcntl.F_RDLCK)

    def _mark(self) -> bytes:
        """Boot, database and log that the index is of; empty where there is no log."""
        try:
            inodes = [os.stat(f"{self._path}{suffix}").st_ino for suffix in ("", "-wal")]
        except FileNotFoundError:
            return b""
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip() + b" %d %d" % (inodes[0], inodes[1])

    def _fits_log(self) -> bool:
        """Whether the log ends where the index says: struct WalIndexHdr, and "The WAL File Format" of SQLite."""
        header = os.pread(self._descriptor, 48, 0)
        page_size = int.from_bytes(header[14:16], sys.byteorder)
        last = int.from_bytes(header[16:20], sys.byteorder)
        salts = header[32:40]
        checksums = [int.from_bytes(header[place : place + 4], sys.byteorder) for place in (24, 28)]
        frame = page_size + 24
        with open(f"{self._path}-wal", "rb", buffering=0) as log:
            if last:
                # Of its first frame and of all that follow; the log may have begun anew.
                if log.read(32)[16:24] != salts:
                    return False
                log.seek(32 + (last - 1) * frame)
                head = log.read(24)
                stored = [int.from_bytes(head[place : place + 4], "big") for place in (16, 20)]
                if head[8:16] != salts or stored != checksums:
                    return False
            log.seek(32 + last * frame)
            # A frame there of an older round through the file has other salts.
            return log.read(16)[8:] != salts

    def is_current(self) -> bool:
        """Whether it is still the file at its path: the last process to close the database removes it."""
        try:
            return os.path.samestat(os.stat(f"{self._path}-shm"), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def seal(self) -> None:
        """Mark it, after SQLite has made it. Raises OSError."""
        if self._is_new and (mark := self._mark()):
            os.pwrite(self._descriptor, mark.ljust(_MARK_SIZE, b"\0"), _SIZE)
            self._is_new = False

    def close(self) -> None:
        """Give up the lock; not while SQLite has the file open."""
        os.close(self._descriptor)


def is_no_space(error: OSError) -> bool:
    """Whether the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _lock(descriptor: int, command: int, kind: int) -> None:
    fcntl.fcntl(descriptor, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, _LOCK_BYTE, 1, 0))
