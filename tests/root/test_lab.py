"""What a lab refuses before it makes anything."""

from __future__ import annotations

import pytest
from conftest import Pycontainer, is_unified

from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, ImageNotFound
from pycontainer.labs import _stage


@pytest.mark.skipif(is_unified(), reason="this machine can show every lab")
@pytest.mark.parametrize("name", _stage.names())
def test_a_machine_that_cannot_show_it(pycontainer: Pycontainer, busybox: str, name: str) -> None:
    result = pycontainer("lab", name)
    assert (result.returncode, result.stdout) == (1, "")
    error, hint = result.stderr.splitlines()
    (controller,) = _stage.load(name).CONTROLLERS
    assert error.startswith(f"pycontainer: lab: {name}: ") and f"{controller} controller" in error
    assert hint.startswith("hint: boot with systemd.unified_cgroup_hierarchy=1")


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this machine had the controllers."""
    monkeypatch.setattr(_stage, "_require_controllers", lambda *_: None)


def test_an_image_that_is_not_there(pycontainer: Pycontainer, able: None) -> None:
    settings = Settings()
    settings.root, settings.state = str(pycontainer.root), str(pycontainer.state)
    with pytest.raises(ImageNotFound, match=r"lab oom: busybox: no such image\nhint: .*pycontainer load -i"):
        _stage.require(settings, "oom")


def test_a_container_of_that_name(box: Pycontainer, able: None) -> None:
    settings = Settings()
    settings.root, settings.state = str(box.root), str(box.state)
    _stage.require(settings, "cpu")
    box("create", "--name", "lab-cpu-more", "--network", "none", "busybox", check=True)
    with pytest.raises(Conflict, match=r"lab cpu: lab-cpu-more: there is a container"):
        _stage.require(settings, "cpu")
    _stage.require(settings, "oom")
    box("rm", "lab-cpu-more", check=True)
