"""`why`: why a container is not running, or is in trouble."""

from __future__ import annotations

import sys

from pycontainer import json_text
from pycontainer.cli.main import for_each, notice
from pycontainer.engine import containers, evidence, monitors, why
from pycontainer.engine.config.quantity import format_size
from pycontainer.engine.repair import open_engine
from pycontainer.errors import printable
from pycontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings
    from pycontainer.engine.why import Verdict

Json = dict[str, "Any"]

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60  # columns of the plot at most


def explain(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer why`: exit status 0 whatever the verdict is. Raises UsageError, HostError."""
    connection = open_engine(settings, notice)
    found: list[Json] = []

    def show(name: str) -> None:
        container = containers.find(connection, name)
        known = _evidence(settings, container)
        verdict = why.judge(container, known)
        if "json" in values:
            found.append(_json(container, verdict, known))
            return
        lines = [f"{container.name}: {verdict.text}", *(f"  {line}" for line in _lines(container, verdict, known))]
        sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))

    status = for_each(operands, show)
    if "json" in values:
        sys.stdout.write(f"{json_text.pretty(found)}\n")
    return status


def _evidence(settings: Settings, container: Container) -> Json:
    if not container.is_active:
        return evidence.load(settings, container.id)
    known = evidence.now(settings, container)
    known["samples"] = monitors.samples(settings, container.id)
    return known


def _json(container: Container, verdict: Verdict, known: Json) -> Json:
    return {
        "Id": container.id,
        "Name": container.name,
        "Status": container.shown_status,
        "ExitCode": container.exit_status,
        "Verdict": verdict.kind,
        "Text": verdict.text,
        "Details": verdict.details,
        "Advice": verdict.advice,
        "OOMKills": evidence.oom_kills(known),
        "Evidence": known,
    }


def _lines(container: Container, verdict: Verdict, known: Json) -> Iterator[str]:
    yield from verdict.details
    facts = list(_facts(container, known))
    width = max((len(name) for name, _ in facts), default=0)
    for name, text in facts:
        yield f"{name:{width}}  {text}"
    yield from _plot(_samples(verdict, known), known.get("limit"))
    if verdict.advice:
        yield f"-> {verdict.advice}"


def _facts(container: Container, known: Json) -> Iterator[tuple[str, str]]:
    """What was counted, with the names of the kernel's files: name and text."""
    if container.status == "exited":
        number = known.get("ended_by")
        yield "exit status", f"{container.exit_status}" + (f" ({signals.name(number)})" if number else "")
    for kill in (known.get("kills") or [])[-5:]:
        parts = ", ".join(f"{format_size(size)} {kind}" for kind, size in kill["memory"].items() if kind != "total")
        yield "killed", f"{kill['name']} (pid {kill['pid']} on the host) with {parts or 'no memory'}"
    if "usage" in known:
        yield from _memory(known)
    events = known.get("events") or {}
    if any(events.values()):
        yield "memory.events", ", ".join(f"{name} {count}" for name, count in events.items() if count)
    pids = known.get("pids") or {}
    if pids.get("max"):
        yield "pids.events", f"max {pids['max']}: the limit of {known.get('pids_limit')} was met so often"
    cpu = known.get("cpu") or {}
    if cpu.get("nr_throttled"):
        seconds = cpu.get("throttled_usec", 0) / 1e6
        yield "cpu.stat", f"throttled in {cpu['nr_throttled']} of {cpu['nr_periods']} periods, {seconds:.1f} s in all"
    waits = [
        f"{kind} {times['some']:.2f} s"
        for kind, times in (known.get("pressure") or {}).items()
        if times.get("some", 0) >= 0.01
    ]
    if waits:
        yield "waited for", ", ".join(waits)


def _memory(known: Json) -> Iterator[tuple[str, str]]:
    """The peak against the limit; what it was used for when the OOM killer came, or at the end."""
    limit = known.get("limit")
    of = f" of {format_size(limit)}" if limit else ", without a limit"
    if "peak" in known:
        yield "memory peak", f"{format_size(known['peak'])}{of}"
    told = [kill["usage"] for kill in known.get("kills") or [] if kill.get("usage")]
    usage = told[-1] if told else known["usage"]
    when = "at the kill" if told else "at the end" if "ended_by" in known else "now"
    yield f"memory {when}", ", ".join(f"{name} {format_size(size)}" for name, size in usage.items() if name != "slab")


def _samples(verdict: Verdict, known: Json) -> list[list[float]]:
    """Seconds and bytes; at an end by the OOM killer what the kernel saw, because a sample comes before or after it."""
    samples: list[list[float]] = known.get("samples") or []
    if verdict.kind != "oom" or not samples:
        return samples
    seconds, size = samples[-1]
    return [*samples[:-1], [seconds, max(size, known.get("peak") or 0)]]


def _plot(samples: list[list[float]], limit: int | None) -> Iterator[str]:
    """Memory over time, against the limit or, without one, the most that there was."""
    if len(samples) < 3:
        return
    limit = limit or int(max(size for _, size in samples)) or 1
    span = samples[-1][0] - samples[0][0] or 1
    columns = min(_WIDTH, len(samples))
    bars = [0.0] * columns
    for seconds, size in samples:
        column = min(int((seconds - samples[0][0]) / span * columns), columns - 1)
        bars[column] = max(bars[column], size)
    for column in range(1, columns):
        bars[column] = bars[column] or bars[column - 1]
    line = "".join(_BARS[min(int(size / limit * len(_BARS)), len(_BARS) - 1)] for size in bars)
    yield f"{line}  {format_size(limit)}"
    yield f"{samples[0][0]:.1f} s{'':{max(columns - 10, 1)}}{samples[-1][0]:.1f} s of the run"
