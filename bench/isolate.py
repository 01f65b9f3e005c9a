"""A place of one's own for a benchmark: its namespaces end with it, and with them every process, mount and link."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable

DISK = os.environ.get("BENCH_DISK", "/var/tmp")


def enter(prepare: Callable[[str], object]) -> str:
    """Run this program again in network, mount and PID namespaces of its own; there, the directory to work in.

    `prepare` is called with that directory before, where the machine's network can be reached. The first process never
    returns from here: it cleans up when the other has ended, and exits with its status.
    """
    if directory := os.environ.get("BENCH_DIRECTORY"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return directory
    if os.geteuid() != 0:
        sys.exit(f"{sys.argv[0]}: must be root")
    with Directory() as directory:
        prepare(directory)
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        os.environ["BENCH_DIRECTORY"] = directory
        # Because Ctrl-C reaches the program in there too, and its cleaning up is waited for. A handler, because what is
        # ignored stays so across exec.
        signal.signal(signal.SIGINT, lambda *_: None)
        status = subprocess.run([*unshare, "--propagation", "private", "--", sys.executable, *sys.argv]).returncode
    sys.exit(status)


class Directory:
    """A directory on a disk, with all cgroups that were made meanwhile; gone at the end."""

    def __enter__(self) -> str:
        self.path = tempfile.mkdtemp(prefix="pycontainer-bench-", dir=DISK)
        os.chmod(self.path, 0o755)
        self.cgroups = _cgroups()
        return self.path

    def __exit__(self, *_: object) -> None:
        for directory in sorted(_cgroups() - self.cgroups, reverse=True):
            try:
                os.rmdir(directory)
            except OSError:
                pass
        shutil.rmtree(self.path, ignore_errors=True)


def _cgroups() -> set[str]:
    """The cgroups that engines make at the top of the hierarchies, and those below."""
    with open("/proc/self/mountinfo") as file:
        roots = [line.split()[4] for line in file if " - cgroup" in line]
    names = ("docker", "libpod_parent", "machine.slice", "pycontainer", "bench")
    return {
        directory
        for root in roots
        for name in os.listdir(root)
        if name.startswith(names)
        for directory, _, _ in os.walk(f"{root}/{name}")
    }
