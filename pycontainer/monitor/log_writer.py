"""The log of a container: one JSON record a line, in the form of Docker's json-file driver, rotated at a bound.

    {"log":"text\\n","stream":"stdout","time":"2026-01-02T15:04:05.123456789Z"}

A record holds what was read at once: parts of lines, or many. Bytes that are not UTF-8 stand as lone surrogates
(PEP 383), so that a reader gets back exactly what was written. log is the newest file, log.1 the one before it.
"""

from __future__ import annotations

import _json
import os
import time

from pycontainer.monitor.clock import rfc3339_ns

_AGAIN = 1.0  # seconds after a failure until the file is tried again


class LogWriter:
    """Appends to the log at `path`. A failure, such as a full disk, loses what could not be written, and nothing else.

    max_size   bytes of one file; only a single record that is larger passes it
    max_files  how many are kept; with 1 the old one is thrown away as soon as the new one begins
    """

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        self._path = path
        self._max_size = max_size
        self._max_files = max_files
        self._file = -1
        self._size = 0
        self._lost = 0
        self._cause = ""
        self._retry = 0.0
        try:
            self._open()
        except OSError as error:
            self._fail(error)

    def write(self, stream: str, data: bytes) -> None:
        """Keep what was written to a stream."""
        if self._lost and time.monotonic() < self._retry:
            self._lost += len(data)
            return
        try:
            if self._lost:
                text = f"[pycontainer: {self._lost} bytes of output are missing here: {self._cause}]\n"
                self._append(_record("stderr", text.encode()))
                self._lost = 0
            self._append(_record(stream, data))
        except OSError as error:
            self._lost += len(data)
            self._fail(error)

    def position(self) -> tuple[int, int]:
        """Where the next record will stand: inode and offset; (0, 0) where there is no file."""
        return (os.fstat(self._file).st_ino, self._size) if self._file >= 0 else (0, 0)

    def close(self) -> None:
        """Close it. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _fail(self, error: OSError) -> None:
        self._cause = (error.strerror or str(error)).lower()
        self._retry = time.monotonic() + _AGAIN

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size
        if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
            # The last writer was killed in the middle of a record. Readers pass over it.
            self._size += os.write(self._file, b"\n")

    def _append(self, record: bytes) -> None:
        if self._file >= 0 and self._size and self._size + len(record) > self._max_size:
            self._rotate()
        if self._file < 0:
            self._open()
        try:
            written = os.write(self._file, record)
            if written < len(record):
                # The disk has become full: this says so, or writes the rest.
                written += os.write(self._file, record[written:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += written

    def _rotate(self) -> None:
        """Begin a new file. Killed in between, this leaves a number unused, and loses nothing that is to be kept."""
        self.close()
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._max_files))]
        if len(names) == 1:
            os.unlink(self._path)
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            try:
                os.rename(newer, older)
            except FileNotFoundError:
                continue


def _record(stream: str, data: bytes) -> bytes:
    text = _json.encode_basestring_ascii(data.decode("utf-8", "surrogateescape"))
    return f'{{"log":{text},"stream":"{stream}","time":"{rfc3339_ns(time.time_ns())}"}}\n'.encode("ascii")
