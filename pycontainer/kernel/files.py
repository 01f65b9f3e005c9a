"""System calls on files that a step makes through Python's module os, which record themselves: record.py.

As their namesakes of os, each; all raise OSError.
"""

from __future__ import annotations

import fcntl
import os

from pycontainer.kernel import record
from pycontainer.kernel.record import descriptor as shown
from pycontainer.kernel.record import make, quoted
from pycontainer.kernel.syscalls import decode

_O_NAMES = "O_WRONLY O_RDWR O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_DIRECTORY O_NOFOLLOW O_PATH O_CLOEXEC"
_O_FLAGS = {name: getattr(os, name) for name in _O_NAMES.split()}
_KINDS = {0o020000: "S_IFCHR", 0o060000: "S_IFBLK", 0o010000: "S_IFIFO"}


def open_flags(flags: int) -> str:
    """open(2) flags as strace prints them."""
    text = decode(flags, _O_FLAGS)
    return text if flags & (os.O_WRONLY | os.O_RDWR | os.O_PATH) else f"O_RDONLY|{text}".removesuffix("|0")


def open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """openat(2)."""
    if record.lines is None:
        return os.open(path, flags, mode, dir_fd=dir_fd)
    arguments = [shown(dir_fd), quoted(path), open_flags(flags), *([f"0{mode:o}"] if flags & os.O_CREAT else [])]
    try:
        descriptor = os.open(path, flags, mode, dir_fd=dir_fd)
    except OSError as error:
        record.made("openat", arguments, error=error.errno or 0)
        raise
    record.made("openat", arguments, descriptor)
    record.name(descriptor, path)
    return descriptor


def write(descriptor: int, data: bytes) -> int:
    """write(2)."""
    text = data.decode(errors="surrogateescape")
    return make("write", lambda: [shown(descriptor), quoted(text), str(len(data))], os.write, descriptor, data)


def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    """mkdir(2), mkdirat(2)."""
    if dir_fd is None:
        make("mkdir", lambda: [quoted(path), f"0{mode:o}"], os.mkdir, path, mode)
    else:
        make("mkdirat", lambda: [shown(dir_fd), quoted(path), f"0{mode:o}"], os.mkdir, path, mode, dir_fd=dir_fd)


def chmod(path: str, mode: int) -> None:
    """chmod(2)."""
    make("chmod", lambda: [quoted(path), f"0{mode:o}"], os.chmod, path, mode)


def rmdir(path: str) -> None:
    """rmdir(2)."""
    make("rmdir", lambda: [quoted(path)], os.rmdir, path)


def rename(source: str, target: str) -> None:
    """rename(2)."""
    make("rename", lambda: [quoted(source), quoted(target)], os.rename, source, target)


def link(source: str, target: str) -> None:
    """link(2)."""
    make("link", lambda: [quoted(source), quoted(target)], os.link, source, target)


def unlink(path: str) -> None:
    """unlink(2)."""
    make("unlink", lambda: [quoted(path)], os.unlink, path)


def symlink(target: str, path: str, *, dir_fd: int) -> None:
    """symlinkat(2)."""
    make("symlinkat", lambda: [quoted(target), shown(dir_fd), quoted(path)], os.symlink, target, path, dir_fd=dir_fd)


def mknod(path: str, mode: int, major: int, minor: int, *, dir_fd: int) -> None:
    """mknodat(2)."""

    def arguments() -> list[str]:
        kind = _KINDS.get(mode & 0o170000, f"{mode & 0o170000:#o}")
        numbers = [f"makedev({_hexadecimal(major)}, {_hexadecimal(minor)})"] if kind != "S_IFIFO" else []
        return [shown(dir_fd), quoted(path), f"{kind}|0{mode & 0o7777:o}", *numbers]

    make("mknodat", arguments, os.mknod, path, mode, os.makedev(major, minor), dir_fd=dir_fd)


def _hexadecimal(number: int) -> str:
    return f"{number:#x}" if number else "0"


def chown(path: str, uid: int, gid: int, *, dir_fd: int) -> None:
    """fchownat(2), and not of what a symbolic link leads to."""

    def arguments() -> list[str]:
        return [shown(dir_fd), quoted(path), str(uid), str(gid), "AT_SYMLINK_NOFOLLOW"]

    make("fchownat", arguments, os.chown, path, uid, gid, dir_fd=dir_fd, follow_symlinks=False)


def fchown(descriptor: int, uid: int, gid: int) -> None:
    """fchown(2)."""
    make("fchown", lambda: [shown(descriptor), str(uid), str(gid)], os.fchown, descriptor, uid, gid)


def chdir(path: str) -> None:
    """chdir(2)."""
    make("chdir", lambda: [quoted(path)], os.chdir, path)


def chroot(path: str) -> None:
    """chroot(2)."""
    make("chroot", lambda: [quoted(path)], os.chroot, path)


def fchdir(descriptor: int) -> None:
    """fchdir(2)."""
    make("fchdir", lambda: [shown(descriptor)], os.fchdir, descriptor)


def duplicate(descriptor: int, number: int) -> None:
    """dup2(2), inherited over execve(2); where both are one, only that."""
    if descriptor == number:
        make("fcntl", lambda: [shown(number), "F_SETFD", "0"], fcntl.fcntl, number, fcntl.F_SETFD, 0)
    else:
        make("dup2", lambda: [shown(descriptor), str(number)], os.dup2, descriptor, number, inheritable=True)
