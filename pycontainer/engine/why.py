"""Why a container is not running, or is in trouble: a verdict out of its row and of what evidence.py has kept.

What the kernel has counted for the container's own cgroup decides; that a status is 137 says nothing, for a program may
choose it, and so may whoever sends SIGKILL.
"""

from __future__ import annotations

import time

from pycontainer.engine import evidence, teardown
from pycontainer.engine.config.quantity import format_size
from pycontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.containers import Container

Json = dict[str, "Any"]

_CRASHES = {
    "SIGABRT": "it gave up by itself: abort(3), an assertion say",
    "SIGBUS": "it used memory that is not there any more, of a mapped file that became shorter say",
    "SIGFPE": "a division by zero, or its like",
    "SIGILL": "it came to an instruction that this processor does not have",
    "SIGSEGV": "it used memory that is not its own",
    "SIGSYS": "it made a system call that a seccomp filter forbids",
    "SIGTRAP": "a debugger's trap, with no debugger there",
}
_SENDERS = {
    "client": ("interrupted", "the terminal or the process that ran it in the foreground passed on"),
    "terminal": ("interrupted", "its terminal sent"),
    "stop": ("stopped", "`pycontainer stop` sent"),
    "kill": ("killed", "`pycontainer kill` sent"),
    "shutdown": ("stopped", "the machine was shut down, or somebody told its monitor to end, which sent"),
}
_SOON = 2.0  # seconds in which the death of a child can be what its parent ended for
_THROTTLED = 0.25  # of the periods


class Verdict:
    """What happened.

    kind     oom, oom-parent, oom-child, oom-host, stopped, stop-timeout, interrupted, killed, killed-outside, crashed,
             exited, pids, unhealthy, throttled, never-started, not-started, monitor-killed, machine-down, running,
             paused, restarting, unknown
    text     one line
    details  more lines, without the numbers of the evidence
    advice   what to do, "" where there is nothing to say
    """

    def __init__(self, kind: str, text: str, details: list[str] | None = None, advice: str = "") -> None:
        self.kind = kind
        self.text = text
        self.details = details or []
        self.advice = advice


def judge(container: Container, found: Json) -> Verdict:
    """The verdict; `found` is what evidence.py knows of the container's last run."""
    if container.status == "created":
        return Verdict("not-started", "it was made and never started", advice=f"pycontainer start {container.name}")
    if container.status == "exited":
        verdict = _of_row(container) or _of_kill(container, found) or _of_signal(container, found)
        return verdict or _of_exit(container, found)
    return _of_trouble(container, found)


def _of_row(container: Container) -> Verdict | None:
    """What the one who recorded the end has said, where it was not the program's."""
    if container.error == teardown.KILLED:
        text = "the pycontainer process that looked after it was killed, and the program with it"
        return Verdict("monitor-killed", text, advice="was it the host's OOM killer? `dmesg` tells")
    if container.error == teardown.LOST:
        return Verdict("machine-down", "the machine went down while it ran")
    if container.error:
        return Verdict("never-started", "it could not be started", container.error.splitlines())
    return None


def _of_kill(container: Container, found: Json) -> Verdict | None:
    """What the OOM killer did, where that was the end of it."""
    if not evidence.oom_kills(found):
        return None
    if found.get("ended_by") == signals.SIGKILL and not _sent(found, signals.SIGKILL):
        return _oom(container, found)
    if found.get("ended_by") == 0 and container.exit_status != 0 and _is_recent(container, found):
        kind, where = _cause(container, found)
        if kind == "oom-host":
            return Verdict(kind, f"a process of it was killed: {where}; then it exited with {container.exit_status}")
        text = f"a process of it was killed by the OOM killer, {where}; then it exited with {container.exit_status}"
        return Verdict("oom-child", text, advice=suggest(container, found))
    return None


def _oom(container: Container, found: Json) -> Verdict:
    kind, where = _cause(container, found)
    if kind == "oom-host":
        advice = "give containers limits (-m), so that the one that takes too much is the one that ends"
        return Verdict(kind, f"killed by the kernel: {where}", advice=advice)
    advice = suggest(container, found) if kind == "oom" else "raise the limit of that cgroup, or put less into it"
    return Verdict(kind, f"killed by the kernel: {where}", advice=advice)


