"""--filter: which keys there are and what they mean."""

from __future__ import annotations

import sqlite3
import time
from types import SimpleNamespace
from typing import Any

import pytest

from pycontainer import json_text
from pycontainer.cli import filters
from pycontainer.cli.filters import Filters
from pycontainer.engine import containers, database, networks, volumes
from pycontainer.engine.events import Event
from pycontainer.engine.volumes import Volume
from pycontainer.errors import NotFound, UsageError
from pycontainer.image.store import Image
from pycontainer.network import lease

ROOT: Any = SimpleNamespace(root="/nowhere", state="/nowhere", bridge="none")
NOW = 1_800_000_000.0


@pytest.fixture
def connection() -> Any:
    """A database in memory with the tables of all modules."""
    made = database.sqlite.connect(":memory:", isolation_level=None)
    database._make_tables(made)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name", "--filter: 'name': not KEY=VALUE"),
        ("nmae=x", "--filter: 'nmae=x': no such filter 'nmae'"),
        ("", "--filter: '': not KEY=VALUE"),
    ],
)
def test_what_is_no_filter(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        Filters([text], ("name", "id"))
    assert error.value.message == message
    assert "id" in error.value.hint


def test_keys_and_values_are_trimmed_and_keys_are_of_any_case() -> None:
    assert Filters([" NAME = web "], ["name"]).values("name") == ["web"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], True),
        (["label=a"], True),
        (["label=a=1"], True),
        (["label=a=2"], False),
        (["label=a", "label=b"], True),
        (["label=a", "label=c"], False),
        (["label=e="], True),
        (["label!=a"], False),
        (["label!=c"], True),
        (["label!=a=2"], True),
        (["label!=c", "label!=b"], False),
        (["label=a", "label!=c"], True),
    ],
)
def test_labels(texts: list[str], expected: bool) -> None:
    assert Filters(texts, ["label", "label!"]).labels({"a": "1", "b": "x=y", "e": ""}) == expected


def test_a_wrong_regular_expression() -> None:
    with pytest.raises(UsageError, match="not a regular expression"):
        Filters(["name=["], ["name"]).search("name", "web")


@pytest.mark.parametrize(
    ("texts", "created", "expected"),
    [
        ([], NOW, True),
        (["until=10m"], NOW - 601, True),
        (["until=10m"], NOW - 599, False),
        ([f"until={NOW - 5:.0f}"], NOW - 6, True),
        (["until=10m", "until=1h"], NOW - 601, False),
        (["until=10m", "label=a"], NOW - 601, True),
        (["label!=a"], NOW, False),
    ],
)
def test_prune(texts: list[str], created: float, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert filters.prune_filter(texts)(created, {"a": "1"}) == expected


@pytest.mark.parametrize("text", ["until=x", "dangling=true"])
def test_what_prune_does_not_know(text: str) -> None:
    with pytest.raises(UsageError):
        filters.prune_filter([text])


def add_image(connection: Any, digit: str, layers: str, name: str = "", created: str = "", labels: Any = None) -> str:
    image_id = f"sha256:{digit * 64}"
    config = json_text.dumps({"config": {"Labels": labels}, "rootfs": {"diff_ids": []}})
    row = (image_id, f"sha256:{digit * 64}", config, created, 1, layers, "")
    connection.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    if name:
        full = f"docker.io/library/{name}"
        connection.execute("INSERT INTO image_names VALUES (?, ?, ?)", (full, name, image_id))
    return image_id


def add_container(connection: Any, name: str, image_id: str, status: str, created: float, **columns: Any) -> None:
    values = {
        "id": f"{name:0<64}",
        "name": name,
        "image": "busybox",
        "image_id": image_id,
        "command": '["sh"]',
        "labels": "{}",
        "status": status,
        "error": "",
        "auto_remove": 0,
        "created": created,
        "config": json_text.dumps({"image": "busybox", "command": [], "values": {"network": "none"}}),
        **columns,
    }
    connection.execute(
        f"INSERT INTO containers ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", tuple(values.values())
    )


@pytest.fixture
def populated(connection: Any) -> Any:
    base = add_image(connection, "1", "aa", "base:latest", "2026-01-01T00:00:00Z")
    child = add_image(connection, "2", "aa bb", "child:v1", "2026-01-02T00:00:00Z")
    other = add_image(connection, "3", "cc", "", "2026-01-03T00:00:00Z")
    add_container(connection, "a1", base, "running", 1.0, labels='{"x": "1"}', health='{"Status": "healthy"}')
    add_container(connection, "a2", child, "exited", 2.0, exit_status=3)
    add_container(connection, "b1", other, "starting", 3.0)
    values = json_text.dumps({"image": "busybox", "command": [], "values": {"network": "host"}})
    add_container(connection, "b2", base, "paused", 4.0, config=values, health='{"Status": "starting"}')
    mount = {"kind": "volume", "source": "data", "target": "/srv", "options": []}
    row = (f"{'b1':0<64}", "data", 0, json_text.dumps(mount))
    connection.execute("INSERT INTO mounts VALUES (?, ?, ?, ?)", row)
    return connection


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], "a1 a2 b1 b2"),
        (["name=a"], "a1 a2"),
        (["name=^.2$"], "a2 b2"),
        (["name=a1", "name=b1"], "a1 b1"),
        (["id=b1"], "b1"),
        (["label=x"], "a1"),
        (["label!=x"], "a2 b1 b2"),
        (["exited=3"], "a2"),
        (["exited=0"], ""),
        (["status=running"], "a1"),
        (["status=created", "status=paused"], "b1 b2"),
        (["status=exited", "name=b"], ""),
        (["ancestor=base"], "a1 a2 b2"),
        (["ancestor=child:v1"], "a2"),
        ([f"ancestor={'3' * 12}"], "b1"),
        (["ancestor=nothing"], ""),
        (["before=b1"], "a1 a2"),
        (["since=a2"], "b1 b2"),
        (["since=a1", "before=b2"], "a2 b1"),
        (["volume=data"], "b1"),
        (["volume=/srv"], "b1"),
        (["volume=/sr"], ""),
        (["network=host"], "b2"),
        (["network=none"], "a1 a2 b1"),
        ([f"network={networks.identify(ROOT, 'host')[:12]}"], "b2"),
        (["health=healthy"], "a1"),
        (["health=none"], "a2 b1"),
        (["health=starting"], "b2"),
    ],
)
def test_containers(texts: list[str], names: str, populated: Any) -> None:
    wanted = filters.container_filter(ROOT, populated, Filters(texts, filters.CONTAINER))
    assert sorted(each.name for each in containers.list_all(populated) if wanted(each)) == names.split()


