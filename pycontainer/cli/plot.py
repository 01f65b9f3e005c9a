"""`stats --plot`: the memory of a container against its limit, and its processor time, drawn in the terminal."""

from __future__ import annotations

import shutil
import sys
import time

# Only here, because it takes as long to import as the rest of the command.
import plotext

from pycontainer.cli.main import notice
from pycontainer.engine import containers, monitors, stats
from pycontainer.engine.config.quantity import format_size
from pycontainer.errors import Conflict, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from pycontainer.engine.settings import Settings
    from pycontainer.engine.stats import Sample
    from pycontainer.kernel.cgroup import Hierarchy

    Points = list[tuple[float, float]]

_INTERVAL = 1.0  # seconds
_SPAN = 600.0  # seconds of processor time that are shown, as long as the monitor keeps samples of memory
_WIDEST, _LOWEST, _HIGHEST = 100, 8, 16  # columns of a plot, lines of it
_CLEAR = "\x1b[H\x1b[J"
_MIB = 1 << 20


def draw(settings: Settings, connection: sqlite3.Connection, hierarchy: Hierarchy, name: str, *, once: bool) -> None:
    """Once, or again every second until the container ends or Ctrl-C. Raises NotFound, Conflict."""
    view = _View(settings, connection, hierarchy, containers.find(connection, name).id)
    if not view.look():
        hint = f"pycontainer start {name}; pycontainer why {name} has the plot of the run that has ended"
        raise Conflict("draw", name, "it is not running", hint)
    try:
        while True:
            time.sleep(_INTERVAL)
            if not view.look():
                return
            text = view.text()
            sys.stdout.write(text if once else _CLEAR + text)
            sys.stdout.flush()
            if once:
                return
    except KeyboardInterrupt:
        # It is how one ends it.
        pass


class _View:
    """One container, from one look to the next."""

    def __init__(
        self, settings: Settings, connection: sqlite3.Connection, hierarchy: Hierarchy, container_id: str
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._hierarchy = hierarchy
        self._id = container_id
        self._name = ""
        self._last: Sample | None = None
        self._cpu: Points = []
        self._memory: Points = []
        if "memory" not in hierarchy.controllers:
            notice("the memory controller is not in cgroup v2 here: there is nothing to draw of memory")

    def look(self) -> bool:
        """Whether it still runs."""
        try:
            container = containers.get(self._connection, self._id)
        except NotFound:
            return False
        now = stats.sample(self._settings, self._hierarchy, container)
        if now is None:
            return False
        self._name = container.name
        if self._last is not None and self._last.key != now.key:
            # It was started again.
            self._cpu = []
        # The monitor counts from the start of the program too.
        seconds = time.time() - (container.started or time.time())
        percent = now.cpu_percent(self._last)
        if percent is not None:
            self._cpu = [point for point in self._cpu if point[0] > seconds - _SPAN] + [(seconds, percent)]
        self._memory = [(at, size / _MIB) for at, size in monitors.samples(self._settings, self._id)]
        if now.current is not None:
            self._memory.append((seconds, now.current / _MIB))
        self._last = now
        return True

    def text(self) -> str:
        """The plots that there is something for, one below the other."""
        assert self._last is not None
        now = self._last
        plots = []
        if now.current is not None:
            limit = f" of {format_size(now.limit)}" if now.limit else ""
            title = f"{self._name}: memory {format_size(now.current)}{limit}, with the page cache"
            own = now.limit if now.limit and now.limit < 4 * max(self._memory)[1] * _MIB else None
            plots.append((title, "MiB", self._memory, own / _MIB if own else None))
        if self._cpu:
            title = f"{self._name}: {self._cpu[-1][1]:.0f} % of a processor"
            plots.append((title, "%", self._cpu, None))
        columns, lines = shutil.get_terminal_size()
        height = min(max((lines - 1) // len(plots), _LOWEST), _HIGHEST) if plots else 0
        return "".join(_plot(*each, min(columns, _WIDEST), height) for each in plots)


def _plot(title: str, unit: str, points: Points, limit: float | None, columns: int, lines: int) -> str:
    """Over the seconds since the start of the program; a line is drawn at the limit. A single point is in the title."""
    if len(points) < 2:
        return f"{title}\n"
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(columns, lines)
    plotext.plot([at for at, _ in points], [value for _, value in points], marker="braille")
    if limit is not None:
        plotext.hline(limit)
    highest = max(value for _, value in points)
    plotext.ylim(0, max(limit, highest) if limit is not None else highest * 1.1 or 1)
    plotext.title(title)
    plotext.xlabel("seconds of the run")
    plotext.ylabel(unit)
    return f"{plotext.uncolorize(plotext.build()).rstrip()}\n"
