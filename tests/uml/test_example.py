"""The steps of docs/examples/oom.yml do what they say, without the one that installs."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import textwrap

from conftest import REPOSITORY, Pycontainer

EXAMPLE = REPOSITORY / "docs/examples/oom.yml"


def steps() -> list[str]:
    """The shell texts, in order."""
    found = re.findall(r"^ +(?:- )?run: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", EXAMPLE.read_text(), re.MULTILINE)
    return [textwrap.dedent(block) or line for block, line in found]


def test_the_steps(busybox: str, pycontainer: Pycontainer, engine_env: dict[str, str], programs: pathlib.Path) -> None:
    install, *others = steps()
    assert "install.sh" in install and len(others) == 2
    environment = {**os.environ, **engine_env, "PATH": f"{programs}:{os.environ['PATH']}"}
    try:
        for step in others:
            # As a runner does it.
            result = subprocess.run(["bash", "-e", "-c", step], env=environment, capture_output=True, text=True)
            assert result.returncode == 0, (step, result.stderr)
    finally:
        pycontainer("rm", "-f", "hog", check=True)
