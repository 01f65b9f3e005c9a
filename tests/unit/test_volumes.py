"""Mounts as they are asked for, volumes as the database and the disk have them, and the copy of a tree of files."""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer import json_text
from pycontainer.engine import containers, copy_up, events, mounts, prune, volume_data, volume_operations, volumes
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.engine.copy_tree import copy_tree
from pycontainer.engine.mounts import Mount
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, ImageError, NotFound, UsageError
from pycontainer.kernel.operation import Journal

BIND = ["rbind", "rprivate"]
READ_ONLY_BIND = [*BIND, "rro", "ro"]
VOLUME = ["rbind", "rprivate", "nodev"]
READ_ONLY_VOLUME = [*VOLUME, "rro", "ro"]
TMPFS = ["nosuid", "nodev", "noexec"]


def config(**values: Any) -> ContainerConfig:
    return ContainerConfig("busybox", [], values)


class TestShortForm:
    @pytest.mark.parametrize(
        ("text", "source", "target", "options"),
        [
            ("/a:/b", "/a", "/b", BIND),
            ("/a:/b:rw", "/a", "/b", BIND),
            ("/a:/b:ro", "/a", "/b", READ_ONLY_BIND),
            ("/a:/b:ro,rslave", "/a", "/b", ["rbind", "rslave", "rro", "ro"]),
            ("/a:/b:slave", "/a", "/b", ["rbind", "slave"]),
            ("/a:/b:z", "/a", "/b", BIND),
            ("/a:/b:Z,cached", "/a", "/b", BIND),
            ("/a/../c/:/b//d/", "/c", "/b/d", BIND),
            ("/a://b", "/a", "/b", BIND),
            ("/a:/b/..//c", "/a", "/c", BIND),
            ("/a:/process", "/a", "/process", BIND),
            ("/a:/b/proc", "/a", "/b/proc", BIND),
        ],
    )
    def test_paths_of_the_hosts(self, text: str, source: str, target: str, options: list[str]) -> None:
        found = mounts.parse_volume(text)
        assert (found.kind, found.source, found.target, found.options) == ("bind", source, target, options)
        assert (found.make, found.copy, found.anonymous) == (True, False, False)

    @pytest.mark.parametrize(
        ("text", "name", "target", "options", "copy"),
        [
            ("vol:/b", "vol", "/b", VOLUME, True),
            ("Vol_1.x-y:/b//c/", "Vol_1.x-y", "/b/c", VOLUME, True),
            ("0a:/b:ro", "0a", "/b", READ_ONLY_VOLUME, True),
            ("vol:/b:nocopy,z", "vol", "/b", VOLUME, False),
            ("vol:/b:ro,nocopy", "vol", "/b", READ_ONLY_VOLUME, False),
            ("/b", "", "/b", VOLUME, True),
            ("/b//../c/", "", "/c", VOLUME, True),
        ],
    )
    def test_volumes(self, text: str, name: str, target: str, options: list[str], copy: bool) -> None:
        found = mounts.parse_volume(text)
        assert (found.kind, found.source, found.target, found.options) == ("volume", name, target, options)
        assert (found.make, found.copy, found.anonymous) == (False, copy, not name)

    def test_what_was_written_is_kept_for_inspect(self) -> None:
        assert mounts.parse_volume("/a:/b:ro,z").mode == "ro,z"
        assert mounts.parse_volume("/a:/b").mode == ""

    def test_a_relative_source_is_taken_from_here(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        made = config(
            volume=["./x:/b", ".:/c:ro", "../y:/d", ".hidden"[1:] + ":/e"], mount=["type=bind,src=./z,dst=/f"]
        )
        stored = ContainerConfig.from_json(made.to_json())
        monkeypatch.chdir("/")
        for found in (made, stored):
            sources = [mount.source for mount in found.mounts.asked]
            assert sources == [f"{tmp_path}/x", f"{tmp_path}", f"{tmp_path.parent}/y", "hidden", f"{tmp_path}/z"]
        assert stored.mounts.asked[1].read_only

    @pytest.mark.parametrize(
        "text",
        ["", ":", "a", "/a:", ":/b", "/a:b", "/a:.", "/a:/", "/a://", "/a:///", "/a:/b/..", "/a://..", "/", "/..",
         "/a:/b:rx", "/a:/b:ro:x", "/a:/b:ro,bogus", "/a:/b:shared", "/a:/b:ro,rshared", "/a:/b:rrslave",
         "/a:/proc", "/a:/proc/", "/a:/proc/sys", "/a:/x/../proc", "/a://proc/./1", "/proc", "vol:/proc",
         "v:/b", "-vol:/b", ".vol", "a/b:/c", "vo l:/b", "v\u00f6l:/b", f"{'v' * 201}:/b",
         "/a:/b:nocopy", "vol:/b:rslave", "vol:/b:noidmap", "/a:ro"],
    )  # fmt: skip
    def test_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            config(volume=[text])
        assert caught.value.step == "--volume"
        assert "/" in caught.value.hint or "rslave" in caught.value.hint


class TestLongForm:
    @pytest.mark.parametrize(
        ("text", "kind", "source", "target", "options"),
        [
            ("type=bind,source=/a,target=/b", "bind", "/a", "/b", BIND),
            ("type=bind,src=/a/../c,dst=/b/,ro", "bind", "/c", "/b", READ_ONLY_BIND),
            ("destination=/b,readonly=true,src=/a,type=bind", "bind", "/a", "/b", READ_ONLY_BIND),
            ("type=bind,src=/a,dst=/b,readonly=false", "bind", "/a", "/b", BIND),
            ("TYPE=bind,SRC=/a,Target=/b,ro=1,consistency=cached", "bind", "/a", "/b", READ_ONLY_BIND),
            ("type=bind,src=/a,dst=/b,bind-propagation=rslave", "bind", "/a", "/b", ["rbind", "rslave"]),
            ("type=bind,src=/a,dst=/b,bind-nonrecursive", "bind", "/a", "/b", ["bind", "rprivate"]),
            ("type=bind,src=/a,dst=/b,bind-recursive=disabled,ro", "bind", "/a", "/b", ["bind", "rprivate", "ro"]),
            ("type=bind,src=/a,dst=/b,bind-recursive=writable,ro", "bind", "/a", "/b", [*BIND, "ro"]),
            ("type=bind,src=/a,dst=/b,bind-recursive=readonly,ro", "bind", "/a", "/b", READ_ONLY_BIND),
            ('type=bind,"src=/a,b",dst=/b', "bind", "/a,b", "/b", BIND),
            ('type=bind,"src=/a""b""",dst=/b', "bind", '/a"b"', "/b", BIND),
            ("target=/b", "volume", "", "/b", VOLUME),
            ("type=volume,src=vol,dst=/b,volume-driver=local", "volume", "vol", "/b", VOLUME),
            ("src=vol,dst=/b,ro", "volume", "vol", "/b", READ_ONLY_VOLUME),
            ("type=tmpfs,dst=/b", "tmpfs", "", "/b", TMPFS),
            ("type=tmpfs,dst=/b,tmpfs-size=1.5m", "tmpfs", "", "/b", [*TMPFS, "size=1572864"]),
            ("type=tmpfs,dst=/b,tmpfs-mode=01770,ro", "tmpfs", "", "/b", [*TMPFS, "ro", "mode=1770"]),
        ],
    )
    def test_accepted(self, text: str, kind: str, source: str, target: str, options: list[str]) -> None:
        found = mounts.parse_mount(text)
        assert (found.kind, found.source, found.target, found.options) == (kind, source, target, options)
        assert not found.make, "a source that is missing is refused"
        assert found.copy == (kind == "volume")
        assert found.anonymous == (kind == "volume" and not source)
        assert mounts.parse_mount(mounts.completed_mount(text)).to_json() == found.to_json()

    def test_nocopy(self) -> None:
        assert mounts.parse_mount("src=vol,dst=/b,volume-nocopy").copy is False
        assert mounts.parse_mount("src=vol,dst=/b,volume-nocopy=false").copy is True

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("", "key"),
            ("bogus=1,target=/b", "bogus"),
            ("target", "target"),
            ("type=bind,src=/a", "target is missing"),
            ("type=bind,dst=/b", "source is missing"),
            ("type=bind,src=a,dst=/b", "absolute"),
            ("type=bind,src=/a,dst=b", "absolute"),
            ("type=bind,src=/a,dst=/proc/x", "/proc"),
            ("type=bind,src=/a,dst=/b,dst=/c", "twice"),
            ("type=npipe,src=/a,dst=/b", "npipe"),
            ("type=bind,src=/a,dst=/b,volume-nocopy", "volume-nocopy"),
            ("type=volume,src=vol,dst=/b,bind-propagation=private", "bind-propagation"),
            ("type=tmpfs,src=vol,dst=/b", "source"),
            ("type=volume,src=/a,dst=/b", "volume's name"),
            ("type=volume,src=vol,dst=/b,volume-driver=nfs", "driver"),
            ("type=volume,src=vol,dst=/b,volume-opt=type=nfs", "volume-opt"),
            ("type=bind,src=/a,dst=/b,readonly=perhaps", "readonly"),
            ("type=bind,src=/a,dst=/b,bind-propagation=rshared", "host"),
            ("type=bind,src=/a,dst=/b,bind-propagation=upwards", "upwards"),
            ("type=bind,src=/a,dst=/b,bind-recursive=some", "bind-recursive"),
            ("type=bind,src=/a,dst=/b,bind-recursive=writable", "readonly"),
            ("type=tmpfs,dst=/b,tmpfs-size=much", "much"),
            ("type=tmpfs,dst=/b,tmpfs-mode=999", "tmpfs-mode"),
            ("type=tmpfs,dst=/b,tmpfs-mode=77777", "tmpfs-mode"),
            ("type=tmpfs,dst=/b,consistency=x", "consistency"),
            ('type=bind,"src=/a,dst=/b', "quotation mark"),
            ('type=bind,"src=/a"x,dst=/b', "comma"),
        ],
    )
    def test_refused_with_an_example(self, text: str, named: str) -> None:
        with pytest.raises(UsageError) as caught:
            config(mount=[text])
        assert caught.value.step.startswith("--mount")
        assert named in caught.value.message
        assert caught.value.hint

    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
    def test_fields_with_anything_in_them(self, sources: list[str]) -> None:
        for source in sources:
            quoted = '"src=/' + source.replace('"', '""') + '"'
            found = mounts.parse_mount(f"type=bind,{quoted},dst=/b")
            assert found.source == os.path.abspath(f"/{source}")


