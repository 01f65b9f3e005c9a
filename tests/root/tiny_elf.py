"""Programs of a few x86-64 instructions, for what no shell command does."""

from __future__ import annotations

import pathlib
import platform

import pytest

needs_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the test's program is made for x86-64")

CRASH = bytes.fromhex("31c0 8900")  # xor eax, eax; mov [rax], eax
# geteuid(); exit(0 for root, 1 for anybody else)
IS_ROOT = bytes.fromhex("b86b000000 0f05 31ff 85c0 400f95c7 b83c000000 0f05")


def write(path: pathlib.Path, code: bytes, mode: int = 0o755) -> None:
    """A static executable: ELF header, one program header, the code. See elf(5)."""

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    address, start = 0x400000, 64 + 56
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + number(2, 2) + number(62, 2) + number(1, 4)
    header += number(address + start, 8) + number(64, 8) + number(0, 8) + number(0, 4)
    header += number(64, 2) + number(56, 2) + number(1, 2) + bytes(6)
    header += number(1, 4) + number(5, 4) + number(0, 8) + number(address, 8) * 2
    header += number(start + len(code), 8) * 2 + number(4096, 8)
    path.write_bytes(header + code)
    path.chmod(mode)
