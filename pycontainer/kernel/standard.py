"""Descriptors 0, 1 and 2 of this process: stdin(3)."""

from __future__ import annotations

import os
import sys


def open_closed() -> None:
    """/dev/null in place of those that the caller closed, so that no file of ours takes the number 0, 1 or 2."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