def _cause(container: Container, found: Json) -> tuple[str, str]:
    """Whose memory was used up: the verdict's kind, and words for it."""
    events = found.get("events") or {}
    kills = found.get("kills") or []
    if any(kill["host"] for kill in kills) or (not events.get("oom") and not any(kill["own"] for kill in kills)):
        if any(not kill["host"] and not kill["own"] for kill in kills):
            return "oom-parent", "the memory limit of a cgroup above it was reached"
        return "oom-host", "the machine as a whole ran out of memory, not this container"
    limit = found.get("limit")
    return "oom", f"the memory limit of {format_size(limit)} was reached" if limit else "a memory limit was reached"


def _is_recent(container: Container, found: Json) -> bool:
    """Whether the last kill came right before the end; so it is taken where the kernel has not told of the kill."""
    times = [kill["time"] for kill in found.get("kills") or [] if "time" in kill]
    return not times or (container.finished or 0) - max(times) < _SOON


def oom_line(container: Container, exit_status: int, found: Json) -> str:
    """A line for whoever ran it in the foreground, "" where its end was not the OOM killer's."""
    container.exit_status, container.finished = exit_status, time.time()
    verdict = _of_kill(container, found)
    if verdict is None:
        return ""
    text = verdict.text.replace("killed by the kernel", "killed", 1)
    text = text if text.endswith(f"with {exit_status}") else f"{text} (exit {exit_status})"
    return text if container.config.remove else f"{text}; pycontainer why {container.name} tells more"


def _of_signal(container: Container, found: Json) -> Verdict | None:
    """What a signal was the end of."""
    number = found.get("ended_by") or 0
    sent = [(int(number), str(sender)) for number, sender in found.get("sent") or []]
    if sent and sent[-1] == (signals.SIGKILL, "timeout") and number == signals.SIGKILL:
        asked = next((name for each, name in reversed(sent) if name != "timeout"), "stop")
        first = next((signals.name(each) for each, name in reversed(sent) if name == asked), "SIGTERM")
        text = f"it was told to stop by {first}, did not in time, and was killed"
        advice = "a longer `pycontainer stop -t`, another --stop-signal, or --init if the program is a shell's child"
        return Verdict("stop-timeout", text, advice=advice)
    for each, sender in reversed(sent):
        if sender not in _SENDERS or (number and each != number):
            continue
        if not number and sender == "client" and container.exit_status == 0:
            continue
        kind, words = _SENDERS[sender]
        ending = "" if number else f", and it exited with {container.exit_status}"
        return Verdict(kind, f"{kind}: {words} {signals.name(each)}{ending}")
    if not number:
        return None
    name = signals.name(number)
    if name in _CRASHES:
        return Verdict("crashed", f"it crashed: {name}, {_CRASHES[name]}")
    if number == signals.SIGKILL:
        text = "SIGKILL from outside the container, not from pycontainer: by root on the host, or by another program"
        # pid_namespaces(7): none of its own processes could have sent it.
        details = ["its own processes cannot send this signal to the first one"]
        if "events" in found:
            details.append("it was not the OOM killer: its cgroup has counted no kill")
        else:
            details.append(
                "the OOM killer is not ruled out: this host's memory controller is not in cgroup v2; see dmesg"
            )
        return Verdict("killed-outside", f"killed: {text}", details)
    return Verdict("killed-outside", f"killed by {name}, which pycontainer did not send")


def _of_exit(container: Container, found: Json) -> Verdict:
    """It chose to end."""
    status = container.exit_status or 0
    if "ended_by" not in found and status > 128:
        return Verdict("unknown", f"it ended with {status}; nothing more was recorded of this run")
    refused = (found.get("pids") or {}).get("max", 0)
    if status and refused:
        limit = found.get("pids_limit")
        text = f"it exited with {status}, and {refused} times it could have no more processes: the limit is {limit}"
        return Verdict("pids", text, advice="a higher --pids-limit, if that many are meant to be")
    details = []
    if evidence.oom_kills(found):
        details.append("the OOM killer has ended a process of it earlier, which this container outlived")
    if status > 128 and signals.name(status - 128).startswith("SIG"):
        name = signals.name(status - 128)
        details.append(f"it chose this status itself: a shell does so when a command of its own ends by {name}")
    elif status in (126, 127):
        cause = "could not be executed" if status == 126 else "was not found"
        details.append(f"a shell ends so when a command {cause}; `pycontainer logs {container.name}` shows which")
    elif status:
        details.append(f"`pycontainer logs {container.name}` shows what it wrote")
    return Verdict("exited", f"it exited by itself with {status}", details)


