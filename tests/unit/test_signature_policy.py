"""Whose signature an image must have, by the name that it is asked for."""

from __future__ import annotations

import pathlib
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.errors import Conflict, UsageError
from pycontainer.image import policy, reference
from pycontainer.image.store import SCHEMA, Image, Store

ID = "sha256:" + "1" * 64
DIGEST = "sha256:" + "2" * 64


@pytest.fixture
def config(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("PYCONTAINER_CONFIG", str(tmp_path / "config.toml"))
    return tmp_path / "config.toml"


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    connection.execute("INSERT INTO images VALUES (?, ?, '{}', '', 0, '', '')", (ID, DIGEST))
    return Store(str(tmp_path), connection)


def named(store: Store, *names: str) -> Image:
    for name in names:
        store.tag(ID, name)
    return store.get(ID)


def prefix(name: str) -> str | None:
    rule = policy.find(reference.parse(name))
    return rule and rule.prefix


class TestFind:
    def test_without_a_file(self, config: pathlib.Path) -> None:
        assert prefix("r.io/team/app") is None

    def test_the_longest_prefix_of_whole_components(self, config: pathlib.Path) -> None:
        names = ("r.io", "r.io/team", "r.io/team/app/deep", "docker.io/library/alpine", "docker.io/tools")
        config.write_text("[signatures]\n" + "".join(f'"{name}" = "/key"\n' for name in names))
        assert prefix("r.io/app:1") == "r.io"
        assert prefix("r.io/teams/app") == "r.io"
        assert prefix("r.io/team") == prefix("r.io/team/app:2") == prefix(f"r.io/team/app@{DIGEST}") == "r.io/team"
        assert prefix("r.io/team/app/deep/er") == "r.io/team/app/deep"
        assert prefix("r.io:5000/team/app") is None
        assert prefix("sub.r.io/team") is None
        for name in ("alpine", "library/alpine:3", "docker.io/alpine", "index.docker.io/library/alpine",
                     "registry-1.docker.io/library/alpine"):  # fmt: skip
            assert prefix(name) == "docker.io/library/alpine"
        assert prefix("busybox") is None
        # As people write an official image, and a repository below that name.
        assert prefix("tools") == prefix("tools/one") == "docker.io/tools"

    def test_the_same_host_otherwise_written(self, config: pathlib.Path) -> None:
        config.write_text('[signatures]\n"Registry.example.com:443/team" = "/key"\n')
        for name in ("registry.example.com/team/app", "REGISTRY.example.com/team", "registry.example.com:443/team/a/b"):
            assert prefix(name) == "Registry.example.com:443/team"

    def test_a_table_with_escapes_in_its_name(self, config: pathlib.Path) -> None:
        config.write_text('["sign\\u0061tures"]\n"r.io" = "/key"\n')
        assert prefix("r.io/app") == "r.io"

    @given(st.binary())
    def test_whatever_the_file_holds(self, data: bytes) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pycontainer.image.config_file.read", lambda: b'signatures."r.io" = "/key"\n' + data)
            try:
                assert prefix("r.io/app") == "r.io"
            except UsageError as error:
                assert error.message.startswith("read configuration: ")


class TestCheck:
    @pytest.fixture
    def key(self, config: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
        path = tmp_path / "key.pub"
        path.write_text("key")
        config.write_text(f'[signatures]\n"r.io/team" = "{path}"\n')
        return path

    def verify(self, store: Store, key: pathlib.Path) -> None:
        row = (ID, policy.digest_of(key.read_bytes()), DIGEST)
        store.connection.execute("INSERT INTO verifications VALUES (?, ?, ?)", row)

    def test_what_is_not_below_the_name(self, store: Store, key: pathlib.Path) -> None:
        key.unlink()
        policy.check(store, named(store, "app"), "app")

    def test_never_verified(self, store: Store, key: pathlib.Path) -> None:
        image = named(store, "r.io/team/app", "app")
        with pytest.raises(Conflict) as caught:
            policy.check(store, image, "r.io/team/app")
        message = caught.value.message
        assert "r.io/team/app:latest: " in message and '"r.io/team"' in message and str(key) in message
        assert "pycontainer pull r.io/team/app:latest" in caught.value.hint
        # By another of its names it is what somebody here has given it.
        policy.check(store, image, "app")
        for asked in (ID, ID[7:19], f"r.io/team/app@{DIGEST}", f"r.io/team/app:9@{DIGEST}"):
            with pytest.raises(Conflict):
                policy.check(store, image, asked)

    def test_verified_with_the_key_that_the_file_holds_now(self, store: Store, key: pathlib.Path) -> None:
        self.verify(store, key)
        image = named(store, "r.io/team/app", "r.io/team/other:2")
        for asked in ("r.io/team/app:latest", "r.io/team/other:2", ID, f"r.io/team/app@{DIGEST}"):
            policy.check(store, image, asked)
        key.write_text("another")
        with pytest.raises(Conflict):
            policy.check(store, image, "r.io/team/app")
        key.unlink()
        with pytest.raises(UsageError, match=r"no such file"):
            policy.check(store, image, "r.io/team/app")

    def test_it_is_forgotten_with_the_image(self, store: Store, key: pathlib.Path) -> None:
        self.verify(store, key)
        named(store, "app")
        store.make_directories()
        store.remove("app", False, lambda _: [])
        assert store.connection.execute("SELECT count(*) FROM verifications").fetchone() == (0,)


@pytest.mark.parametrize("text", [None, '[images]\ndirectory = "/srv"\n', "not TOML"])
def test_no_parser_is_imported_without_such_a_table(tmp_path: pathlib.Path, text: str | None) -> None:
    path = tmp_path / "config.toml"
    if text is not None:
        path.write_text(text)
    script = "from pycontainer.image import policy; policy.check(None, None, 'app'); import sys; print(*sys.modules)"
    environment = {"PYCONTAINER_CONFIG": str(path), "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-S", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert set(result.stdout.split()).isdisjoint({"tomllib", "re", "hashlib", "pycontainer.image.reference"})


def test_what_a_check_imports_is_there_before(tmp_path: pathlib.Path) -> None:
    """So that no container waits for it that the launcher makes."""
    (tmp_path / "key.pub").write_text("key")
    path = tmp_path / "config.toml"
    path.write_text(f'[signatures]\n"r.io" = "{tmp_path}/key.pub"\n')
    script = """
import sys
from pycontainer.image import policy
class Image: id, names = "x", ["r.io/app:1"]
class Store: is_verified = staticmethod(lambda *_: True)
policy.prepare()
before = set(sys.modules)
policy.check(Store, Image, "r.io/app:1")
print("tomllib" in before, *set(sys.modules) - before)
"""
    environment = {"PYCONTAINER_CONFIG": str(path), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-S", "-c", script]
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == b"True\n"
    path.write_text("[signatures")
    script = "from pycontainer.image import policy; policy.prepare()"
    subprocess.run([sys.executable, "-S", "-c", script], env=environment, check=True)
