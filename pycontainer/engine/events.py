"""What happened: a table that every change of state adds to, in the change's own transaction.

Kinds, actions and attributes are those of Docker's events.
"""

from __future__ import annotations

import time

from pycontainer import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,           -- seconds since the epoch
    kind TEXT NOT NULL,           -- container, image, network, volume
    action TEXT NOT NULL,         -- create, start, die …
    actor TEXT NOT NULL,          -- the object's id, or its name where it has no id
    attributes TEXT NOT NULL      -- JSON object of strings
)
"""

_KEPT = 10_000


class Event:
    """One row; `time` in seconds since the epoch."""

    __slots__ = ("action", "actor", "attributes", "kind", "number", "time")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.number: int = row[0]
        self.time: float = row[1]
        self.kind: str = row[2]
        self.action: str = row[3]
        self.actor: str = row[4]
        self.attributes: dict[str, str] = json_text.loads(row[5])


def record(connection: sqlite3.Connection, kind: str, action: str, actor: str, attributes: dict[str, str]) -> None:
    """Add an event, inside the caller's transaction; the oldest beyond 10,000 go."""
    cursor = connection.execute(
        "INSERT INTO events (time, kind, action, actor, attributes) VALUES (?, ?, ?, ?, ?)",
        (time.time(), kind, action, actor, json_text.dumps(attributes)),
    )
    if cursor.lastrowid and cursor.lastrowid % 100 == 0:
        connection.execute("DELETE FROM events WHERE number <= ?", (cursor.lastrowid - _KEPT,))


def after(connection: sqlite3.Connection, number: int) -> list[Event]:
    """Those that came after the event `number`, oldest first."""
    rows = connection.execute(
        "SELECT number, time, kind, action, actor, attributes FROM events WHERE number > ? ORDER BY number", (number,)
    )
    return [Event(row) for row in rows]
