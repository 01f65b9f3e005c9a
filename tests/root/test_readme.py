"""The README shows what is printed: its excerpt of an explanation is what docs/explain.py makes of today's."""

from __future__ import annotations

import importlib.util
import types

import pytest
from conftest import REPOSITORY, Pycontainer


@pytest.fixture
def script() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("explain", REPOSITORY / "docs/explain.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_shows_what_is_explained(script: types.ModuleType, pycontainer: Pycontainer, busybox: str) -> None:
    arguments = script.COMMAND.replace("busybox", busybox).split()[1:]
    explanation = pycontainer(*arguments, check=True).stderr
    assert script.shown() == script.excerpt(explanation), f"sudo {script.COMMAND} 2>&1 | docs/explain.py"


def test_a_step_that_is_gone_is_missed(script: types.ModuleType) -> None:
    with pytest.raises(ValueError, match="clone3"):
        script.excerpt("mounts\n  mount(1)\n      # why\n")
