"""`stats`: what the containers use, as docker shows it, and what it is used for."""

from __future__ import annotations

import sys
import time

from pycontainer.cli.listing import Listing
from pycontainer.cli.main import notice
from pycontainer.cli.table import binary_size, human_size
from pycontainer.engine import containers, stats
from pycontainer.engine.repair import open_engine
from pycontainer.errors import HostError, UsageError
from pycontainer.kernel import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.cli.listing import Row
    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings
    from pycontainer.engine.stats import Sample
    from pycontainer.kernel.cgroup import Hierarchy

COLUMNS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
    "MemParts": "MEM PARTS",
    "MemPeak": "MEM PEAK",
    "Swap": "SWAP",
    "Pressure": "PRESSURE CPU / MEM / IO",
}
_DEFAULT = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"]
# Those that are found out from two looks.
_RATES = ("CPUPerc", "Pressure")
_NEEDED = {
    "memory": ("MemUsage", "MemPerc", "MemParts", "MemPeak", "Swap"),
    "io": ("BlockIO",),
    "pids": ("PIDs",),
}
_INTERVAL = 1.0  # seconds
_UNKNOWN = "--"
_CLEAR = "\x1b[H\x1b[J"


def show(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer stats`: until Ctrl-C, or until none is left of the CONTAINERs.

    Raises NotFound, UsageError, HostError; with --plot Conflict too.
    """
    if "plot" in values:
        return _plot(settings, values, operands)
    listing = Listing(values, COLUMNS, _DEFAULT)
    view = _View(settings, open_engine(settings, notice), listing, operands, everything=bool(values.get("all")))
    if "no_stream" in values:
        if any(listing.needs(name) for name in _RATES):
            view.look()
            time.sleep(_INTERVAL)
        listing.print(view.look())
        view.explain()
        return 0
    live = sys.stdout.isatty()
    if live:
        # A table is written as one, because between two of its lines it would be seen to flicker.
        sys.stdout.reconfigure(line_buffering=False)  # type: ignore[union-attr]
    try:
        _follow(view, listing, live=live)
    except KeyboardInterrupt:
        # It is how one ends it.
        pass
    return 0


def _plot(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    others = [name for name in ("all", "format", "no_trunc") if name in values]
    if len(operands) != 1 or others:
        hint = "as in: pycontainer stats --plot NAME"
        raise UsageError("stats", "--plot", "it draws one container, which is named, and has no other format", hint)
    from pycontainer.cli import plot

    connection = open_engine(settings, notice)
    once = "no_stream" in values or not sys.stdout.isatty()
    plot.draw(settings, connection, _require_hierarchy(), operands[0], once=once)
    return 0


def _require_hierarchy() -> Hierarchy:
    hierarchy = cgroup.find_hierarchy()
    if hierarchy is None:
        raise HostError("read statistics", "cgroup v2", "it is not mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    return hierarchy


def _follow(view: _View, listing: Listing, *, live: bool) -> None:
    view.look()
    explained = False
    while True:
        time.sleep(_INTERVAL)
        rows = view.look()
        if view.is_over:
            return
        if live:
            sys.stdout.write(_CLEAR)
        listing.print(rows)
        sys.stdout.flush()
        if live or not explained:
            view.explain()
        explained = True


class _View:
    """The containers to show, from one look to the next.

    is_over  there were CONTAINERs, and none of them is left
    """

    def __init__(
        self,
        settings: Settings,
        connection: sqlite3.Connection,
        listing: Listing,
        names: list[str],
        *,
        everything: bool,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._hierarchy = _require_hierarchy()
        self._listing = listing
        self._everything = everything
        # By id, because a container keeps its place when it is given another name.
        self._chosen = {containers.find(connection, name).id: name for name in names}
        self._before: dict[str, Sample] = {}
        self.is_over = False

    def look(self) -> list[Row]:
        """A row for each container, the newest first, or in the order of the names."""
        known = {container.id: container for container in containers.list_all(self._connection)}
        if self._chosen:
            found = [known[each] for each in self._chosen if each in known]
            self.is_over = not found
        else:
            found = [each for each in known.values() if self._everything or each.is_active]
        now = {
            container.id: sample
            for container in found
            if (sample := stats.sample(self._settings, self._hierarchy, container)) is not None
        }
        before, self._before = self._before, now
        return [self._row(container, now.get(container.id), before.get(container.id)) for container in found]

    def explain(self) -> None:
        """Say why columns are empty, where that is for lack of a controller."""
        missing = [
            name
            for name, columns in _NEEDED.items()
            if name not in self._hierarchy.controllers and any(map(self._listing.needs, columns))
        ]
        places = sorted({self._hierarchy.version1[name] for name in missing if name in self._hierarchy.version1})
        if missing:
            where = f"on cgroup v1 ({', '.join(places)})" if places else "not offered by this kernel"
            notice(f"{_UNKNOWN}: {', '.join(missing)} cannot be read, {where}: what a container uses needs cgroup v2")

    def _row(self, container: Container, sample: Sample | None, before: Sample | None) -> Row:
        short = container.id if self._listing.no_trunc else container.id[:12]
        return {
            "Container": self._chosen.get(container.id, short),
            "ID": short,
            "Name": container.name,
            **(_usage(sample, before) if sample is not None else dict.fromkeys(list(COLUMNS)[3:], _UNKNOWN)),
        }


def _usage(sample: Sample, before: Sample | None) -> Row:
    pressure = sample.pressure_percent(before)
    return {
        "CPUPerc": _percent(sample.cpu_percent(before)),
        "MemUsage": f"{_binary(sample.memory)} / {_binary(sample.limit)}" if sample.memory is not None else _UNKNOWN,
        "MemPerc": _percent(sample.memory_percent()),
        "NetIO": _pair(sample.network),
        "BlockIO": _pair(sample.block),
        "PIDs": _UNKNOWN if sample.pids is None else str(sample.pids),
        "MemParts": ", ".join(f"{name} {_binary(size)}" for name, size in sample.parts.items()) or _UNKNOWN,
        "MemPeak": _binary(sample.peak),
        "Swap": _binary(sample.swap),
        "Pressure": " / ".join(_percent(pressure.get(kind)) for kind in stats.PRESSURES) if pressure else _UNKNOWN,
    }


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}%"


def _pair(pair: tuple[int, int] | None) -> str:
    return _UNKNOWN if pair is None else f"{human_size(pair[0])} / {human_size(pair[1])}"


def _binary(size: int | None) -> str:
    return _UNKNOWN if size is None else binary_size(size)
