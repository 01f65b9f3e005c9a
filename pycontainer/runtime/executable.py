"""The file that a container's program is executed from: which it is, whether it may be, and why the kernel refused it.

Paths are those of the caller's root, which is the container's by then.
"""

from __future__ import annotations

import errno
import os

from pycontainer.errors import CommandNotExecutable, CommandNotFound, StepFailed


def find(name: str, env: list[str], *, to_be_sure: bool = True) -> str:
    """The file to execute: `name` itself where it has a slash, else the first match in the program's own PATH.

    to_be_sure  who asks is the program's user in its directory; otherwise only what is nowhere is refused
    Raises CommandNotFound, CommandNotExecutable.
    """
    if "/" in name:
        return name
    search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    for entry in env:
        if entry.startswith("PATH="):
            search = entry[5:]
    found = ""
    for directory in search.split(":"):
        path = f"{directory or '.'}/{name}"
        if not to_be_sure and not path.startswith("/"):
            return path
        if os.path.isfile(path):
            if os.access(path, os.X_OK) or not to_be_sure:
                return path
            found = found or path
    if found:
        raise CommandNotExecutable("exec", found, "permission denied", "it has no execute permission for this user")
    raise CommandNotFound("exec", name, "executable file not found in $PATH", f"the container's PATH is {search}")


def refuse(path: str, engine: os.stat_result) -> None:
    """Refuse to execute the engine's own interpreter, by whatever name, as the program itself or as its interpreter.

    engine  what stat(2) says of that file
    Raises CommandNotExecutable.
    """
    for _ in range(6):
        try:
            status = os.stat(path)
        except OSError:
            return
        if os.path.samestat(status, engine):
            raise CommandNotExecutable("exec", path, "it is the container engine's own interpreter")
        path = _interpreter(path)
        if not path:
            return


def explain(path: str, error: StepFailed) -> Exception:
    """The error that tells a missing program from a missing interpreter: execve(2) says ENOENT for both."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if not os.path.exists(path):
            return CommandNotFound("exec", path, "no such file or directory")
        interpreter = _interpreter(path)
        hint = f"the file exists, its interpreter {interpreter} does not" if interpreter else ""
        return CommandNotFound("exec", path, "no such file or directory", hint)
    if error.errno == errno.ENAMETOOLONG:
        return CommandNotFound("exec", f"{path[:200]}…", error.cause)
    hints = {
        errno.EACCES: "it is a directory" if os.path.isdir(path) else "no execute permission, or mounted noexec",
        errno.ENOEXEC: "a script needs a first line such as #!/bin/sh; a program must be built for this machine",
    }
    if error.errno in (errno.EACCES, errno.ENOEXEC, errno.EPERM, errno.ELOOP, errno.EISDIR):
        return CommandNotExecutable("exec", path, error.cause, hints.get(error.errno, ""))
    return error


def _interpreter(path: str) -> str:
    """What a script's first line or an ELF file's PT_INTERP header names; "" where there is none: execve(2), elf(5)."""
    try:
        # O_NONBLOCK, because it could be a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        head = os.pread(descriptor, 256, 0)
        if head.startswith(b"#!"):
            # As the kernel reads it: spaces and tabs alone separate, and a NUL ends it.
            line = head[2:].split(b"\n")[0].split(b"\0")[0].replace(b"\t", b" ").strip(b" ")
            return os.fsdecode(line.split(b" ")[0])
        if head.startswith(b"\x7fELF\x02"):
            offset, size, count = _number(head, 32, 8), _number(head, 54, 2), _number(head, 56, 2)
            table = os.pread(descriptor, min(size * count, 1 << 16), offset)
            for entry in range(0, len(table), size or 1):
                if _number(table, entry, 4) == 3:  # PT_INTERP
                    name = os.pread(descriptor, 4096, _number(table, entry + 8, 8))
                    return os.fsdecode(name.split(b"\0")[0])
        return ""
    except (OSError, OverflowError):
        # OverflowError: a header may name any offset.
        return ""
    finally:
        os.close(descriptor)


def _number(data: bytes, position: int, size: int) -> int:
    return int.from_bytes(data[position : position + size], "little")
