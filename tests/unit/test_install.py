"""install.sh --uninstall, its functions called one by one with directories of the test's own."""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess

import pytest
from conftest import REPOSITORY


class Installation:
    """What install.sh may find: every path below one directory, apt-get and dpkg-query replaced by functions."""

    def __init__(self, top: pathlib.Path) -> None:
        self.top = top
        self.prefix, self.state = top / "prefix", top / "state"
        self.settings = "\n".join(
            f"{name}={shlex.quote(str(top / name.lower()))}" for name in ("PREFIX", "LINKS", "UNIT", "ROOT", "STATE")
        )

    def __call__(self, script: str) -> subprocess.CompletedProcess[str]:
        # Nothing of this machine's can be taken away, should a check fail that comes before.
        harmless = "nft() { false; }; ip() { false; }; systemctl() { false; }; umount() { false; }"
        # Nothing can be installed either: a script that began by itself would find that it is not root.
        nobody = "id() { echo 1; }"
        file = shlex.quote(str(REPOSITORY / "install.sh"))
        script = f"{nobody}\n. {file}\n{self.settings}\nCOMPLETIONS=()\n{harmless}\n{script}"
        return subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )

    def runtime_lists(self, text: str) -> None:
        """Put a pycontainer-runtime there whose `list` prints that."""
        (self.prefix / "bin").mkdir(parents=True)
        (self.state / "runtime").mkdir(parents=True)
        program = self.prefix / "bin/pycontainer-runtime"
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(text)}\n")
        program.chmod(0o755)


@pytest.fixture
def installation(tmp_path: pathlib.Path) -> Installation:
    return Installation(tmp_path)


def test_where_nothing_is_installed_that_is_said(installation: Installation) -> None:
    result = installation("YES=yes; do_uninstall")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "==> pycontainer is not installed: there is nothing to take away\n"


def test_a_container_of_the_runtime_is_not_left_without_its_state(installation: Installation) -> None:
    installation.runtime_lists("ID PID STATUS BUNDLE\nold 0 stopped /b\nweb 123 running /b\nnew 124 created /c")
    result = installation("cgroups() { :; }; YES=yes; do_uninstall")
    assert result.returncode == 1
    assert "containers of pycontainer-runtime are running: web new" in result.stderr
    assert "pycontainer-runtime delete --force" in result.stderr
    assert installation.state.exists() and installation.prefix.exists()


def test_one_that_has_ended_is_no_obstacle(installation: Installation) -> None:
    installation.runtime_lists("ID PID STATUS BUNDLE\nold 0 stopped /b")
    result = installation("cgroups() { :; }; refuse_running")
    assert (result.returncode, result.stderr) == (0, "")


APT = """
apt-get() {
    echo "apt-get $*"
    if [ "$1" = update ]; then touch %s; return; fi
    [ -e %s ] || { echo "has been obsoleted"; return 100; }
}
is_installed() { [ "$1" = there ] || [ "${HAVE-}" = all ]; }
"""


def test_what_apt_says_of_old_lists_is_not_shown(installation: Installation) -> None:
    lists = shlex.quote(str(installation.top / "lists"))
    result = installation(APT % (lists, lists) + "install_packages there busybox-static")
    assert result.returncode == 0, result.stderr
    assert "obsoleted" not in result.stdout + result.stderr
    lines = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("apt-get")]
    assert lines == ["update", "install"]


def test_the_packages_that_were_brought_are_named_at_the_end(installation: Installation) -> None:
    installation.prefix.mkdir()
    lists = shlex.quote(str(installation.top / "lists"))
    fake = APT % (lists, lists)
    result = installation(fake + "install_packages there gcc busybox-static >/dev/null; read_brought; write_brought")
    assert result.returncode == 0, result.stderr
    # An upgrade brings one more, and forgets none.
    installation(fake + "install_packages tini >/dev/null; read_brought; write_brought")
    result = installation(fake + "HAVE=all; read_brought; say_packages")
    assert result.stdout == (
        "==> the Debian packages that it brought stay; to remove them: apt-get remove busybox-static gcc tini\n"
    )


def test_nothing_is_said_of_packages_where_none_were_brought(installation: Installation) -> None:
    installation.prefix.mkdir()
    result = installation("read_brought; write_brought; say_packages")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert os.listdir(installation.prefix) == []
