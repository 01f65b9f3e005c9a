"""Pseudoterminals: pty(7), ioctl_tty(2)."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from pycontainer.kernel import record
from pycontainer.kernel.descriptors import close_others
from pycontainer.kernel.files import open_flags
from pycontainer.kernel.signals import SIGINT, SIGQUIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441


def open_slave(master: int) -> int:
    """The slave of a pseudoterminal; opened through the master, so that no name is trusted. Raises OSError."""
    _ioctl(master, "TIOCSPTLCK", TIOCSPTLCK, "[0]", struct.pack("i", 0))
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    slave: int = fcntl.ioctl(master, TIOCGPTPEER, flags)
    record.made("ioctl", [record.descriptor(master), "TIOCGPTPEER", open_flags(flags)], slave)
    record.name(slave, "terminal")
    return slave


def window_size(descriptor: int) -> tuple[int, int]:
    """(rows, columns) of a terminal. Raises OSError."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def set_window_size(descriptor: int, rows: int, columns: int) -> None:
    """Set the size; the foreground process group gets SIGWINCH. Raises OSError."""
    size = f"{{ws_row={rows}, ws_col={columns}}}"
    _ioctl(descriptor, "TIOCSWINSZ", termios.TIOCSWINSZ, size, struct.pack("HHHH", rows, columns, 0, 0))


def signal_characters(master: int) -> list[tuple[int, bytes]]:
    """(signal, character) for what a user types to send SIGINT or SIGQUIT to the first process of a terminal's session.

    Empty while its settings say that these are ordinary characters, or another process group is in the foreground:
    termios(3).
    """
    try:
        settings = termios.tcgetattr(master)
        foreground = os.tcgetpgrp(master)
        with open(f"/proc/{foreground}/status") as file:
            ids = next(line.split() for line in file if line.startswith("NSpid:"))
    except (OSError, termios.error, StopIteration):
        return []
    if not settings[3] & termios.ISIG or ids[-1] != "1":
        return []
    return [(SIGINT, settings[6][termios.VINTR]), (SIGQUIT, settings[6][termios.VQUIT])]


def take_controlling_terminal(slave: int) -> None:
    """Make `slave` the controlling terminal of this session's leader. Raises OSError."""
    _ioctl(slave, "TIOCSCTTY", termios.TIOCSCTTY, "0", 0)


def _ioctl(descriptor: int, name: str, request: int, shown: str, argument: bytes | int) -> None:
    record.make(
        "ioctl", lambda: [record.descriptor(descriptor), name, shown], fcntl.ioctl, descriptor, request, argument
    )


class RawMode:
    """A terminal in raw mode while the context lasts, as it was before afterwards: termios(3).

    Also when this process is killed: a child of its own waits for that, and gives the terminal back.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.saved = termios.tcgetattr(descriptor)
        self._guard = -1

    def __enter__(self) -> RawMode:
        self.apply()
        return self

    def apply(self) -> None:
        """Enter raw mode (again, after a stop and continue)."""
        if self._guard < 0:
            self._guard = self._start_guard()
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._raw())

    def _raw(self) -> list[Any]:
        iflag, oflag, cflag, lflag, ispeed, ospeed, cc = self.saved
        iflag &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        oflag &= ~termios.OPOST
        lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        cc = list(cc)
        cc[termios.VMIN], cc[termios.VTIME] = 1, 0
        return [iflag, oflag, cflag, lflag, ispeed, ospeed, cc]

    def _start_guard(self) -> int:
        """Fork the child; the pipe that tells it of our end, or by a byte that it is not needed. Raises OSError."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        if os.fork() == 0:
            try:
                # A session of its own, so that nothing that is typed or sent to our process group ends it.
                os.setsid()
                os.close(writer)
                close_others({self.descriptor, reader})
                if not os.read(reader, 1):
                    self._give_back()
            finally:
                os._exit(0)
        os.close(reader)
        return writer

    def _give_back(self) -> None:
        """Restore the settings, unless the shell has made its own meanwhile."""
        if termios.tcgetattr(self.descriptor)[:4] == self._raw()[:4]:
            termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self.saved)

    def restore(self) -> None:
        """The settings as they were. Errors are ignored: the terminal may have gone."""
        try:
            termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self.saved)
        except (OSError, termios.error):
            pass
        if self._guard >= 0:
            try:
                os.write(self._guard, b"\0")
            except OSError:
                # It was killed.
                pass
            os.close(self._guard)
            self._guard = -1

    def __exit__(self, *_: object) -> None:
        self.restore()
