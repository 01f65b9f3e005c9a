"""Id maps as values: user_namespaces(7)."""

from __future__ import annotations


class IdMap:
    """One extent of an id map, as user_namespaces(7) writes it: ids inside, ids outside, how many."""

    __slots__ = ("inside", "outside", "size")

    def __init__(self, inside: int, outside: int, size: int) -> None:
        self.inside = inside
        self.outside = outside
        self.size = size

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.size}"
