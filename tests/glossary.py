"""docs/glossary.md: each look shows something."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

from conftest import REPOSITORY, Pycontainer, wait_until

PAGE = REPOSITORY / "docs/glossary.md"
# What there is only where that controller is on cgroup v2.
NEEDS_CONTROLLER = re.compile(r"(memory|pids|cpu)\.(max|high|events)|cgroup\.(controllers|subtree_control)")


def looks(*, need_controller: bool) -> list[str]:
    """The commands after each "See"."""
    entries = re.split(r"^- (?=\*\*)", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = []
    for entry in entries:
        _, see, rest = re.sub(r"\s*\n\s*", " ", entry).partition(" See `")
        assert see, entry
        found += re.findall(r"`([^`]* [^`]*)`", f"`{rest}")
    return [look for look in found if bool(NEEDS_CONTROLLER.search(look)) == need_controller]


def look_at(found: list[str], options: dict[str, str], pycontainer: Pycontainer, programs: pathlib.Path) -> None:
    """Start the page's container, with other options in place of some, and type these commands.

    Each has to print something, and to end with status 0.
    """
    text = PAGE.read_text()
    start = text.split("```sh\n")[1].partition("```")[0]
    for option, other in options.items():
        assert option in start
        start = start.replace(option, other)
    for theirs, mine in (
        ("table ip pycontainer", f"table ip pycontainer_{pycontainer.bridge}"),
        ("pyc0", pycontainer.bridge),
        ("/var/lib/pycontainer", str(pycontainer.root)),
        ("/run/pycontainer", str(pycontainer.state)),
    ):
        found = [look.replace(theirs, mine) for look in found]
    environment = {**os.environ, **pycontainer.environment, "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C"}

    def shell(command: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-c", command]
        return subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    try:
        names = "echo PID=$PID; echo ID=$ID; echo CGROUP=$CGROUP"
        started = shell(f"{start}\n{names}")
        environment |= dict(line.split("=", 1) for line in started.stdout.splitlines()[-3:])
        wait_until(lambda: shell("pycontainer exec one test ! -e /bin/vi").returncode == 0)
        blind = {look: done.stderr for look in found if (done := shell(look)).returncode or not done.stdout.strip()}
        assert blind == {}
    finally:
        done = shell(re.findall("^`(pycontainer rm .*?)`", text, re.MULTILINE)[0])
    assert done.returncode == 0, done.stderr
