"""What happened and what happens: the stored events, and then each as it is committed.

The wait is inotify(7) on the directory of the database, whose write-ahead log every commit writes to. A commit can be
read a moment after its bytes were written, when the log's index says so: the writer holds SQLite's write lock until
then. So a reader that was woken takes that lock before it looks, and what woke it is there.
"""

from __future__ import annotations

import time

from pycontainer.engine.events import Event
from pycontainer.kernel.inotify import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from pycontainer.engine.settings import Settings

_BATCH = 200  # rows that are in memory at once
_LONGEST_WAIT = 3600.0  # seconds; poll(2) counts milliseconds in 31 bits


def events(
    settings: Settings, connection: sqlite3.Connection, since: float | None, until: float | None
) -> Iterator[list[Event]]:
    """Batches of events, oldest first; for ever, or until the time `until`. Times are seconds since the epoch.

    Stored ones come first where one of the times is given, those since `since`. An empty batch is never given.
    """
    watch = Watch(settings.root)
    try:
        number = 0 if since is not None or until is not None else _newest(connection)
        while True:
            while batch := _after(connection, number):
                number = batch[-1].number
                if chosen := [event for event in batch if _between(since, event.time, until)]:
                    yield chosen
            left = _LONGEST_WAIT if until is None else until - time.time()
            if left <= 0:
                return
            watch.wait(min(left, _LONGEST_WAIT))
    finally:
        watch.close()


def _between(since: float | None, moment: float, until: float | None) -> bool:
    return (since is None or moment >= since) and (until is None or moment <= until)


def _newest(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()[0])


def _after(connection: sqlite3.Connection, number: int) -> list[Event]:
    """The next of them, with the write lock: see above."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        rows = connection.execute(
            "SELECT number, time, kind, action, actor, attributes FROM events WHERE number > ? ORDER BY number LIMIT ?",
            (number, _BATCH),
        ).fetchall()
    return [Event(row) for row in rows]
