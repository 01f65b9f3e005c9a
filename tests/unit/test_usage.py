"""Sizes: of trees that a container has written, and of the layers that images share."""

from __future__ import annotations

import os
import pathlib
import sqlite3
from collections.abc import Iterator

import pytest

from pycontainer.engine import usage
from pycontainer.engine.usage import ImageUsage, tree_size
from pycontainer.image.store import Image


def test_a_tree_is_as_long_as_its_files(tmp_path: pathlib.Path) -> None:
    assert tree_size(str(tmp_path)) == 0
    (tmp_path / "a").write_bytes(b"12345")
    deeper = tmp_path / "d" / "e"
    deeper.mkdir(parents=True)
    (deeper / "b").write_bytes(b"123")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "c").write_bytes(b"1")
    assert tree_size(str(tmp_path)) == 9
    os.link(deeper / "b", tmp_path / "again")
    assert tree_size(str(tmp_path)) == 9
    os.symlink("/etc/passwd", tmp_path / "link")
    os.symlink("/usr", tmp_path / "f" / "dir")
    assert tree_size(str(tmp_path)) == 9 + len("/etc/passwd") + len("/usr")


@pytest.mark.parametrize("path", ["absent", "file/x"])
def test_what_is_not_there_has_no_size(tmp_path: pathlib.Path, path: str) -> None:
    if path != "absent":
        (tmp_path / "file").mkdir()
    assert tree_size(str(tmp_path / path)) == 0


def test_a_deep_tree_costs_neither_descriptors_nor_recursion(tmp_path: pathlib.Path) -> None:
    depth = 3000
    directory = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=directory)
        inner = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    with open("end", "wb", opener=lambda name, flags: os.open(name, flags, dir_fd=directory)) as file:
        file.write(b"12")
    (tmp_path / "d" / "side").write_bytes(b"1")
    try:
        assert tree_size(str(tmp_path)) == 3
    finally:
        os.unlink("end", dir_fd=directory)
        for _ in range(depth):
            outer = os.open("..", os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = outer
            if os.listdir(directory) != ["d"]:
                os.unlink("side", dir_fd=directory)
            os.rmdir("d", dir_fd=directory)
        os.close(directory)


def test_a_directory_that_is_moved_away_does_not_lead_out(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `..` is then somewhere else, where nothing is to be counted."""
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b" / "file").write_bytes(b"123")
    for number in range(20):
        # Of the same names, for the count to go into those of the wrong directory.
        (tmp_path / "tree" / "a" / f"{number}").mkdir(parents=True)
        (tmp_path / "elsewhere" / f"{number}").mkdir(parents=True)
        (tmp_path / "elsewhere" / f"{number}" / "big").write_bytes(bytes(1000))
    count = usage._count

    def move(directory: int, seen: set[tuple[int, int]]) -> tuple[int, list[str]]:
        found = count(directory, seen)
        if found[0] == 3:
            os.rename(tmp_path / "tree/a/b", tmp_path / "elsewhere/b")
        return found

    monkeypatch.setattr(usage, "_count", move)
    assert tree_size(str(tmp_path / "tree")) == 3


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        "CREATE TABLE layers (chain_id TEXT, size INTEGER); CREATE TABLE containers (image_id TEXT)"
    )
    yield connection
    connection.close()


def image(image_id: str, *chains: str) -> Image:
    return Image((image_id, "{}", " ".join(chains), 0, "", "", None), "/layers")


def test_layers_count_once_and_are_reclaimable_where_no_container_needs_them(connection: sqlite3.Connection) -> None:
    connection.executemany("INSERT INTO layers VALUES (?, ?)", [("base", 100), ("one", 20), ("two", 3), ("three", 4)])
    connection.executemany("INSERT INTO containers VALUES (?)", [("i1",), ("i1",)])
    images = [image("i1", "base", "one"), image("i2", "base", "two"), image("i3", "three")]
    found = ImageUsage(connection, images)
    assert (found.total, found.reclaimable) == (127, 7)
    assert found.shared == {"i1": 100, "i2": 100, "i3": 0}
    assert found.containers == {"i1": 2}
    assert ImageUsage(connection, []).total == 0
