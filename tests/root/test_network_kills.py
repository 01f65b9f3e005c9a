"""`network create`, `connect` and `disconnect`, killed at every step: what is left can be taken back by a command."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import REPOSITORY, Pycontainer, copy_store, end_processes, own_bridges

# The command line, which kills itself before a step.
KILLED_AT = f"""
import os, signal, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from pycontainer.kernel.operation import Journal
from pycontainer.cli import main
left, perform = [int(sys.argv.pop(1))], Journal.perform
def counted(journal, operation):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return perform(journal, operation)
Journal.perform = counted
main.main()
"""
MOST = 60  # steps


@pytest.fixture
def engine(pycontainer: Pycontainer, busybox_root: pathlib.Path) -> Iterator[Pycontainer]:
    copy_store(busybox_root, pycontainer.environment)
    for name in ("one", "two"):
        pycontainer("network", "create", name, check=True)
    yield pycontainer
    end_processes(pycontainer.environment)


def kills(engine: Pycontainer, *words: str) -> Iterator[int]:
    """Run a command again and again, killed one step later each time; ends with the run that came through."""
    for last in range(MOST):
        done = subprocess.run(
            [sys.executable, "-c", KILLED_AT, str(last), *words],
            env=engine.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, -9), done.stderr
        yield last
        if not done.returncode:
            assert last > 4
            return
    pytest.fail("it takes more steps than this test kills")


def test_create(engine: Pycontainer) -> None:
    interface = engine.environment["PYCONTAINER_BRIDGE"] + "k"
    place = pathlib.Path(f"/sys/class/net/{interface}")
    for _ in kills(engine, "network", "create", "--opt", f"com.docker.network.bridge.name={interface}", "three"):
        assert not place.exists() or interface in own_bridges(engine.environment)
        engine("network", "rm", "-f", "three", check=True)
        assert not place.exists()


@pytest.fixture
def ant(engine: Pycontainer) -> Pycontainer:
    """An installation with a container that publishes a port, in `one`."""
    engine("run", "-d", "--name", "ant", "--network", "one", "-p", "0:80", "busybox", "sleep", "1000", check=True)
    return engine


def links(engine: Pycontainer) -> list[str]:
    return engine("exec", "ant", "ls", "/sys/class/net", check=True).stdout.split()


def networks(engine: Pycontainer) -> list[str]:
    (found,) = json.loads(engine("inspect", "ant", check=True).stdout)
    return sorted(found["NetworkSettings"]["Networks"])


def test_connect(ant: Pycontainer) -> None:
    for _ in kills(ant, "network", "connect", "two", "ant"):
        assert ("two" in networks(ant)) or links(ant) == ["eth0", "lo"]
        if "two" in networks(ant):
            ant("network", "disconnect", "two", "ant", check=True)
        assert links(ant) == ["eth0", "lo"]
        ant("network", "rm", "two", check=True)
        ant("network", "create", "two", check=True)


def test_disconnect(ant: Pycontainer) -> None:
    ant("network", "connect", "two", "ant", check=True)
    published = ant("port", "ant", check=True).stdout
    for _ in kills(ant, "network", "disconnect", "one", "ant"):
        if "one" in networks(ant):
            ant("network", "disconnect", "one", "ant", check=True)
        assert networks(ant) == ["two"] and len(links(ant)) == 2
        assert "default" in ant("exec", "ant", "ip", "route", check=True).stdout
        rules = subprocess.run(
            ["nft", "list", "table", "ip", f"pycontainer_{ant.environment['PYCONTAINER_BRIDGE']}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        (found,) = json.loads(ant("inspect", "ant", check=True).stdout)
        address = found["NetworkSettings"]["Networks"]["two"]["IPAddress"]
        port = published.strip().rpartition(":")[2]
        assert f"tcp . {port} : {address} . 80" in rules
        # As it was.
        ant("network", "connect", "one", "ant", check=True)
        ant("network", "disconnect", "two", "ant", check=True)
        ant("network", "connect", "two", "ant", check=True)
