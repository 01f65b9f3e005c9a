"""`network create`, `connect` and `disconnect`, killed at every step: what is left can be taken back by a command."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import REPOSITORY, Pycontainer, bridge_ports, copy_store, end_processes, lasting, own_bridges

# The command line, as tests/command.py has it, which kills itself before a step.
KILLED_AT = f"""
import os, signal, sys
sys.path[:0] = {[str(REPOSITORY), *sys.path[1:]]!r}
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
            [sys.executable, "-IS", "-c", KILLED_AT, str(last), *words],
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


def inspect(engine: Pycontainer) -> tuple[dict[str, str], pathlib.Path]:
    """Network -> address of the container, and /proc/PID/net of its first process."""
    (found,) = json.loads(engine("inspect", "ant", check=True).stdout)
    endpoints = found["NetworkSettings"]["Networks"]
    return {name: each["IPAddress"] for name, each in endpoints.items()}, pathlib.Path(
        f"/proc/{found['State']['Pid']}/net"
    )


def links(net: pathlib.Path) -> list[str]:
    """As the container has them, without a command in it."""
    return sorted(line.partition(":")[0].strip() for line in (net / "dev").read_text().splitlines()[2:])


def has_default_route(net: pathlib.Path) -> bool:
    return any(line.split()[1] == "00000000" for line in (net / "route").read_text().splitlines()[1:])


def test_connect(ant: Pycontainer) -> None:
    (found,) = json.loads(ant("network", "inspect", "two", check=True).stdout)
    bridge = found["Options"]["com.docker.network.bridge.name"]
    for _ in kills(ant, "network", "connect", "two", "ant"):
        networks, net = inspect(ant)
        if "two" in networks:
            ant("network", "disconnect", "two", "ant", check=True)
        assert links(net) == ["eth0", "lo"]
        # It has no address there and no cable, and so the network could go.
        (found,) = json.loads(ant("network", "inspect", "two", check=True).stdout)
        assert found["Containers"] == {}
        assert not lasting(lambda: bridge_ports(bridge))
    ant("network", "rm", "two", check=True)


def test_disconnect(ant: Pycontainer) -> None:
    ant("network", "connect", "two", "ant", check=True)
    published = ant("port", "ant", check=True).stdout
    for _ in kills(ant, "network", "disconnect", "one", "ant"):
        networks, net = inspect(ant)
        if "one" in networks:
            ant("network", "disconnect", "one", "ant", check=True)
            networks, _ = inspect(ant)
        assert list(networks) == ["two"] and len(links(net)) == 2
        assert has_default_route(net)
        rules = subprocess.run(
            ["nft", "list", "table", "ip", f"pycontainer_{ant.environment['PYCONTAINER_BRIDGE']}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        port = published.strip().rpartition(":")[2]
        assert f"tcp . {port} : {networks['two']} . 80" in rules
        # As it was.
        ant("network", "connect", "one", "ant", check=True)
        ant("network", "disconnect", "two", "ant", check=True)
        ant("network", "connect", "two", "ant", check=True)
