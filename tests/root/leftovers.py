"""What one installation still has on this machine: the tests count it, and want zero.

Everything is found by the installation's own names (its roots, its bridge, its containers' ids), so that containers of
other installations on the same machine do not matter.
"""

from __future__ import annotations

import os
import pathlib
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Iterator

from conftest import lock_holder

PATIENCE = 2.0  # seconds that the kernel may take to remove a veth pair whose network namespace has died


class Leftovers:
    """Counts for the installation that `environment` describes: `found()` is empty when nothing is left.

    ours   processes of the test's own, which do not count
    """

    def __init__(self, environment: dict[str, str], ours: Iterable[int] = ()) -> None:
        self.root = environment["PYCONTAINER_ROOT"]
        self.state = environment["PYCONTAINER_STATE"]
        self.bridge = environment["PYCONTAINER_BRIDGE"]
        self._ours = set(ours) | _ancestors()
        # Unlike the paths these occur in nothing else, and also in what the kernel shows relative to a mount's root.
        self._marks = [os.path.basename(self.root).encode(), os.path.basename(self.state).encode()]

    def found(self, ids: Iterable[str] = (), *, keep: Iterable[str] = ()) -> list[str]:
        """One line for each thing that is left, after up to PATIENCE seconds.

        ids    containers that ran: the host's ends of their veth pairs are looked for
        keep   containers that ended without --rm: their row and directory belong there, and nothing else of them
        """
        deadline = time.monotonic() + PATIENCE
        while (left := list(self._find(set(ids), set(keep)))) and time.monotonic() < deadline:
            time.sleep(0.01)
        return left

    def _find(self, ids: set[str], keep: set[str]) -> Iterator[str]:
        yield from self._in_database(keep)
        for directory in ("containers", "tmp"):
            yield from (
                f"directory {self.root}/{directory}/{name}" for name in _list(f"{self.root}/{directory}") - keep
            )
        for directory in ("containers", "engine", "monitors", "words"):
            yield from (f"file {self.state}/{directory}/{name}" for name in _list(f"{self.state}/{directory}"))
        yield from (f"link {name}" for name in _list(f"/sys/class/net/{self.bridge}/brif"))
        yield from (f"link {name}" for name in _list("/sys/class/net") & {f"pyc{name[:12]}" for name in ids})
        yield from (f"cgroup {path}" for path in self.cgroups())
        yield from self.processes()
        yield from self.mounts()

    def _in_database(self, keep: set[str]) -> Iterator[str]:
        path = f"{self.root}/db.sqlite"
        if not os.path.exists(path):
            return
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            for row in connection.execute("SELECT id, status, error FROM containers"):
                if row[0] not in keep or row[1] != "exited":
                    yield f"row {row}"
            for row in connection.execute("SELECT address, container_id FROM leases"):
                yield f"lease {row}"
        except sqlite3.OperationalError as error:
            # A command that was killed may have been the first, and have made no tables yet.
            assert "no such table" in str(error)
        finally:
            connection.close()

    def processes(self) -> list[str]:
        """Those whose environment or command line names the installation; not this one, its parents, its launcher.

        Nor what waits there for a client.
        """
        lines = []
        launcher = lock_holder(pathlib.Path(self.state, "launcher.lock"))
        ours = self._ours | {launcher}
        for pid in _list("/proc"):
            if not pid.isdigit() or int(pid) in ours or (launcher and _read(f"/proc/{pid}/comm") == b"pyc-spare\n"):
                continue
            command = _read(f"/proc/{pid}/cmdline")
            text = command + _read(f"/proc/{pid}/environ")
            if any(mark in text for mark in self._marks):
                lines.append(f"process {pid} {command.replace(bytes(1), b' ').decode(errors='replace')}")
        return lines

    def mounts(self) -> list[str]:
        """Mounts of anything below the roots, in whatever mount namespace."""
        lines = []
        seen = set()
        for pid in _list("/proc"):
            if not pid.isdigit():
                continue
            try:
                namespace = os.stat(f"/proc/{pid}/ns/mnt").st_ino
            except OSError:
                continue
            if namespace not in seen:
                seen.add(namespace)
                text = _read(f"/proc/{pid}/mountinfo")
                for line in text.splitlines() if any(mark in text for mark in self._marks) else []:
                    if any(mark in line for mark in self._marks) and not self._is_own_root(line):
                        lines.append(f"mount in the namespace of {pid}: {line.decode(errors='replace')}")
        return lines

    def _is_own_root(self, line: bytes) -> bool:
        """Whether a test has mounted a file system for the installation to live on."""
        return line.split()[4].endswith(self._marks[0])

    def cgroups(self) -> list[str]:
        """The installation's directory in the cgroup v2 hierarchy, and those in it."""
        with open("/proc/self/mountinfo") as file:
            tops = [
                pathlib.Path(line.split()[4], os.path.basename(self.state)) for line in file if " - cgroup2 " in line
            ]
        return [str(path) for top in tops for path in (top, *top.glob("*")) if path.is_dir()]

    def tables(self) -> list[str]:
        """The nft tables of the installation: one, once there was a network."""
        listing = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        return [line for line in listing.splitlines() if line.endswith(f"_{self.bridge}")]


def network_namespaces() -> set[str]:
    """Those that a mount keeps alive without a process."""
    with open("/proc/self/mountinfo") as file:
        return {line.split()[4] for line in file if " - nsfs " in line}


def _list(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def _read(path: str) -> bytes:
    # By the system calls, because every look reads some hundreds of files in /proc.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(descriptor, 1 << 17), b""))
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _ancestors() -> set[int]:
    found = set()
    pid = os.getpid()
    while pid > 1:
        found.add(pid)
        pid = int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    return found
