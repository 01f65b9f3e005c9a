"""The kernel's log, /dev/kmsg, as far as it tells whom the OOM killer has ended: Documentation/ABI/testing/dev-kmsg.

One record a read(2): `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`. Of a kill there are, in this order, tables of what
the memory was used for, a line `oom-kill:constraint=…,oom_memcg=…,task_memcg=…,task=…,pid=…`, and for each process
that is killed `… Killed process PID (NAME) total-vm:…kB, anon-rss:…kB, file-rss:…kB, shmem-rss:…kB …` (mm/oom_kill.c).
"""

from __future__ import annotations

import os

_PATH = "/dev/kmsg"
_LARGEST_RECORD = 8192  # bytes: CONSOLE_EXT_LOG_MAX
_MOST_RECORDS = 20_000


class OomKill:
    """One process that the OOM killer has ended.

    pid      on the host
    is_host  because the machine had no memory left, and not a cgroup
    limited  path of the cgroup whose limit was reached; "" if is_host, or if not told
    member   path of the cgroup that the process was chosen in; "" if not told
    memory   bytes: total, anon, file, shmem
    usage    what the memory of `limited` was used for at that moment, as in memory.stat: bytes; empty if not told
    """

    __slots__ = ("is_host", "limited", "member", "memory", "name", "pid", "usage")

    def __init__(
        self,
        pid: int,
        name: str,
        memory: dict[str, int],
        *,
        is_host: bool,
        limited: str,
        member: str,
        usage: dict[str, int],
    ) -> None:
        self.pid = pid
        self.name = name
        self.memory = memory
        self.is_host = is_host
        self.limited = limited
        self.member = member
        self.usage = usage


def open_at_end() -> int:
    """A descriptor that reads what the kernel logs from now on, -1 where it may not be read."""
    try:
        descriptor = os.open(_PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        os.lseek(descriptor, 0, os.SEEK_END)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def read_lines(descriptor: int) -> list[str]:
    """What was logged since the last call, oldest first. What the kernel has overwritten meanwhile is missing."""
    lines: list[str] = []
    for _ in range(_MOST_RECORDS):
        try:
            record = os.read(descriptor, _LARGEST_RECORD)
        except BlockingIOError:
            break
        except BrokenPipeError:
            # Overwritten: the next read gives the oldest that is there.
            continue
        except OSError:
            break
        _, _, text = record.decode(errors="replace").partition(";")
        # What follows in the record is a dictionary of the device; a line feed in the text itself is written \x0a.
        lines.extend(text.partition("\n")[0].replace("\\x0a", "\n").split("\n"))
    return lines


def oom_kills(lines: list[str]) -> list[OomKill]:
    """Every process of which they say that the OOM killer has ended it."""
    found: list[OomKill] = []
    usage: dict[str, int] = {}
    of = ""
    told: dict[str, str] = {}
    for line in lines:
        if line.startswith("Memory cgroup stats for "):
            # Linux 6.1 writes the first of them behind it.
            of, _, first = line.removeprefix("Memory cgroup stats for ").partition(":")
            usage = {}
            _add(usage, first)
        elif line.startswith("oom-kill:"):
            told = dict(part.partition("=")[::2] for part in line.removeprefix("oom-kill:").split(","))
        elif line.startswith("Tasks in ") and line.endswith("memory.oom.group set"):
            # From here on whoever is killed is one of these, and not only the one who was chosen.
            told.pop("pid", None)
        elif ": Killed process " in line:
            kill = _killed(line, told, usage if told.get("oom_memcg") == of else {})
            if kill is not None:
                found.append(kill)
        elif of:
            _add(usage, line)
    return found


def _add(usage: dict[str, int], line: str) -> None:
    name, _, number = line.strip().partition(" ")
    if number.isdecimal():
        usage[name] = int(number)


def _killed(line: str, told: dict[str, str], usage: dict[str, int]) -> OomKill | None:
    before, _, after = line.partition("Killed process ")
    pid, _, rest = after.partition(" (")
    # The name may hold anything, a parenthesis too.
    name, _, numbers = rest.rpartition(") total-vm:")
    if not pid.isdecimal():
        return None
    if told.get("pid", pid) != pid:
        # The kernel leaves out the tables, and with them the paths, of kills that follow each other too fast.
        told, usage = {}, {}
    sizes = {}
    for part in f"total-vm:{numbers}".replace(",", " ").split():
        key, _, size = part.partition(":")
        if key in ("total-vm", "anon-rss", "file-rss", "shmem-rss") and size.removesuffix("kB").isdecimal():
            sizes[key.partition("-")[0]] = int(size.removesuffix("kB")) << 10
    is_host = not before.startswith("Memory cgroup")
    return OomKill(
        int(pid),
        name,
        sizes,
        is_host=is_host,
        limited="" if is_host else told.get("oom_memcg", ""),
        member=told.get("task_memcg", ""),
        usage=usage,
    )
