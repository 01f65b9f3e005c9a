"""Names for containers that were given none: two words, so that people can say and type them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3


def choose(connection: sqlite3.Connection) -> str:
    """A name that no container has yet."""
    taken = {row[0] for row in connection.execute("SELECT name FROM containers")}
    while True:
        first, second, *rest = os.urandom(4)
        name = f"{_FIRST[first % len(_FIRST)]}_{_SECOND[second % len(_SECOND)]}"
        if len(taken) > 200:
            name += f"_{rest[0] << 8 | rest[1]}"
        if name not in taken:
            return name


_FIRST = """
amber brisk calm clever cosy crisp daring eager fair fleet fond gentle glad golden grand happy honest humble jolly keen
kind lively loyal lucky mellow merry modest neat nimble noble patient plucky polite proud quick quiet rapid ready
sharp silent smart snug spry steady sunny swift tidy vivid warm wise witty zesty
""".split()
_SECOND = """
auk badger bittern bunting crane curlew dabchick dipper dunlin egret falcon finch gannet godwit grebe harrier heron
hobby hoopoe ibis jackdaw kestrel kite knot lapwing linnet magpie martin merlin nuthatch oriole osprey otter owl petrel
pipit plover puffin quail raven redstart robin ruff shrike siskin skua snipe starling stoat stork swallow swift teal
tern thrush wagtail warbler wigeon wren
""".split()