@pytest.mark.parametrize("text", ["status=dying", "health=ill", "exited=x", "exited=-1"])
def test_a_value_that_cannot_be(text: str, populated: Any) -> None:
    with pytest.raises(UsageError):
        filters.container_filter(ROOT, populated, Filters([text], filters.CONTAINER))


def test_a_container_that_is_not_there(populated: Any) -> None:
    with pytest.raises(NotFound):
        filters.container_filter(ROOT, populated, Filters(["before=zz"], filters.CONTAINER))


def test_a_container_of_an_older_version_is_in_no_network(populated: Any) -> None:
    populated.execute("UPDATE containers SET config=''")
    wanted = filters.container_filter(ROOT, populated, Filters(["network=none"], filters.CONTAINER))
    assert not any(map(wanted, containers.list_all(populated)))


@pytest.mark.parametrize(
    ("texts", "digits"),
    [
        ([], "123"),
        (["dangling=true"], "3"),
        (["dangling=0"], "12"),
        (["before=child:v1"], "1"),
        (["since=base"], "23"),
        (["until=2026-01-02T00:00:01Z"], "12"),
    ],
)
def test_images(texts: list[str], digits: str, populated: Any) -> None:
    from pycontainer.image.store import Store

    wanted = filters.image_filter(ROOT, populated, Filters(texts, filters.IMAGE))
    found = [image for image in Store("/nowhere", populated).images() if wanted(image)]
    assert sorted(image.id[7] for image in found) == list(digits)


