"""Pseudoterminals: pty(7), ioctl_tty(2)."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from pycontainer.kernel.signals import SIGINT, SIGQUIT

TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441


def open_slave(master: int) -> int:
    """The slave of a pseudoterminal; opened through the master, so that no name is trusted. Raises OSError."""
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    return fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def window_size(descriptor: int) -> tuple[int, int]:
    """(rows, columns) of a terminal. Raises OSError."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def set_window_size(descriptor: int, rows: int, columns: int) -> None:
    """Set the size; the foreground process group gets SIGWINCH. Raises OSError."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


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
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


class RawMode:
    """A terminal in raw mode while the context lasts, as it was before afterwards: termios(3)."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.saved = termios.tcgetattr(descriptor)

    def __enter__(self) -> RawMode:
        self.apply()
        return self

    def apply(self) -> None:
        """Enter raw mode (again, after a stop and continue)."""
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
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, [iflag, oflag, cflag, lflag, ispeed, ospeed, cc])

    def restore(self) -> None:
        """The settings as they were. Errors are ignored: the terminal may have gone."""
        try:
            termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self.saved)
        except (OSError, termios.error):
            pass

    def __exit__(self, *_: object) -> None:
        self.restore()
