"""Runs in a container: `base` makes files of all kinds in /work, `change` changes them, `look` prints all there is.

Times are set where they can be; a directory that changes afterwards has the present one.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import socket
import sys

import file_trees

WORK = b"/work/"
TIME = 1_000_000_000  # seconds; 2001
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep, version 2
# user::rw- user:1000:r-- group::r-- mask::r-- other::--- as acl(5) has it in an extended attribute.
ACL = bytes.fromhex(
    "02000000" "01000600ffffffff" "02000400e8030000" "04000400ffffffff" "10000400ffffffff" "20000000ffffffff"
)  # fmt: skip
MANY = 3000
# What is not of an image's files, but of the container that looks.
LEFT_OUT = frozenset(
    b"proc sys dev etc/hosts etc/hostname etc/resolv.conf etc/mtab .dockerenv run/.containerenv".split()
)


def file(name: bytes, text: bytes, mode: int = 0o644, owner: tuple[int, int] = (0, 0), time: float = TIME) -> None:
    os.makedirs(os.path.dirname(WORK + name), exist_ok=True)
    with open(WORK + name, "wb") as out:
        out.write(text)
    os.chown(WORK + name, *owner)
    os.chmod(WORK + name, mode)
    stamp(name, time)


def directory(name: bytes, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> None:
    os.makedirs(WORK + name)
    os.chown(WORK + name, *owner)
    os.chmod(WORK + name, mode)


def symlink(target: bytes, name: bytes) -> None:
    os.symlink(target, WORK + name)
    stamp(name)


def stamp(name: bytes, time: float = TIME) -> None:
    nanoseconds = int(time * 1000) * 10**6
    os.utime(WORK + name, ns=(nanoseconds, nanoseconds), follow_symlinks=False)


def sparse(name: bytes, size: int, *pieces: int) -> None:
    with open(WORK + name, "wb") as out:
        for position in pieces:
            os.pwrite(out.fileno(), b"data" * 1024, position)
        out.truncate(size)
    stamp(name)


def fifo(name: bytes) -> None:
    os.mkfifo(WORK + name, 0o640)
    stamp(name)


def listen(name: bytes) -> None:
    """A socket, which no archive can hold."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(WORK + name)


def base() -> None:
    os.mkdir(WORK)
    for number in range(MANY):
        file(b"many/%02d/%d" % (number % 30, number), b"%d\n" % number * (number % 50), time=TIME + number)
    for name, mode in {b"setuid": 0o4755, b"setgid": 0o2755, b"none": 0, b"all": 0o7777, b"group": 0o660}.items():
        file(b"modes/" + name, name, mode, (1000, 1001))
    for name, mode in {b"sticky": 0o1777, b"setgid directory": 0o2775, b"closed": 0}.items():
        directory(b"modes/" + name, mode, (33, 65534))
    for name, time in {b"old": -300_000_000.5, b"exact": TIME, b"part": TIME + 0.125, b"late": 4_200_000_000}.items():
        file(b"times/" + name, name, time=time)
    for name in (b"\xff\xfe", b"caf\xe9", "café".encode(), b"two\nlines", b'"quoted" \\ *', b"n" * 255, b" ", b"-x"):
        file(b"names/" + name, name)
    file(b"/".join([b"deep" * 12] * 6) + b"/file", b"deep")
    file(b"order/a/in", b"a")
    file(b"order/a-b", b"a-b")
    file(b"order/a.b/in", b"a.b")
    for name in (b"links/first", b"links/second", b"links/in/third"):
        os.makedirs(os.path.dirname(WORK + name), exist_ok=True)
        file(name, b"linked") if name.endswith(b"first") else os.link(WORK + b"links/first", WORK + name)
    for name in (b"to be linked", b"renamed", b"moved", b"same size and time", b"grows", b"gets an owner", b"goes"):
        file(b"files/" + name, name)
    for name in (b"gets a mode", b"gets a time", b"becomes a directory", b"gets an attribute", b"gets a capability"):
        file(b"files/" + name, name)
    for name in (b"directories/goes", b"directories/anew", b"directories/becomes a file", b"directories/moved"):
        file(name + b"/in/deep", b"deep")
        file(name + b"/file", b"file")
    directory(b"directories/empty")
    directory(b"directories/gets a time")
    symlink(b"first", b"links/relative")
    symlink(b"/no/such/file", b"links/nowhere")
    symlink(b"caf\xe9", b"links/bytes")
    symlink(b"l" * 300, b"links/long")
    for name in (b"xattrs/file", b"xattrs/keeps"):
        file(name, name)
        os.setxattr(WORK + name, "user.note", b"\0\xff\n=")
        os.setxattr(WORK + name, "user.empty", b"")
    for name in (b"xattrs/capable", b"xattrs/stays capable"):
        file(name, name, 0o755)
        os.setxattr(WORK + name, "security.capability", CAPABILITY)
    file(b"xattrs/acl", b"acl", 0o640)
    os.setxattr(WORK + b"xattrs/acl", "system.posix_acl_access", ACL)
    os.setxattr(WORK + b"xattrs", "user.of", b"directory")
    os.mkdir(WORK + b"holes")
    sparse(b"holes/middle", 8 << 20, 4 << 20)
    sparse(b"holes/end", (4 << 20) + 4096, 4 << 20)
    sparse(b"holes/only", 3 << 20)
    sparse(b"holes/filled", 1 << 20, 0)
    fifo(b"fifo")
    fifo(b"fifo that goes")
    listen(b"socket")


