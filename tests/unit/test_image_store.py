"""Names, IDs and removal in the image store, with layers and blobs that are empty."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pycontainer.cli.table import human_age, human_size
from pycontainer.errors import Conflict, ImageError, NotFound, UsageError
from pycontainer.image.store import SCHEMA, Store

ONE, TWO = "1" * 64, "1" + "2" * 63
BASE, TOP, OTHER = "a" * 64, "b" * 64, "c" * 64


def unused(_image_id: str) -> list[str]:
    return []


def used(_image_id: str) -> list[str]:
    return ["web"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two images that share a base layer: `one` with two names, `two` with one."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    store = Store(str(tmp_path), connection)
    store.make_directories()
    for image_id, layers in ((ONE, [BASE, TOP]), (TWO, [BASE, OTHER])):
        row = (
            f"sha256:{image_id}",
            f"sha256:{image_id[::-1]}",
            json.dumps({"n": image_id[1]}),
            "",
            5,
            " ".join(layers),
        )
        connection.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, image_id))
        (tmp_path / "blobs/sha256" / image_id).touch()
    for chain in (BASE, TOP, OTHER):
        connection.execute("INSERT INTO layers VALUES (?, 1)", (chain,))
        (tmp_path / "layers" / chain / "etc").mkdir(parents=True)
    store.tag(f"sha256:{ONE}", "one")
    store.tag(f"sha256:{ONE}", "one:old")
    store.tag(f"sha256:{TWO}", "example.com/two")
    return store


def layers(store: Store) -> set[str]:
    return set(os.listdir(store.layers))


def test_resolve(store: Store) -> None:
    image = store.resolve("one")
    assert image.id == f"sha256:{ONE}"
    assert image.names == ["one:latest", "one:old"]
    assert image.config == {"n": "1"}
    assert image.layers == [f"{store.root}/layers/{BASE}", f"{store.root}/layers/{TOP}"]
    for name in ("docker.io/library/one:old", ONE, f"sha256:{ONE}", "11", "sha256:11"):
        assert store.resolve(name).id == image.id
    assert store.resolve(f"one@sha256:{ONE[::-1]}").id == image.id


def test_resolve_failures(store: Store) -> None:
    with pytest.raises(NotFound, match="pycontainer images"):
        store.resolve("three")
    with pytest.raises(NotFound):
        store.resolve("f" * 64)
    with pytest.raises(UsageError):
        store.resolve("UPPER")
    store.connection.execute("UPDATE images SET id = ? WHERE id = ?", ("sha256:11" + "0" * 62, f"sha256:{TWO}"))
    with pytest.raises(Conflict, match="more than one"):
        store.resolve("11")


def test_a_name_wins_over_an_id(store: Store) -> None:
    store.tag(f"sha256:{TWO}", "11")
    assert store.resolve("11").id == f"sha256:{TWO}"


def test_resolving_a_name_is_one_query(store: Store) -> None:
    queries: list[str] = []
    store.connection.set_trace_callback(queries.append)
    store.resolve("one")
    assert len(queries) == 1


def test_remove_one_name_of_two(store: Store) -> None:
    assert store.remove("one:old", False, used) == ["Untagged: one:old"]
    assert store.resolve("one").names == ["one:latest"]


def test_remove_frees_what_no_image_needs(store: Store) -> None:
    lines = store.remove(ONE, False, unused)
    assert lines == ["Untagged: one:latest", "Untagged: one:old", f"Deleted: sha256:{ONE}", f"Deleted: sha256:{TOP}"]
    assert layers(store) == {BASE, OTHER}
    assert os.listdir(store.blobs) == [TWO]
    assert store.remove("example.com/two", False, unused)[-1] == f"Deleted: sha256:{BASE}"
    assert not layers(store) and not os.listdir(store.blobs) and not os.listdir(store.tmp)


def test_remove_an_image_in_use(store: Store) -> None:
    with pytest.raises(Conflict, match="web"):
        store.remove("example.com/two", False, used)
    with pytest.raises(Conflict):
        store.remove(TWO, True, used)
    assert not os.listdir(store.tmp)
    assert store.remove("example.com/two", True, used) == ["Untagged: example.com/two:latest"]
    assert store.resolve(TWO).names == []
    assert layers(store) == {BASE, TOP, OTHER}


def test_remove_by_id_with_several_repositories(store: Store) -> None:
    store.tag(f"sha256:{ONE}", "another")
    with pytest.raises(Conflict, match="several names"):
        store.remove(ONE, False, unused)
    assert f"Deleted: sha256:{ONE}" in store.remove(ONE, True, unused)


def test_nothing_is_freed_while_something_is_added(store: Store) -> None:
    lock = store.lock_shared()
    store.remove(ONE, False, unused)
    store.clear_leftovers()
    assert layers(store) == {BASE, TOP, OTHER}
    os.close(lock)
    store.clear_leftovers()
    assert layers(store) == {BASE, OTHER}
    assert not os.listdir(store.tmp)


def test_leftovers_are_looked_for_only_where_something_was_killed(store: Store) -> None:
    stray = Path(store.layers, "d" * 64)
    stray.mkdir()
    store.clear_leftovers()
    assert stray.exists()
    Path(store.make_marker(), "half").touch()
    store.clear_leftovers()
    assert not stray.exists() and not os.listdir(store.tmp)


def test_clear_leftovers_without_a_store(tmp_path: Path) -> None:
    Store(str(tmp_path / "absent"), sqlite3.connect(":memory:")).clear_leftovers()
    assert not (tmp_path / "absent").exists()


def test_importing_the_store_is_cheap() -> None:
    code = "import sys, pycontainer.image.store; print(*sys.modules)"
    modules = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert "pycontainer.image.store" in modules
    assert not modules & {"tarfile", "tarsafe", "isal", "zstandard", "shutil", "click", "rich", "subprocess", "hashlib"}


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (7_800_000, "7.8MB"), (133_400_000, "133MB"), (1_130_000_000, "1.13GB")],
)
def test_human_size(size: int, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second ago"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "About a minute ago"),
        (3599, "59 minutes ago"),
        (3600, "About an hour ago"),
        (47 * 3600, "47 hours ago"),
        (3 * 86400, "3 days ago"),
        (15 * 86400, "2 weeks ago"),
        (90 * 86400, "3 months ago"),
        (800 * 86400, "2 years ago"),
    ],
)
def test_human_age(seconds: float, text: str) -> None:
    assert human_age(seconds) == text


@pytest.mark.parametrize("config", ['{"n": NaN}', '{"n": ' + "[" * 5000 + "]" * 5000 + "}", "[1]", "half", ""])
def test_a_broken_config_hinders_nothing_but_its_own_use(store: Store, config: str) -> None:
    store.connection.execute("UPDATE images SET config = ? WHERE id = ?", (config, f"sha256:{TWO}"))
    assert {image.id for image in store.images()} == {f"sha256:{ONE}", f"sha256:{TWO}"}
    broken = store.resolve("example.com/two")
    assert broken.labels == {}
    with pytest.raises(ImageError, match=f"read stored image: sha256:{TWO}") as refused:
        _ = broken.config
    assert f"rmi -f {TWO[:12]}" in refused.value.hint
    assert store.remove(TWO[:12], True, unused)[-1] == f"Deleted: sha256:{OTHER}"
    assert [image.config for image in store.images()] == [{"n": "1"}]


def test_a_tag_like_an_id(store: Store) -> None:
    """Refused; one that an older pycontainer has taken goes with its image."""
    with pytest.raises(UsageError, match="ID begins"):
        store.tag(f"sha256:{ONE}", f"sha256:{TWO}")
    name = f"sha256:{TWO}"
    store.connection.execute("INSERT INTO image_names VALUES (?, ?, ?)", (f"docker.io/library/{name}", name, name))
    assert f"Untagged: {name}" in store.remove(TWO, True, unused)


def test_blobs_are_given_back(store: Store) -> None:
    """Manifest and config stay, and what another image has."""
    names = [character * 64 for character in "12345"]
    for name in names:
        Path(store.blobs, name).write_bytes(b"four")
    for image_id, own in ((ONE, names[:4]), (TWO, [*names[:3], names[4]])):
        values = (" ".join(own), f"sha256:{image_id}")
        store.connection.execute("UPDATE images SET blobs = ? WHERE id = ?", values)
    assert store.give_back_blobs([f"sha256:{ONE}", "sha256:gone"]) == [(names[3], 4)]
    assert sorted(os.listdir(store.blobs)) == [*names[:3], names[4]]
    assert [store.has_layer_blobs(f"sha256:{image_id}") for image_id in (ONE, TWO)] == [False, True]
    assert store.give_back_blobs([f"sha256:{TWO}"]) == [(names[2], 4), (names[4], 4)]
    assert sorted(os.listdir(store.blobs)) == names[:2] and os.listdir(store.tmp) == []
    assert store.give_back_blobs([f"sha256:{ONE}", f"sha256:{TWO}"]) == []