@pytest.mark.parametrize(
    ("values", "mapped"),
    [
        ({"volume": ["/a:/b"]}, True),
        ({"volume": ["/a:/b:ro,noidmap"]}, False),
        ({"mount": ["type=bind,src=/a,dst=/b"]}, True),
        ({"mount": ["type=bind,src=/a,dst=/b,bind-noidmap"]}, False),
        ({"mount": ["type=bind,src=/a,dst=/b,bind-noidmap=false"]}, True),
        ({"mount": ["type=volume,src=vol,dst=/b"]}, True),
    ],
)
def test_a_bind_without_an_id_map(values: dict[str, list[str]], mapped: bool) -> None:
    (found,) = config(**values).mounts.asked
    assert found.mapped == mapped
    assert mounts.Mount(**found.to_json()).mapped == mapped
    old = {name: value for name, value in found.to_json().items() if name != "mapped"}
    assert mounts.Mount(**old).mapped, "as it was before there was a choice"


class TestTmpfs:
    @pytest.mark.parametrize(
        ("text", "target", "options"),
        [
            ("/tmp", "/tmp", TMPFS),
            ("/tmp:", "/tmp", TMPFS),
            ("//run/", "/run", TMPFS),
            ("/tmp:size=64m,mode=700", "/tmp", [*TMPFS, "size=64m", "mode=700"]),
            ("/tmp:exec", "/tmp", ["nosuid", "nodev"]),
            ("/tmp:ro,,suid", "/tmp", [*TMPFS, "ro", "suid"]),
        ],
    )
    def test_accepted(self, text: str, target: str, options: list[str]) -> None:
        (found,) = config(tmpfs=[text]).mounts.tmpfs
        assert (found.kind, found.target, found.options) == ("tmpfs", target, options)

    @pytest.mark.parametrize("text", ["", "tmp", "/", "//", "/x/..", ":size=1m", "/proc"])
    def test_refused(self, text: str) -> None:
        with pytest.raises(UsageError):
            config(tmpfs=[text])