def change() -> None:
    make()
    remove()
    rename()
    alter()


def make() -> None:
    for number in range(500):
        file(b"new/%02d/%d" % (number % 10, number), b"%d\n" % number, 0o600 + number % 64, (number, 2 * number))
    for name in (b"\xfd", b"new\xe9", b"two\n\nlines"):
        file(b"names/" + name, b"new")
    file(b"new/setuid", b"x", 0o6711, (5, 6))
    file(b"new/capable", b"x", 0o755)
    os.setxattr(WORK + b"new/capable", "security.capability", CAPABILITY)
    os.setxattr(WORK + b"new/capable", "user.note", b"new")
    os.link(WORK + b"new/setuid", WORK + b"new/again")
    os.link(WORK + b"files/to be linked", WORK + b"new/linked")
    sparse(b"new/holes", 5 << 20, 1 << 20)
    symlink(b"\xff", b"new/bytes")
    fifo(b"new/fifo")
    listen(b"new/socket")


def remove() -> None:
    for number in range(0, MANY, 3):
        os.unlink(WORK + b"many/%02d/%d" % (number % 30, number))
    for name in (b"files/goes", b"names/\xff\xfe", b"links/second", b"fifo that goes", b"order/a-b", b"holes/only"):
        os.unlink(WORK + name)
    for name in (b"directories/goes", b"directories/anew", b"directories/becomes a file", b"order/a"):
        shutil.rmtree(WORK + name)
    os.rmdir(WORK + b"directories/empty")
    # Of what was in it before, one name comes again.
    file(b"directories/anew/in/other", b"other")
    file(b"directories/anew/file", b"another")
    file(b"directories/becomes a file", b"it is one")
    os.unlink(WORK + b"files/becomes a directory")
    file(b"files/becomes a directory/in", b"in")


def rename() -> None:
    os.rename(WORK + b"files/renamed", WORK + b"files/has another name")
    os.rename(WORK + b"files/moved", WORK + b"new/moved")
    os.rename(WORK + b"names/caf\xe9", WORK + b"names/\xe9fac")
    # rename(2) gives EXDEV for a directory of a layer, and mv(1) copies it then.
    shutil.move(os.fsdecode(WORK + b"directories/moved"), os.fsdecode(WORK + b"new/moved directory"))
    os.rename(WORK + b"new/00", WORK + b"new/renamed directory")
    os.rename(WORK + b"links/nowhere", WORK + b"links/elsewhere")


def alter() -> None:
    file(b"files/same size and time", b"SAME SIZE AND TIME")
    with open(WORK + b"files/grows", "ab") as out:
        out.write(b"more")
    stamp(b"files/grows")
    # Opened and not written to.
    open(WORK + b"names/-x", "ab").close()
    os.chown(WORK + b"files/gets an owner", 7, 8)
    os.chmod(WORK + b"files/gets a mode", 0o4711)
    stamp(b"files/gets a time", TIME + 1.5)
    stamp(b"directories/gets a time", TIME + 1)
    os.setxattr(WORK + b"files/gets an attribute", "user.note", b"late")
    os.setxattr(WORK + b"files/gets a capability", "security.capability", CAPABILITY)
    # docker's commit has lost it.
    with contextlib.suppress(OSError):
        os.removexattr(WORK + b"xattrs/file", "user.note")
    os.chmod(WORK + b"xattrs/file", 0o604)
    os.removexattr(WORK + b"xattrs/capable", "security.capability")
    os.unlink(WORK + b"links/relative")
    symlink(b"other", b"links/relative")
    with open(WORK + b"links/in/third", "ab") as out:
        out.write(b", and alone")
    stamp(b"links/in/third")
    os.truncate(WORK + b"holes/middle", 6 << 20)
    stamp(b"holes/middle")


def look() -> None:
    sys.stdout.buffer.write(pickle.dumps(file_trees.of_directory(b"/", LEFT_OUT)))


if __name__ == "__main__":
    os.umask(0o022)
    {"base": base, "change": change, "look": look}[sys.argv[1]]()