def test_an_image_without_time_or_labels(connection: Any) -> None:
    add_image(connection, "1", "aa", labels=None)
    add_image(connection, "2", "aa", created="soon", labels={"a": "b"})
    rows = connection.execute(
        "SELECT id, config, layers, size, created, digest, NULL FROM images ORDER BY id"
    ).fetchall()
    images = [Image(row, "") for row in rows]
    assert [filters.image_created(image) for image in images] == [0.0, 0.0]
    wanted = filters.image_filter(ROOT, connection, Filters(["label=a=b"], filters.IMAGE))
    assert [wanted(image) for image in images] == [False, True]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("busybox", "busybox:latest", True),
        ("busybox:latest", "busybox:latest", True),
        ("busybox:v1", "busybox:latest", False),
        ("busy*", "busybox:latest", True),
        ("*:latest", "busybox:latest", True),
        ("b?sy[a-c]ox", "busybox:v1", True),
        ("[^a]*", "busybox:v1", True),
        ("*", "quay.io/team/app:v1", False),
        ("*/*/app", "quay.io/team/app:v1", True),
        ("quay.io/team/*:v?", "quay.io/team/app:v1", True),
        ("busy", "busybox:latest", False),
        ("*", "", False),
    ],
)
def test_references(pattern: str, name: str, expected: bool) -> None:
    assert filters.is_reference(pattern, name) == expected


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], "data other"),
        (["dangling=true"], "other"),
        (["dangling=false"], "data"),
        (["name=^o"], "other"),
        (["driver=local"], "data other"),
        (["driver=nfs"], ""),
        (["label=a"], "other"),
    ],
)
def test_volumes(texts: list[str], names: str, populated: Any) -> None:
    wanted = filters.volume_filter(populated, Filters(texts, filters.VOLUME))
    found = [Volume(("data", "{}", 1.0)), Volume(("other", '{"a": "b"}', 2.0))]
    assert [volume.name for volume in found if wanted(volume)] == names.split()
    assert volumes.users(populated, "data") == ["b1"]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], "bridge host none"),
        (["name=o"], "host none"),
        (["driver=null"], "none"),
        (["type=builtin"], "bridge host none"),
        (["type=custom"], ""),
        (["scope=swarm"], ""),
        (["label=a"], ""),
        ([f"id={networks.identify(ROOT, 'none')[:9]}"], "none"),
    ],
)
def test_networks(texts: list[str], names: str) -> None:
    wanted = filters.network_filter(sqlite3.connect(":memory:"), Filters(texts, filters.NETWORK))
    known = [networks.Network(ROOT, name, None) for name in networks.DRIVERS]
    assert [network.name for network in known if wanted(network)] == names.split()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["type=custom"], True),
        (["type=builtin"], False),
        (["label=a=b"], True),
        (["label=a=c"], False),
        (["id=ffff"], True),
        (["name=mine", "driver=bridge"], True),
    ],
)
def test_a_network_of_a_users(texts: list[str], expected: bool) -> None:
    stored = lease.StoredNetwork(
        "mine", "pyc-x", "10.98.0.0/24", "10.98.0.1", "f" * 64, 1.0, lease.Traits(labels={"a": "b"})
    )
    wanted = filters.network_filter(sqlite3.connect(":memory:"), Filters(texts, filters.NETWORK))
    assert wanted(networks.Network(ROOT, "mine", stored)) is expected


def test_a_kind_of_network_that_there_is_none_of() -> None:
    with pytest.raises(UsageError):
        filters.network_filter(ROOT, Filters(["type=x"], filters.NETWORK))


def event(number: int, kind: str, action: str, actor: str, **attributes: str) -> Event:
    return Event((number, 1.0, kind, action, actor, json_text.dumps(attributes)))


EVENTS = [
    event(1, "container", "create", "abcdef", name="web", image="busybox:v1", color="red"),
    event(2, "container", "health_status: healthy", "abcdef", name="web", image="busybox:v1"),
    event(3, "volume", "mount", "data", container="abcdef", driver="local"),
    event(4, "network", "connect", "0123", name="bridge", container="abcdef"),
    event(5, "image", "tag", "sha256:99", name="quay.io:443/app:v1"),
]


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        ([], "12345"),
        (["type=container", "type=image"], "125"),
        (["container=web"], "12"),
        (["container=abc"], "12"),
        (["container=eb"], ""),
        (["volume=data"], "3"),
        (["network=bridge"], "4"),
        (["event=create"], "1"),
        (["event=health_status"], "2"),
        (["event=health_status: healthy"], "2"),
        (["event=health"], ""),
        (["image=busybox"], "12"),
        (["image=busybox:v1"], "12"),
        (["image=busybox:v2"], ""),
        (["image=quay.io:443/app"], "5"),
        (["image=sha256:99"], "5"),
        (["label=color=red"], "1"),
        (["label!=color"], "2345"),
        (["container=web", "event=mount"], ""),
    ],
)
def test_events(texts: list[str], numbers: str) -> None:
    wanted = filters.event_filter(Filters(texts, filters.EVENT))
    assert "".join(str(each.number) for each in EVENTS if wanted(each)) == numbers