@pytest.mark.parametrize(
    "values",
    [
        {"volume": ["/a:/x", "/b:/x/"]},
        {"volume": ["/a:/x"], "mount": ["src=vol,dst=//x"]},
        {"volume": ["vol:/x"], "tmpfs": ["/x"]},
        {"mount": ["type=tmpfs,dst=/x", "type=bind,src=/a,dst=/x"]},
    ],
)
def test_two_mounts_for_one_place_are_refused(values: dict[str, list[str]]) -> None:
    with pytest.raises(UsageError, match="/x"):
        config(**values)


def test_volumes_from() -> None:
    assert config(volumes_from=["web", "db:ro", "app:rw,z"]).mounts.volumes_from == [
        ("web", False),
        ("db", True),
        ("app", False),
    ]
    for text in ("", ":ro", "web:rx", "web:ro:rw"):
        with pytest.raises(UsageError):
            config(volumes_from=[text])


@pytest.fixture
def settings(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PYCONTAINER_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("PYCONTAINER_STATE", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return Settings()


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for schema in (containers.SCHEMA, events.SCHEMA, volumes.SCHEMA):
        connection.executescript(schema)
    yield connection
    connection.close()


def happened(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    rows = connection.execute("SELECT action, actor FROM events WHERE kind='volume' ORDER BY number")
    return [(action, actor) for action, actor in rows]


def names(connection: sqlite3.Connection) -> list[str]:
    return [volume.name for volume in volumes.list_all(connection)]


class Box:
    """Containers in a database, without anything that runs."""

    def __init__(self, settings: Settings, connection: sqlite3.Connection) -> None:
        self.settings = settings
        self.connection = connection

    def make(self, name: str, image: dict[str, Any] | None = None, **values: Any) -> str:
        container_id = os.urandom(32).hex()
        made = config(name=name, **values)
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            containers.insert(self.connection, container_id, made, "sha256:1", ["sh"], "created")
            volumes.attach(self.settings, self.connection, container_id, made, image or {})
        return container_id

    def forget(self, container_id: str, *, anonymous: bool = False) -> None:
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            discarded = volumes.release(self.settings, self.connection, container_id, anonymous=anonymous)
            containers.delete(self.connection, container_id)
        for path in discarded:
            volume_data.destroy(path)

    def mounted(self, container_id: str) -> dict[str, Mount]:
        return {mount.target: mount for mount in volumes.of(self.connection, container_id)}

    def clear(self) -> list[str]:
        said: list[str] = []
        volumes.clear_leftovers(self.settings, self.connection, said.append)
        return said


@pytest.fixture
def box(settings: Settings, connection: sqlite3.Connection) -> Box:
    return Box(settings, connection)


class TestVolumes:
    def test_made_and_removed(self, box: Box) -> None:
        assert volume_operations.create(box.settings, box.connection, "vol", {"a": "b"}, Journal()) == "vol"
        data = pathlib.Path(box.settings.root, "volumes/vol/_data")
        (data / "file").write_text("x" * 10)
        found = volumes.find(box.connection, "vol")
        assert (found.labels, found.anonymous) == ({"a": "b"}, False)
        described = volumes.describe(box.settings, found)
        assert (described["Name"], described["Mountpoint"], described["Driver"]) == ("vol", str(data), "local")
        assert volumes.size(box.settings, "vol") == 10
        assert volume_operations.create(box.settings, box.connection, "vol", {"c": "d"}, Journal()) == "vol", (
            "no failure where it exists"
        )
        assert volumes.find(box.connection, "vol").labels == {"a": "b"}
        assert (data / "file").exists()
        volume_operations.remove(box.settings, box.connection, "vol", Journal())
        assert os.listdir(f"{box.settings.root}/volumes") == []
        assert happened(box.connection) == [("create", "vol"), ("destroy", "vol")]
        with pytest.raises(NotFound):
            volume_operations.remove(box.settings, box.connection, "vol", Journal())

    def test_directories_are_for_root_alone_and_data_for_all(self, box: Box) -> None:
        old = os.umask(0o077)
        try:
            volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
        finally:
            os.umask(old)
        modes = [
            stat.S_IMODE(os.stat(f"{box.settings.root}/volumes/{path}").st_mode) for path in ("", "vol", "vol/_data")
        ]
        assert modes == [0o700, 0o700, 0o755]

    def test_without_a_name(self, box: Box) -> None:
        name = volume_operations.create(box.settings, box.connection, "", {"a": "b"}, Journal())
        assert len(name) == 64
        assert volumes.find(box.connection, name).anonymous
        assert volumes.find(box.connection, name).labels["a"] == "b"

    def test_in_use(self, box: Box) -> None:
        first = box.make("first", volume=["vol:/x"])
        second = box.make("second", volume=["vol:/x", "vol:/y"])
        with pytest.raises(Conflict, match="first, second"):
            volume_operations.remove(box.settings, box.connection, "vol", Journal())
        box.forget(first, anonymous=True)
        assert volumes.users(box.connection, "vol") == ["second"]
        box.forget(second, anonymous=True)
        assert names(box.connection) == ["vol"], "one with a name stays"
        volume_operations.remove(box.settings, box.connection, "vol", Journal())

    def test_prune(self, box: Box) -> None:
        anonymous = [volume_operations.create(box.settings, box.connection, "", {}, Journal()) for _ in range(2)]
        volume_operations.create(box.settings, box.connection, "named", {}, Journal())
        volume_operations.create(box.settings, box.connection, "other", {}, Journal())
        box.make("user", volume=["used:/x", "/y"])
        used = [mount.source for mount in volumes.of(box.connection, volumes_id(box))]
        pathlib.Path(box.settings.root, "volumes", anonymous[0], "_data/x").write_text("12345")
        pruned = prune.prune_volumes(box.settings, box.connection, lambda volume: True, named=False)
        assert (sorted(pruned.lines), pruned.reclaimed) == (sorted(anonymous), 5)
        pruned = prune.prune_volumes(box.settings, box.connection, lambda volume: volume.name != "other", named=True)
        assert pruned.lines == ["named"]
        assert names(box.connection) == sorted([*used, "other"])


def volumes_id(box: Box) -> str:
    return containers.find(box.connection, "user").id


class TestContainers:
    def test_all_kinds(self, box: Box) -> None:
        made = box.make(
            "web",
            {"Volumes": {"/image": {}, "relative/": {}, "/over": {}, "/scratch": {}, "/twice": {}}},
            volume=["vol:/data:ro", "/host:/host", "/anonymous", "own:/over", "/twice"],
            mount=["type=tmpfs,dst=/t", "dst=/long"],
            tmpfs=["/scratch"],
        )
        found = box.mounted(made)
        assert set(found) == {"/data", "/host", "/anonymous", "/over", "/image", "/relative", "/twice", "/long"}
        anonymous = {target for target, mount in found.items() if mount.anonymous}
        assert anonymous == {"/anonymous", "/image", "/relative", "/twice", "/long"}
        assert len({mount.source for mount in found.values()}) == 8
        assert set(names(box.connection)) == {mount.source for mount in found.values() if mount.kind == "volume"}
        assert all(volumes.find(box.connection, found[target].source).anonymous for target in anonymous)
        box.forget(made, anonymous=True)
        assert names(box.connection) == ["own", "vol"]

    @pytest.mark.parametrize("path", ["/", "", "/..", "/proc", "proc/self", "/a\0b"])
    def test_an_image_that_asks_for_the_impossible(self, box: Box, path: str) -> None:
        with pytest.raises(ImageError):
            box.make("web", {"Volumes": {path: {}}})
        assert containers.list_all(box.connection) == []

    def test_one_without_a_name_gives_way(self, box: Box) -> None:
        found = box.mounted(box.make("web", volume=["/x", "vol:/x", "/x", "/y", "/y"], tmpfs=["/y"]))
        assert {target: mount.source for target, mount in found.items()} == {"/x": "vol"}
        assert names(box.connection) == ["vol"]

    def test_without_v_anonymous_volumes_stay(self, box: Box) -> None:
        box.forget(box.make("web", volume=["/x"]))
        assert len(names(box.connection)) == 1

    def test_volumes_from(self, box: Box) -> None:
        first = box.make("first", volume=["vol:/data", "/host:/host:ro", "/anonymous"], tmpfs=["/t"])
        second = box.make("second", volume=["mine:/data"], volumes_from=["first:ro"])
        theirs, ours = box.mounted(first), box.mounted(second)
        assert ours["/data"].source == "mine"
        assert not ours["/data"].read_only
        assert set(ours) == {"/data", "/host", "/anonymous"}
        assert ours["/anonymous"].source == theirs["/anonymous"].source
        assert ours["/anonymous"].read_only
        assert not ours["/anonymous"].copy
        assert ours["/host"].options == theirs["/host"].options
        box.forget(first, anonymous=True)
        assert theirs["/anonymous"].source in names(box.connection), "the second one has it"
        box.forget(second, anonymous=True)
        assert theirs["/anonymous"].source not in names(box.connection)
        with pytest.raises(NotFound):
            box.make("third", volumes_from=["first"])

    def test_bytes_that_are_no_text(self, box: Box) -> None:
        source = os.fsdecode(b"/\xff")
        assert box.mounted(box.make("web", volume=[f"{source}:/x"]))["/x"].source == source

    def test_inspect(self, box: Box) -> None:
        box.make("web", volume=["vol:/data:ro", "/host:/host:rslave"], mount=["type=tmpfs,dst=/t"], tmpfs=["/hidden"])
        container = containers.find(box.connection, "web")
        found = {entry["Destination"]: entry for entry in volumes.mounts(box.settings, box.connection, container)}
        assert found == {
            "/data": {
                "Type": "volume", "Name": "vol", "Source": f"{box.settings.root}/volumes/vol/_data",
                "Destination": "/data", "Driver": "local", "Mode": "ro", "RW": False, "Propagation": "",
            },
            "/host": {
                "Type": "bind", "Source": "/host", "Destination": "/host", "Mode": "rslave", "RW": True,
                "Propagation": "rslave",
            },
            "/t": {"Type": "tmpfs", "Source": "", "Destination": "/t", "Mode": "", "RW": True, "Propagation": ""},
        }  # fmt: skip
        json_text.dumps(list(found.values()))

    def test_events_of_a_container_that_runs_and_ends(self, box: Box) -> None:
        made = box.make("web", volume=["vol:/x", "/host:/y"])
        before = happened(box.connection)
        with box.connection:
            containers.set_running(box.connection, made, 42)
            containers.set_restarting(box.connection, made, 1)
            containers.set_running(box.connection, made, 43)
            containers.set_exited(box.connection, made, 0)
            containers.set_exited(box.connection, made, 127, "never started")
        assert happened(box.connection)[len(before) :] == [("mount", "vol"), ("unmount", "vol")] * 2

    def test_a_source_of_mount_must_exist(self, tmp_path: pathlib.Path) -> None:
        volumes.check_sources(config(volume=[f"{tmp_path}/none:/x"], mount=[f"type=bind,src={tmp_path},dst=/y"]))
        with pytest.raises(UsageError, match="none"):
            volumes.check_sources(config(mount=[f"type=bind,src={tmp_path}/none,dst=/x"]))


class TestKilled:
    """What a command leaves that is killed at a certain point, and what the next one makes of it."""

    def test_before_a_new_volume_is_recorded(self, box: Box) -> None:
        for name in ("half", "whole"):
            pathlib.Path(box.settings.root, "volumes", name).mkdir(parents=True)
        pathlib.Path(box.settings.root, "volumes/whole/_data").mkdir()
        assert box.clear() == []
        assert os.listdir(f"{box.settings.root}/volumes") == []
        assert names(box.connection) == []

    def test_before_the_removal_is_recorded(self, box: Box) -> None:
        volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
        file = pathlib.Path(box.settings.root, "volumes/vol/_data/file")
        file.write_text("x")
        volume_data.discard(box.settings.root, "vol")
        assert not file.exists()
        assert box.clear() == []
        assert file.read_text() == "x"
        assert names(box.connection) == ["vol"]

    @pytest.mark.parametrize("made_again", [False, True])
    def test_before_the_files_are_removed(self, box: Box, made_again: bool) -> None:
        volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
        pathlib.Path(box.settings.root, "volumes/vol/_data/old").write_text("x")
        box.connection.execute("DELETE FROM volumes")
        path = volume_data.discard(box.settings.root, "vol")
        if made_again:
            volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
            pathlib.Path(box.settings.root, "volumes/vol/_data/new").write_text("y")
        assert box.clear() == []
        assert not os.path.exists(path)
        assert names(box.connection) == (["vol"] if made_again else [])
        if made_again:
            assert os.listdir(f"{box.settings.root}/volumes/vol/_data") == ["new"]

    def test_what_somebody_removes_at_this_moment_is_left_to_them(self, box: Box) -> None:
        volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
        box.connection.execute("DELETE FROM volumes")
        path = volume_data.discard(box.settings.root, "vol")
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        box.clear()
        assert os.path.exists(path)
        os.close(descriptor)
        box.clear()
        assert not os.path.exists(path)

    def test_files_without_a_volume_are_never_removed(self, box: Box) -> None:
        """The database was lost, or an older one was put back."""
        anonymous = "ab" * 32
        for name in ("kept", anonymous, "not a name"):
            data = pathlib.Path(box.settings.root, "volumes", name, "_data")
            data.mkdir(parents=True)
            (data / "file").write_text("x")
        assert box.clear() == []
        assert names(box.connection) == [anonymous, "kept"]
        assert [volume.anonymous for volume in volumes.list_all(box.connection)] == [True, False]
        assert sorted(os.listdir(f"{box.settings.root}/volumes")) == [anonymous, "kept", "not a name"]
        assert box.clear() == []

    def test_what_cannot_be_removed_is_said(self, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
        volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
        box.connection.execute("DELETE FROM volumes")
        path = volume_data.discard(box.settings.root, "vol")

        def fail(_: str) -> None:
            raise PermissionError(1, "Operation not permitted", f"{path}/_data/immutable")

        monkeypatch.setattr(volume_data, "remove_tree", fail)
        assert box.clear() == [f"remove volume: {path}/_data/immutable: operation not permitted"]


class Mortal(sqlite3.Connection):
    """A connection that is killed, its process with it, at a step that is counted down to."""

    left = -1

    @classmethod
    def step(cls) -> None:
        if cls.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        cls.left -= 1

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self.step()
        return super().execute(*arguments)

    def __exit__(self, *arguments: Any) -> Any:
        self.step()
        result = super().__exit__(*arguments)
        self.step()
        return result


def counted(function: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: Any, **options: Any) -> None:
        Mortal.step()
        function(*arguments, **options)
        Mortal.step()

    return call


def survives(action: Callable[[], None], steps: int) -> bool:
    """Do it in a process of its own that is killed after so many steps; False where it was."""
    pid = os.fork()
    if pid == 0:
        try:
            for name in ("mkdir", "rename", "rmdir", "unlink"):
                setattr(os, name, counted(getattr(os, name)))
            Mortal.left = steps
            action()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == 0


class TestKilledAnywhere:
    """Whatever step a command is killed at, after the next one the directories are those of the volumes."""

    ACTIONS: ClassVar[dict[str, Callable[[Box], object]]] = {
        "volume create": lambda box: volume_operations.create(box.settings, box.connection, "new", {}, Journal()),
        "volume rm": lambda box: volume_operations.remove(box.settings, box.connection, "old", Journal()),
        "create": lambda box: box.make("second", volume=["new:/x", "/y", "old:/z"]),
        "rm -v": lambda box: box.forget(containers.find(box.connection, "first").id, anonymous=True),
    }

    @pytest.mark.parametrize("action", ACTIONS)
    def test_all_or_nothing(self, settings: Settings, tmp_path: pathlib.Path, action: str) -> None:
        root = tmp_path / "box"
        settings.root = str(root / "root")
        root.mkdir()

        def open_box() -> Box:
            return Box(settings, sqlite3.connect(root / "db", isolation_level=None, factory=Mortal))

        box = open_box()
        for schema in (containers.SCHEMA, events.SCHEMA, volumes.SCHEMA):
            box.connection.executescript(schema)
        volume_operations.create(settings, box.connection, "old", {}, Journal())
        box.make("first", volume=["/anonymous"])
        (anonymous,) = {
            mount.source for mount in volumes.of(box.connection, containers.find(box.connection, "first").id)
        }
        for name in ("old", anonymous):
            pathlib.Path(volume_data.data(settings.root, name), "file").write_text(name)
        box.connection.close()
        shutil.copytree(root, tmp_path / "before", symlinks=True)
        for steps in range(200):
            shutil.rmtree(root)
            shutil.copytree(tmp_path / "before", root, symlinks=True)
            done = survives(lambda: self.ACTIONS[action](open_box()), steps)
            box = open_box()
            assert box.clear() == []
            assert sorted(os.listdir(f"{settings.root}/volumes")) == names(box.connection)
            for name in {"old", anonymous} & set(names(box.connection)):
                assert pathlib.Path(volume_data.data(settings.root, name), "file").read_text() == name
            for container in containers.list_all(box.connection):
                for mount in volumes.of(box.connection, container.id):
                    assert mount.source in names(box.connection)
            assert box.clear() == []
            box.connection.close()
            if done:
                return
        pytest.fail("it did not come to an end")


class TestCopyUp:
    """With an image of one layer, which needs no mount."""

    @pytest.fixture
    def layer(self, tmp_path: pathlib.Path) -> pathlib.Path:
        layer = tmp_path / "layer"
        (layer / "data/deep").mkdir(parents=True)
        (layer / "data/a").write_text("a")
        (layer / "data/deep/b").write_text("b")
        (layer / "data").chmod(0o1751)
        (layer / "link").symlink_to("/data")
        (layer / "file").touch()
        return layer

    def start(self, box: Box, name: str, layer: pathlib.Path, **values: Any) -> list[Mount]:
        made = config(**values)
        container_id = box.make(name, **values)
        return volumes.prepare(box.settings, box.connection, container_id, made, [str(layer)], Journal())

    def tree(self, box: Box, name: str = "vol") -> list[str]:
        top = pathlib.Path(box.settings.root, "volumes", name)
        return sorted(str(path.relative_to(top)) for path in top.rglob("*"))

    FULL = ["_data", "_data/a", "_data/deep", "_data/deep/b"]

    @pytest.mark.parametrize("target", ["/data", "/link"])
    def test_an_empty_volume(self, box: Box, layer: pathlib.Path, target: str) -> None:
        (found,) = self.start(box, "web", layer, volume=[f"vol:{target}"])
        assert found.source == f"{box.settings.root}/volumes/vol/_data"
        assert self.tree(box) == self.FULL
        assert stat.S_IMODE(os.stat(found.source).st_mode) == 0o1751

    @pytest.mark.parametrize(
        "values",
        [{"volume": ["vol:/data:nocopy"]}, {"mount": ["src=vol,dst=/data,volume-nocopy"]},
         {"volume": ["vol:/elsewhere"]}, {"volume": ["vol:/file"]}],
    )  # fmt: skip
    def test_nothing_to_copy(self, box: Box, layer: pathlib.Path, values: dict[str, Any]) -> None:
        self.start(box, "web", layer, **values)
        assert self.tree(box) == ["_data"]

    def test_a_volume_that_has_files(self, box: Box, layer: pathlib.Path) -> None:
        volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
        pathlib.Path(box.settings.root, "volumes/vol/_data/mine").touch()
        self.start(box, "web", layer, volume=["vol:/data"])
        assert self.tree(box) == ["_data", "_data/mine"]

    def test_only_at_the_first_start(self, box: Box, layer: pathlib.Path) -> None:
        self.start(box, "web", layer, volume=["vol:/elsewhere"])
        made = containers.find(box.connection, "web")
        os.rename(layer / "data", layer / "elsewhere")
        volumes.prepare(box.settings, box.connection, made.id, made.config, [str(layer)], Journal())
        assert self.tree(box) == ["_data"]

    def test_killed_while_files_are_copied(self, box: Box, layer: pathlib.Path) -> None:
        volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
        half = pathlib.Path(box.settings.root, "volumes/vol/_copy.partial/half")
        half.mkdir(parents=True)
        self.start(box, "web", layer, volume=["vol:/data"])
        assert self.tree(box) == self.FULL

    @pytest.mark.parametrize("options", ["", ":nocopy"])
    def test_killed_while_files_are_moved(self, box: Box, layer: pathlib.Path, options: str) -> None:
        volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
        top = pathlib.Path(box.settings.root, "volumes/vol")
        os.rename(layer / "data", top / "_copy")
        os.rename(top / "_copy/a", top / "_data/a")
        self.start(box, "web", layer, volume=[f"vol:/data{options}"])
        assert self.tree(box) == self.FULL
        assert stat.S_IMODE((top / "_data").stat().st_mode) == 0o1751

    def test_a_file_that_somebody_made_meanwhile_stays(self, box: Box, layer: pathlib.Path) -> None:
        volume_operations.create(box.settings, box.connection, "vol", {}, Journal())
        top = pathlib.Path(box.settings.root, "volumes/vol")
        os.rename(layer / "data", top / "_copy")
        (top / "_data/a").write_text("mine")
        copy_up.prepare(Journal(), box.settings.root, "vol", None)
        assert (top / "_data/a").read_text() == "mine"
        assert self.tree(box) == self.FULL

    def test_a_failure_leaves_the_volume_empty_and_the_next_start_copies(
        self, box: Box, layer: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pycontainer.engine import copy_tree as module
        from pycontainer.errors import StepFailed

        copy_content = module._copy_content

        def fail(name: str, *arguments: Any) -> None:
            if name == "b":
                raise OSError(28, "No space left on device", name)
            copy_content(name, *arguments)

        monkeypatch.setattr(module, "_copy_content", fail)
        with pytest.raises(StepFailed, match="no space"):
            self.start(box, "web", layer, volume=["vol:/data"])
        assert self.tree(box) == ["_data"]
        monkeypatch.undo()
        made = containers.find(box.connection, "web")
        volumes.prepare(box.settings, box.connection, made.id, made.config, [str(layer)], Journal())
        assert self.tree(box) == self.FULL

    def test_a_directory_that_somebody_removed_is_made_again(self, box: Box, layer: pathlib.Path) -> None:
        container_id = box.make("web", volume=["vol:/x"])
        os.rmdir(f"{box.settings.root}/volumes/vol/_data")
        os.rmdir(f"{box.settings.root}/volumes/vol")
        made = containers.get(box.connection, container_id)
        volumes.prepare(box.settings, box.connection, made.id, made.config, [str(layer)], Journal())
        assert self.tree(box) == ["_data"]


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    target.mkdir()
    descriptors = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
    before = len(os.listdir("/proc/self/fd"))
    try:
        copy_tree(*descriptors)
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class TestCopyTree:
    def test_all_that_belongs_to_a_file(self, tmp_path: pathlib.Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        (source / "d/e").mkdir(parents=True)
        (source / "d/e/setuid").write_bytes(b"x" * 100_000)
        (source / "d/e/setuid").chmod(0o6755)
        (source / "empty").touch(mode=0o600)
        os.setxattr(source / "empty", "user.test", b"\0\xff")
        os.setxattr(source / "d", "user.test", b"directory")
        os.link(source / "empty", source / "d/again")
        (source / "dangling").symlink_to("/nowhere")
        os.mkfifo(source / "fifo", 0o640)
        os.chmod(source / "d/e", 0o3711)
        for number, name in enumerate(["d/e/setuid", "empty", "dangling", "fifo", "d/e", "d", "."]):
            os.utime(source / name, ns=(10**18 + number, 10**18 + 2 * number), follow_symlinks=False)
        times = {
            name: (source / name).lstat().st_mtime_ns for name in ("d/e/setuid", "dangling", "fifo", "d/e", "d", ".")
        }
        copy(source, target)
        assert (target / "d/e/setuid").read_bytes() == b"x" * 100_000
        modes = [stat.S_IMODE((target / name).lstat().st_mode) for name in ("d/e/setuid", "empty", "fifo", "d/e")]
        assert modes == [0o6755, 0o600, 0o640, 0o3711]
        assert stat.S_ISFIFO((target / "fifo").stat().st_mode)
        assert os.getxattr(target / "empty", "user.test") == b"\0\xff"
        assert os.getxattr(target / "d", "user.test") == b"directory"
        assert (target / "empty").samefile(target / "d/again")
        assert os.readlink(target / "dangling") == "/nowhere"
        assert {name: (target / name).lstat().st_mtime_ns for name in times} == times
        assert sorted(os.listdir(target)) == ["d", "dangling", "empty", "fifo"]

    def test_holes_stay_holes(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "source").mkdir()
        with open(tmp_path / "source/sparse", "wb") as file:
            file.seek(1 << 20)
            file.write(b"middle")
            file.truncate(1 << 30)
        (tmp_path / "source/hole").touch()
        os.truncate(tmp_path / "source/hole", 1 << 30)
        copy(tmp_path / "source", tmp_path / "target")
        for name in ("sparse", "hole"):
            found = (tmp_path / "target" / name).stat()
            assert found.st_size == 1 << 30
            assert found.st_blocks < 2048
        with open(tmp_path / "target/sparse", "rb") as file:
            file.seek(1 << 20)
            assert file.read(7) == b"middle\0"

    def test_a_link_is_copied_and_not_followed(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/secret").touch()
        (tmp_path / "source").mkdir()
        (tmp_path / "source/link").symlink_to(tmp_path / "outside")
        copy(tmp_path / "source", tmp_path / "target")
        assert (tmp_path / "target/link").is_symlink()

    def test_a_tree_deeper_than_any_path_may_be_long(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "source").mkdir()
        home = os.getcwd()
        try:
            os.chdir(tmp_path / "source")
            for _ in range(60):
                os.mkdir("d" * 200)
                os.chdir("d" * 200)
            pathlib.Path("bottom").write_text("x")
        finally:
            os.chdir(home)
        copy(tmp_path / "source", tmp_path / "target")
        try:
            os.chdir(tmp_path / "target")
            for _ in range(60):
                os.chdir("d" * 200)
            assert pathlib.Path("bottom").read_text() == "x"
        finally:
            os.chdir(home)
