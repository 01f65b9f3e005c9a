#!/usr/bin/env python3
"""Run a command in User Mode Linux: a whole kernel with a pure cgroup v2 hierarchy, as an ordinary process.

    boot.py [--timeout SECONDS] [--memory MEGABYTES] [--share DIRECTORY] COMMAND [ARGUMENT…]

The guest sees the host's files through hostfs; what it writes stays in its memory and in a scratch disk. It has an
ext4 file system on /var/lib/pycontainer, swap, and one CPU; --share is its /mnt, where it can write. The command starts
in the current directory with this process's CI and PYTEST variables; its exit status is this program's. The command's
output goes to stdout, and the guest's console is shown on stderr when the status is not 0. Needs root and the Debian
packages user-mode-linux, e2fsprogs, util-linux and a C compiler.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

KERNEL = "/usr/bin/linux.uml"
MODULES = "/usr/lib/uml/modules"
HERE = os.path.dirname(os.path.abspath(__file__))
INIT = os.path.join(HERE, "init.sh")
TIMED_OUT = 124  # as timeout(1)
NO_STATUS = 125
DISK = 4 << 30  # bytes, sparse
SWAP = 256 << 20


def memory_directory(megabytes: int, otherwise: str) -> str:
    """/dev/shm when a file of that size fits and may be executed from there, else `otherwise`."""
    try:
        status = os.statvfs("/dev/shm")
    except OSError:
        return otherwise
    fits = status.f_bavail * status.f_frsize > (megabytes + 64) << 20
    return "/dev/shm" if fits and not status.f_flag & os.ST_NOEXEC else otherwise


def prepare(work: str, share: str, command: list[str]) -> None:
    """Fill `work` with the disks and the library to preload, and `share` with what init.sh expects there."""
    os.makedirs(os.path.join(share, "lib"), exist_ok=True)
    modules, status = os.path.join(share, "lib", "modules"), os.path.join(share, "status")
    for left in (modules, status):
        # Of a guest before this one.
        if os.path.lexists(left):
            os.unlink(left)
    os.symlink(MODULES, modules)
    kept = {"PY_COLORS": str(int(sys.stdout.isatty()))}
    kept |= {name: value for name, value in os.environ.items() if name == "CI" or name.startswith("PYTEST")}
    assignments = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in kept.items())
    with open(os.path.join(share, "run"), "w") as script:
        script.write(f"{assignments}cd {shlex.quote(os.getcwd())} && {shlex.join(command)}\n")
    for name, size in (("disk", DISK), ("swap", SWAP)):
        with open(os.path.join(work, name), "wb") as file:
            file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", os.path.join(work, "disk")], check=True)
    library = ["-O1", "-shared", "-fPIC", "-o", os.path.join(work, "xstate.so"), os.path.join(HERE, "xstate.c")]
    subprocess.run(["cc", *library], check=True)


def end(guest: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the guest and wait until it is gone."""
    if guest.poll() is None:
        # unshare's child and not unshare, because unshare ends when its child, the PID namespace's first process, has.
        with open(f"/proc/{guest.pid}/task/{guest.pid}/children") as file:
            children = file.read().split()
        for pid in map(int, children) if children else [guest.pid]:
            os.kill(pid, signal.SIGKILL)
        guest.wait()


def boot(work: str, share: str, megabytes: int, timeout: int) -> int:
    """Boot, wait for power-off, and give the command's exit status, TIMED_OUT or NO_STATUS."""
    # On one of the processors that this program may use, because the guest has one and its processes are the host's:
    # they take turns, and to wake each other on another processor costs them a third of the time.
    os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})
    # A PID namespace, because its end is the end of every process of the guest; and the guest must not outlive this
    # program, however that ends.
    launcher = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL"]
    with open(os.path.join(work, "console"), "wb") as console:
        machine = [f"mem={megabytes}M", f"ubd0={work}/disk", f"ubd1={work}/swap", f"uml_dir={work}", "umid=guest"]
        root = ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}", f"SHARE={share}"]
        lines = ["con=null", "ssl=null", f"con0=null,fd:{console.fileno()}", "ssl0=null,fd:1", "console=tty0", "quiet"]
        guest = subprocess.Popen(
            [*launcher, KERNEL, *machine, *root, *lines],
            stdin=subprocess.DEVNULL,
            stderr=console,
            pass_fds=[console.fileno()],
            start_new_session=True,
            env={"TMPDIR": memory_directory(megabytes, work), "LD_PRELOAD": f"{work}/xstate.so"},
        )
        try:
            guest.wait(timeout)
        except subprocess.TimeoutExpired:
            print(f"boot.py: no end after {timeout} s, killed", file=sys.stderr)
            return TIMED_OUT
        finally:
            end(guest)
    try:
        with open(os.path.join(share, "status")) as file:
            return int(file.read())
    except (OSError, ValueError):
        return NO_STATUS


def main() -> int:
    parser = argparse.ArgumentParser(description="run a command in User Mode Linux")
    parser.add_argument("--timeout", type=int, default=900, help="seconds until the guest is killed")
    parser.add_argument("--memory", type=int, default=1500, help="the guest's memory in megabytes")
    parser.add_argument("--share", help="a directory that is the guest's /mnt; without it one that is removed")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    # Because the default action would leave the scratch directory behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # On disk and not in /tmp, because /tmp may be a small tmpfs.
    with tempfile.TemporaryDirectory(prefix="pycontainer-uml-", dir="/var/tmp") as work:
        share = arguments.share or os.path.join(work, "share")
        prepare(work, share, arguments.command)
        status = boot(work, share, arguments.memory, arguments.timeout)
        if status != 0:
            with open(os.path.join(work, "console"), errors="replace") as console:
                shutil.copyfileobj(console, sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
