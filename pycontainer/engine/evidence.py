"""What a container's cgroup told of a run, kept with the container: who was killed, what the memory was used for.

Read before the cgroup is removed, and written to `evidence.json` in the container's directory. The counters are those
of admin-guide/cgroup-v2.rst; a cgroup is new for every run, so each counts from its start. What the host has not got
in cgroup v2 is not there.
"""

from __future__ import annotations

import os
import time

from pycontainer import json_text
from pycontainer.kernel import cgroup, kernel_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings

Json = dict[str, "Any"]

_MOST_KILLS = 50
_FILES = {
    # name in the evidence -> file of the cgroup; one number, or "max", which is None
    "limit": "memory.max",
    "high": "memory.high",
    "peak": "memory.peak",
    "swap_limit": "memory.swap.max",
    "swap_peak": "memory.swap.peak",
    "pids_limit": "pids.max",
    "pids_peak": "pids.peak",
}
_TABLES = {
    # name in the evidence -> (file of `key number` lines, the keys of interest)
    "events": ("memory.events", ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")),
    "usage": ("memory.stat", ("anon", "file", "shmem", "kernel", "slab")),
    "pids": ("pids.events", ("max",)),
    "cpu": ("cpu.stat", ("usage_usec", "nr_periods", "nr_throttled", "throttled_usec")),
}


def gather(directory: str, name: str, log: int = -1) -> Json:
    """What there is to know of the cgroup `directory`; `name` is its path from the hierarchy's root.

    log  a descriptor of kernel_log.open_at_end, -1 for none

    {"limit": bytes, …, "events": {…}, "usage": {…}, "pids": {…}, "cpu": {…}, "pressure": {"memory": {"some": seconds,
    "full": seconds}, …}, "kills": […]}; nothing that cannot be read.
    """
    found: Json = {}
    for key, file in _FILES.items():
        text = _read(f"{directory}/{file}").strip()
        if text:
            found[key] = None if text == "max" else int(text)
    found.update(_tables(directory, tuple(_TABLES)))
    pressure = {kind: _pressure(_read(f"{directory}/{kind}.pressure")) for kind in ("cpu", "io", "memory")}
    found["pressure"] = {kind: each for kind, each in pressure.items() if each}
    found["kills"] = read_kills(log, name) if log >= 0 else []
    return found


def _tables(directory: str, names: tuple[str, ...]) -> Json:
    found = {}
    for name in names:
        file, wanted = _TABLES[name]
        table = dict(line.split()[:2] for line in _read(f"{directory}/{file}").splitlines())
        if table:
            found[name] = {each: int(table[each]) for each in wanted if each in table}
    return found


def read_kills(log: int, name: str) -> list[Json]:
    """The processes of the cgroup `name` that the OOM killer has ended since the last call."""
    return [
        {
            "pid": kill.pid,
            "name": kill.name,
            "memory": kill.memory,
            "host": kill.is_host,
            "own": _is_in(kill.limited, name),
            "usage": {key: kill.usage[key] for key in _TABLES["usage"][1] if key in kill.usage},
            "time": time.time(),
        }
        for kill in kernel_log.oom_kills(kernel_log.read_lines(log))
        if _is_in(kill.member, name)
    ]


def _is_in(path: str, name: str) -> bool:
    # The kernel's paths begin at the host's root, ours perhaps at that of a cgroup namespace.
    return f"{name}/" in f"{path}/"


def oom_kills(evidence: Json) -> int:
    """How many processes the OOM killer has ended."""
    return int((evidence.get("events") or {}).get("oom_kill", 0))


def count_oom_kills(settings: Settings, container: Container) -> int:
    """The same of a container, as it is now where it is active."""
    if not container.is_active:
        return oom_kills(load(settings, container.id))
    hierarchy = cgroup.find_hierarchy()
    if hierarchy is None:
        return 0
    return oom_kills(_tables(hierarchy.mountpoint + container.cgroup(settings), ("events",)))


def store(settings: Settings, container_id: str, evidence: Json) -> None:
    """Keep it with the container; of a run that has ended, with `ended_by`.

    Where that cannot be, on a full disk say, there is none: no end waits for it.
    """
    path = _path(settings, container_id)
    known = _of_this_run(settings, container_id)
    kills = [*known.get("kills", []), *evidence.get("kills", [])]
    try:
        with open(f"{path}.new", "w") as file:
            file.write(json_text.dumps({**known, **evidence, "kills": kills[-_MOST_KILLS:]}))
        os.rename(f"{path}.new", path)
    except OSError:
        try:
            forget(settings, container_id)
        except OSError:
            # On a disk that has become read-only.
            pass


def load(settings: Settings, container_id: str) -> Json:
    """Of the last run, as far as there is any; {} otherwise."""
    try:
        with open(_path(settings, container_id)) as file:
            found = json_text.loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_this_run(settings: Settings, container_id: str) -> Json:
    """What was kept while it ran; what was kept at the end of a run is of an earlier one."""
    known = load(settings, container_id)
    return {} if "ended_by" in known else known


def now(settings: Settings, container: Container) -> Json:
    """Of a container that runs: what is known of its kills, and its cgroup as it is now."""
    hierarchy = cgroup.find_hierarchy()
    if hierarchy is None:
        return {}
    name = container.cgroup(settings)
    kills = _of_this_run(settings, container.id).get("kills", [])
    return {**gather(hierarchy.mountpoint + name, name), "kills": kills}


def forget(settings: Settings, container_id: str) -> None:
    """A user starts it again. Raises OSError."""
    for suffix in ("", ".new"):
        try:
            os.unlink(_path(settings, container_id) + suffix)
        except FileNotFoundError:
            pass


def _path(settings: Settings, container_id: str) -> str:
    return f"{settings.container_directory(container_id)}/evidence.json"


def _read(path: str) -> str:
    try:
        return cgroup.read(path)
    except OSError:
        return ""


def _pressure(text: str) -> dict[str, float]:
    """Seconds in which some, or all, had to wait: the totals of Documentation/accounting/psi.rst."""
    found = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        found[kind] = int(fields[-1].removeprefix("total=")) / 1e6
    return found
