"""Where on the disk layers and containers begin."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import new_directory
from test_image_layer import LayerTar, docker_archive, store  # noqa: F401

from pycontainer.image import overlay, workspace
from pycontainer.image.load import load
from pycontainer.image.store import Store
from pycontainer.image.unpack import Layer
from pycontainer.image.workspace import Workspace
from pycontainer.kernel.file_flags import spread_subdirectories


def has_flag(path: str | Path) -> bool:
    listed = subprocess.run(["lsattr", "-d", path], check=True, capture_output=True, text=True).stdout
    return "T" in listed.split()[0]


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory of a file system that knows the flag."""
    directory = new_directory()
    try:
        probe = directory / "probe"
        probe.mkdir()
        if subprocess.run(["chattr", "+T", probe], capture_output=True).returncode != 0:
            pytest.skip("the file system of the tests has no top-directory flag, as ext4 has")
        yield directory
    finally:
        shutil.rmtree(directory)


def test_layers_and_containers_are_spread_over_the_disk(store: Store, disk: Path) -> None:  # noqa: F811
    with Workspace(store, 1, 1) as work:
        assert has_flag(work.directory)
    for name in ("one", "two"):
        overlay.make_directories(f"{disk}/containers/{name}", 0)
    assert has_flag(disk / "containers") and not has_flag(disk / "containers/two/upper")


def test_a_layer_that_was_removed_does_not_begin_where_it_was(
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk's part is chosen by the name of the directory."""
    names: list[str] = []
    original = workspace.unpack_layers

    def unpack_layers(layers: list[Layer], *rest: Any) -> Any:
        names.extend(os.path.basename(layer.directory) for layer in layers)
        return original(layers, *rest)

    monkeypatch.setattr(workspace, "unpack_layers", unpack_layers)
    for _ in range(2):
        load(store, io.BytesIO(docker_archive([LayerTar().add("file").data()])))
        store.remove("test", True, lambda _: [])
    assert len(set(names)) == len(names) == 2


def test_flags_that_a_directory_has_are_kept(disk: Path) -> None:
    subprocess.run(["chattr", "+A", disk], check=True)
    for _ in range(2):
        spread_subdirectories(str(disk))
        flags = subprocess.run(["lsattr", "-d", disk], check=True, capture_output=True, text=True).stdout.split()[0]
        assert "A" in flags and "T" in flags


@pytest.mark.parametrize("path", ["/proc", "/sys", "/dev/shm"])
def test_a_file_system_without_the_flag_is_no_failure(path: str) -> None:
    if os.path.isdir(path):
        spread_subdirectories(path)


def test_a_directory_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spread_subdirectories(str(tmp_path / "absent"))
