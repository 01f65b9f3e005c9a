"""What a container uses at one moment, as the kernel counts it, and what two such moments say of the time between them.

The counters are those of admin-guide/cgroup-v2.rst, Documentation/accounting/psi.rst and proc_pid_net(5). What the host
has not got in cgroup v2 is None.
"""

from __future__ import annotations

import os
import time

from pycontainer.kernel import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings
    from pycontainer.kernel.cgroup import Hierarchy

    Pair = tuple[int, int]

PARTS = ("anon", "file", "kernel", "shmem")
PRESSURES = ("cpu", "memory", "io")


class Sample:
    """A container at one moment: bytes, microseconds, and seconds of the monotonic clock.

    key       tells one run of a container from the next, whose counters begin anew
    current   memory in use, the page cache too
    memory    what is in use without the page cache that could be dropped at once: the working set, as docker has it
    limit     the least of the limits of its cgroup, those above it, and the machine's memory
    parts     what memory is used for, by PARTS; the page cache with shared memory is `file`
    network   received and sent, in its own network namespace; None where it has the host's
    block     read and written
    pids      processes and threads
    pressure  how long some of its processes have had to wait, by PRESSURES
    """

    def __init__(self, hierarchy: Hierarchy, directory: str, pid: int) -> None:
        self.time = time.monotonic()
        self.key = f"{directory} {pid}"
        usage = _table(_read(f"{directory}/cpu.stat")).get("usage_usec")
        stat = _table(_read(f"{directory}/memory.stat"))
        current = _number(f"{directory}/memory.current")
        self.cpu = usage
        self.current = current
        self.memory = None if current is None else max(current - stat.get("inactive_file", 0), 0)
        self.limit = None if current is None else _limit(hierarchy, directory)
        self.parts = {name: stat[name] for name in PARTS if name in stat}
        self.peak = _number(f"{directory}/memory.peak")
        self.swap = _number(f"{directory}/memory.swap.current")
        self.network = _network(pid)
        self.block = _block(directory)
        self.pids = _number(f"{directory}/pids.current")
        self.pressure = {kind: total for kind in PRESSURES if (total := _some(directory, kind)) is not None}

    def cpu_percent(self, before: Sample | None) -> float | None:
        """Of one processor, since `before`."""
        if self.cpu is None or before is None or before.cpu is None:
            return None
        return self._percent(before, self.cpu - before.cpu)

    def memory_percent(self) -> float | None:
        """Of the limit."""
        return 100 * self.memory / self.limit if self.memory is not None and self.limit else None

    def pressure_percent(self, before: Sample | None) -> dict[str, float]:
        """The part of the time since `before` in which some processes had to wait; {} where nothing is known."""
        if before is None:
            return {}
        found = {}
        for kind, total in self.pressure.items():
            if kind in before.pressure:
                percent = self._percent(before, total - before.pressure[kind])
                if percent is not None:
                    found[kind] = percent
        return found

    def _percent(self, before: Sample, microseconds: int) -> float | None:
        seconds = self.time - before.time
        if before.key != self.key or seconds <= 0:
            return None
        return max(microseconds, 0) / seconds / 1e4


def sample(settings: Settings, hierarchy: Hierarchy, container: Container) -> Sample | None:
    """The container now; None where it has no processes."""
    if not container.is_active:
        return None
    directory = hierarchy.mountpoint + container.cgroup(settings)
    # It may have ended since its row was read.
    return Sample(hierarchy, directory, container.pid) if os.path.isdir(directory) else None


def _limit(hierarchy: Hierarchy, directory: str) -> int | None:
    found = []
    while directory.startswith(f"{hierarchy.mountpoint}/"):
        found.append(_number(f"{directory}/memory.max"))
        directory = os.path.dirname(directory)
    found += [size << 10 for name, size in _table(_read("/proc/meminfo")).items() if name == "MemTotal:"]
    return min((size for size in found if size is not None), default=None)


def _network(pid: int) -> Pair | None:
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return None
        lines = _read(f"/proc/{pid}/net/dev").splitlines()[2:]
    except OSError:
        return None
    received = sent = 0
    for line in lines:
        name, _, counters = line.partition(":")
        if name.strip() != "lo":
            fields = counters.split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent


def _block(directory: str) -> Pair | None:
    try:
        text = cgroup.read(f"{directory}/io.stat")
    except OSError:
        return None
    read = written = 0
    for word in text.split():
        name, _, value = word.partition("=")
        read += int(value) if name == "rbytes" else 0
        written += int(value) if name == "wbytes" else 0
    return read, written


def _some(directory: str, kind: str) -> int | None:
    """Microseconds in which some had to wait."""
    for line in _read(f"{directory}/{kind}.pressure").splitlines():
        if line.startswith("some "):
            return int(line.rpartition("total=")[2])
    return None


def _table(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    return {fields[0]: int(fields[1]) for line in text.splitlines() if (fields := line.split())[1:2]}


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text and text != "max" else None


def _read(path: str) -> str:
    try:
        return cgroup.read(path)
    except OSError:
        return ""
