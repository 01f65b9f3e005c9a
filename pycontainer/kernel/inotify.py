"""Waiting for changes of files: inotify(7)."""

from __future__ import annotations

import os
import select

from pycontainer.kernel.syscalls import call

IN_MODIFY = 0x00000002
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK and IN_CLOEXEC have the same values


class Watch:
    """Notices that something in a directory is written to, made, or renamed to. Raises OSError."""

    def __init__(self, directory: str) -> None:
        self._descriptor = call("inotify_init1", _FLAGS)
        try:
            mask = IN_MODIFY | IN_MOVED_TO | IN_CREATE
            call("inotify_add_watch", self._descriptor, os.fsencode(directory), mask, path=directory)
        except BaseException:
            os.close(self._descriptor)
            raise

    def fileno(self) -> int:
        """A descriptor that can be read when something has changed: then call `clear`, and look."""
        return self._descriptor

    def clear(self) -> bool:
        """Forget what has changed up to now; whether something has."""
        try:
            os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return False
        return True

    def wait(self, timeout: float | None) -> bool:
        """Wait for a change, for at most so many seconds; whether there was one. What had changed before counts."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.poll(None if timeout is None else timeout * 1000)
        return self.clear()

    def close(self) -> None:
        """End it."""
        os.close(self._descriptor)