def _of_trouble(container: Container, found: Json) -> Verdict:
    """Of a container that runs."""
    if container.status == "restarting":
        text = f"it waits for its restart, number {container.restart_count + 1}; the last run exited with"
        return Verdict("restarting", f"{text} {container.exit_status}")
    if container.status == "paused":
        text = "it is paused: its processes get no processor time"
        return Verdict("paused", text, advice=f"pycontainer unpause {container.name}")
    if container.health.get("Status") == "unhealthy":
        last = (container.health.get("Log") or [{}])[-1]
        text = f"its health check has failed {container.health.get('FailingStreak', 0)} times in a row"
        return Verdict("unhealthy", text, str(last.get("Output", "")).splitlines()[:5])
    if kills := evidence.oom_kills(found):
        times = f"{kills} of its processes" if kills > 1 else "a process of it"
        return Verdict("oom-child", f"it runs, but the OOM killer has ended {times}", advice=suggest(container, found))
    if refused := (found.get("pids") or {}).get("max", 0):
        text = f"it runs, but {refused} times it could have no more processes: the limit is {found.get('pids_limit')}"
        return Verdict("pids", text, advice="a higher --pids-limit, if that many are meant to be")
    cpu = found.get("cpu") or {}
    if cpu.get("nr_throttled", 0) > _THROTTLED * max(cpu.get("nr_periods", 0), 1):
        share = cpu["nr_throttled"] / cpu["nr_periods"]
        text = f"it runs, but waits for its share of the processors in {share:.0%} of the periods (--cpus)"
        return Verdict("throttled", text, advice="more --cpus, or less work")
    return Verdict("running", "it runs, and nothing is known to be wrong")


def _sent(found: Json, number: int) -> bool:
    return any(each == number for each, _ in found.get("sent") or [])


def suggest(container: Container, found: Json) -> str:
    """A memory limit that may be enough, with the reason; a container that grows has none."""
    limit = found.get("limit")
    if not limit:
        return ""
    if rate := growth(found.get("samples") or []):
        grown = format_size(int(rate * 60))
        longer = _duration(limit / rate)
        return f"it grew to the end, by {grown} a minute, as a leak does: twice the limit would last {longer} longer"
    wanted = max((kill["memory"].get("total", 0) for kill in found.get("kills") or []), default=0)
    kills = found.get("kills") or [{}]
    others = max(limit - sum(kills[-1].get("memory", {}).get(kind, 0) for kind in ("anon", "shmem")), 0)
    enough = wanted + others
    if limit < enough <= 4 * limit:
        reason = f"{kills[-1]['name']} had asked for {format_size(wanted)} of memory, others had {format_size(others)}"
        return f"try -m {_rounded(enough)}: {reason}"
    return f"try -m {_rounded(2 * limit)}, and look at what it takes with `pycontainer stats`: all of it was in use"


def growth(samples: list[list[float]]) -> float:
    """Bytes a second by which memory grew to the end; 0 where it did not grow steadily, or too little is known."""
    later = samples[-20:]
    if len(later) < 5:
        return 0
    rises = sum(later[i + 1][1] > later[i][1] for i in range(len(later) - 1))
    seconds = later[-1][0] - later[0][0]
    if rises < 0.8 * (len(later) - 1) or seconds <= 0:
        return 0
    return (later[-1][1] - later[0][1]) / seconds


def _rounded(size: int) -> str:
    """To the next 16 MiB, or the next eighth of what it is."""
    step = max(16 << 20, 1 << max(size.bit_length() - 4, 0))
    return format_size((size + step - 1) // step * step)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
