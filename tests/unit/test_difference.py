"""How two trees differ, as `system verify --deep` has it; what only root can make is in test_store_care.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pycontainer.image.difference import differences


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    wanted, found = tmp_path / "wanted", tmp_path / "found"
    (wanted / "a/b").mkdir(parents=True)
    (wanted / "a/b/file").write_text("content")
    (wanted / "link").symlink_to("a/b")
    os.mkfifo(wanted / "fifo")
    shutil.copytree(wanted / "a", found / "a")
    (found / "link").symlink_to("a/b")
    os.mkfifo(found / "fifo")
    return wanted, found


def replace(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc")


def damaged(path: Path) -> None:
    """Other content of the same length and time."""
    status = path.stat()
    path.write_text("CONTENT")
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def test_the_same(trees: tuple[Path, Path]) -> None:
    counts: list[int] = []
    assert list(differences(*map(str, trees), on_read=counts.append)) == [] and sum(counts) == 7


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda top: (top / "a/b").chmod(0o700), [("/a/b", "its mode is 0700, not 0755")]),
        (lambda top: top.chmod(0o711), [("/", "its mode is 0711, not 0755")]),
        (lambda top: damaged(top / "a/b/file"), [("/a/b/file", "its content has changed")]),
        (lambda top: os.utime(top / "a/b/file", (1, 1)), [("/a/b/file", "its time has changed")]),
        (lambda top: os.link(top / "a/b/file", top / "z"), [
            ("/a/b/file", "it has 2 names, not 1"), ("/z", "it should not be there"),
        ]),
        (lambda top: shutil.rmtree(top / "a"), [("/a", "a directory that is missing")]),
        (lambda top: (top / "fifo").unlink(), [("/fifo", "a fifo that is missing")]),
        (lambda top: replace(top / "link"), [("/link", "leads to /etc, not to a/b")]),
        (lambda top: replace(top / "fifo"), [("/fifo", "a symbolic link, not a fifo")]),
    ],
)  # fmt: skip
def test_one_difference(
    trees: tuple[Path, Path], change: Callable[[Path], None], expected: list[tuple[str, str]]
) -> None:
    for tree in trees:
        for path in (tree, tree / "a", tree / "a/b"):
            path.chmod(0o755)
    change(trees[1])
    assert list(differences(*map(str, trees))) == expected


def test_directories_of_which_nobody_can_say_how_they_look(trees: tuple[Path, Path]) -> None:
    for path in (trees[1], trees[1] / "a"):
        path.chmod(0o700)
    damaged(trees[1] / "a/b/file")
    wanted, found = map(str, trees)
    assert list(differences(wanted, found, {"/", "/a"})) == [("/a/b/file", "its content has changed")]
