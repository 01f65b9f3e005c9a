"""Published ports by IPv6 that the kernel does not translate: a process relays them while somebody uses them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from conftest import SESSION, Pycontainer, wait_until

from pycontainer.network import relay as relay_module

# In the container's network: gives back what it gets, and the end of it.
ECHO = """
import socket, sys, threading
def echo(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
def serve(server):
    while True:
        threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
def answer(server):
    while True:
        data, peer = server.recvfrom(65536)
        server.sendto(data[::-1], peer)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 7))
threading.Thread(target=serve, args=(socket.create_server(("", 7)),), daemon=True).start()
print("ready", flush=True)
answer(udp)
"""


class Echo:
    """A container with an echo server, published at any port: `tcp` and `udp` are the host's."""

    def __init__(self, pycontainer: Pycontainer) -> None:
        self.pycontainer = pycontainer
        options = ["-d", "--name", "echo", "--restart", "always", "-p", "7", "-p", "7/udp"]
        pycontainer("run", *options, "busybox", "sleep", "1000", check=True)
        self.tcp, self.udp = (self.port(protocol) for protocol in ("tcp", "udp"))
        self.serve()

    def pid(self) -> int:
        return int(self.pycontainer("inspect", "-f", "{{.State.Pid}}", "echo", check=True).stdout)

    def serve(self) -> None:
        command = ["nsenter", "-t", str(self.pid()), "-n", sys.executable, "-ISc", ECHO]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.server.stdout
        with self.server.stdout as out:
            out.readline()

    def port(self, protocol: str) -> int:
        places = self.pycontainer("port", "echo", f"7/{protocol}", check=True).stdout.split()
        assert [place.rpartition(":")[0] for place in places] == ["0.0.0.0", "[::]"]
        (number,) = {int(place.rpartition(":")[2]) for place in places}
        return number

    def close(self) -> None:
        self.server.kill()
        self.server.wait()


@pytest.fixture
def echo(busybox: str, pycontainer: Pycontainer) -> Iterator[Echo]:
    made = Echo(pycontainer)
    yield made
    made.close()
    pycontainer("rm", "-f", "echo")
    pycontainer("network", "prune", "-f")


def parent(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def relays() -> list[int]:
    """This session's."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        directory = pathlib.Path("/proc", pid)
        try:
            is_relay = (directory / "comm").read_text() == "pyc-relay\n"
            if is_relay and SESSION.encode() in (directory / "environ").read_bytes():
                found.append(int(pid))
        except OSError:
            continue
    return found


def exchange(port: int, data: bytes) -> bytes:
    """What the server gives back, to its end, while it is still being sent to."""
    with socket.create_connection(("::1", port), timeout=30) as connection:

        def send() -> None:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        found = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        sender.join()
    return found


def ask(port: int, data: bytes) -> bytes:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("::1", port))
        client.send(data)
        return client.recv(1 << 16)


def test_there_is_none_until_it_is_needed(echo: Echo) -> None:
    with socket.create_connection(("127.0.0.1", echo.tcp), timeout=10) as connection:
        connection.sendall(b"translated by the kernel")
        assert connection.recv(99)
    assert relays() == []
    assert exchange(echo.tcp, b"hello") == b"hello"
    (relay,) = relays()
    # One for all ports of the container.
    assert ask(echo.udp, b"abc") == b"cba"
    assert relays() == [relay]
    status = pathlib.Path(f"/proc/{relay}/status").read_text()
    assert "CapEff:\t0000000000000000\n" in status and "NoNewPrivs:\t1\n" in status


def test_much_in_both_directions_at_once(echo: Echo) -> None:
    data = os.urandom(1 << 20) * 8
    found = exchange(echo.tcp, data)
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()


def test_many_at_once(echo: Echo) -> None:
    connections = [socket.create_connection(("::1", echo.tcp), timeout=30) for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.sendall(b"%d" % number)
    assert [connection.recv(99) for connection in connections] == [b"%d" % number for number in range(100)]
    for connection in connections:
        connection.close()
    clients = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(50)]
    for number, client in enumerate(clients):
        client.settimeout(10)
        client.connect(("::1", echo.udp))
        client.send(b"%03d" % number)
    assert [client.recv(99) for client in clients] == [(b"%03d" % number)[::-1] for number in range(50)]
    for client in clients:
        client.close()


def test_a_server_that_is_not_there(echo: Echo) -> None:
    echo.close()
    with socket.create_connection(("::1", echo.tcp), timeout=10) as connection, pytest.raises(ConnectionResetError):
        assert connection.recv(1) != b"", "an end would mean that somebody had answered"


def test_one_that_is_killed_is_made_again(echo: Echo) -> None:
    assert exchange(echo.tcp, b"first") == b"first"
    (first,) = relays()
    os.kill(first, signal.SIGKILL)
    assert exchange(echo.tcp, b"second") == b"second"
    (second,) = relays()
    assert second != first


def test_it_follows_the_container_to_another_address(echo: Echo) -> None:
    """And not to what the address belongs to then."""
    box = echo.pycontainer
    assert exchange(echo.tcp, b"x") == b"x"
    box("network", "create", "other", check=True)
    box("network", "connect", "other", "echo", check=True)
    box("network", "disconnect", "bridge", "echo", check=True)
    assert exchange(echo.tcp, b"moved") == b"moved"
    assert ask(echo.udp, b"moved")[::-1] == b"moved"


@pytest.mark.parametrize("how", ["rm", "kill the monitor"])
def test_with_the_container_it_is_gone_and_the_port_free(echo: Echo, how: str) -> None:
    assert exchange(echo.tcp, b"x") == b"x"
    (relay,) = relays()
    if how != "rm":
        os.kill(parent(relay), signal.SIGKILL)
    echo.pycontainer("rm", "-f", "echo", check=True)
    wait_until(lambda: not relays())
    for number, kind in ((echo.tcp, socket.SOCK_STREAM), (echo.udp, socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_INET6, kind) as free:
            free.bind(("::", number))


def test_after_a_restart_it_goes_on(echo: Echo) -> None:
    assert exchange(echo.tcp, b"x") == b"x"
    relay, before = relays(), echo.pid()
    echo.close()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: echo.pid() not in (0, before))
    echo.serve()
    assert exchange(echo.tcp, b"y") == b"y"
    assert relays() == relay, "the monitor is the same"


def test_a_flow_of_udp_follows_the_container_too(echo: Echo) -> None:
    box = echo.pycontainer
    box("network", "create", "other", check=True)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("::1", echo.udp))
        client.send(b"abc")
        assert client.recv(99) == b"cba"
        box("network", "connect", "other", "echo", check=True)
        box("network", "disconnect", "bridge", "echo", check=True)
        client.send(b"def")
        assert client.recv(99) == b"fed"


def test_what_is_published_on_the_loopback_of_ipv6_only(busybox: str, pycontainer: Pycontainer) -> None:
    """Then there is nothing that the kernel translates."""
    pycontainer("run", "-d", "--name", "alone", "-p", "[::1]::7", "busybox", "sleep", "1000", check=True)
    try:
        pid = pycontainer("inspect", "-f", "{{.State.Pid}}", "alone", check=True).stdout.strip()
        place = pycontainer("port", "alone", "7", check=True).stdout.strip()
        command = ["nsenter", "-t", pid, "-n", sys.executable, "-ISc", ECHO]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            assert server.stdout
            server.stdout.readline()
            assert exchange(int(place.rpartition(":")[2]), b"alone") == b"alone"
            server.kill()
    finally:
        pycontainer("rm", "-f", "alone")


def test_nobody_gets_out_of_an_internal_network_by_it(echo: Echo) -> None:
    box = echo.pycontainer
    box("network", "create", "--internal", "--ipv6", "inside", check=True)
    box("run", "-d", "--name", "prisoner", "--network", "inside", "busybox", "sleep", "1000", check=True)
    try:
        pid = box("inspect", "-f", "{{.State.Pid}}", "prisoner", check=True).stdout.strip()
        places = box("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}} {{end}}", "inside", check=True)
        (gateway,) = (place for place in places.stdout.split() if ":" in place)
        ask = "import socket, sys; sys.exit(bool(socket.create_connection(sys.argv[1:]).recv(1)))"
        command = ["nsenter", "-t", pid, "-n", sys.executable, "-ISc", ask, gateway, str(echo.tcp)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "ConnectionResetError" in found.stderr
        with socket.create_connection((gateway, echo.tcp), timeout=10) as connection:
            connection.sendall(b"the host itself")
            assert connection.recv(99)
    finally:
        box("rm", "-f", "prisoner")


def test_few_descriptors_are_enough_for_many(echo: Echo) -> None:
    """Who comes when there is no room waits until there is, and clients of UDP do not take those of TCP."""
    assert exchange(echo.tcp, b"x") == b"x"
    (relay,) = relays()
    resource.prlimit(parent(relay), resource.RLIMIT_NOFILE, (64, 64))
    os.kill(relay, signal.SIGKILL)
    for number in range(100):
        assert ask(echo.udp, b"%03d" % number) == (b"%03d" % number)[::-1]
    idle = [socket.create_connection(("::1", echo.tcp), timeout=30) for _ in range(50)]
    for number, connection in enumerate(idle):
        connection.sendall(b"%d" % number)
        assert connection.recv(99) == b"%d" % number
        connection.close()


def test_it_does_not_end_before_all_is_sent() -> None:
    """The last piece of what a slow client has asked for."""
    data = os.urandom(60_000)
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as port,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client,
    ):
        port.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

        def be_the_relay() -> None:
            relay_module._IDLE, relay_module._TICK = 0.1, 0.05
            relay_module.serve([port], lambda *_: [server.getsockname()], lambda *_: True)

        process = multiprocessing.get_context("fork").Process(target=be_the_relay)
        process.start()
        client.connect(port.getsockname())
        client.shutdown(socket.SHUT_WR)
        connection, _ = server.accept()
        with connection:
            connection.sendall(data)
        # Long enough for one that believes that nobody is there any more.
        process.join(2)
        assert b"".join(iter(lambda: client.recv(1 << 16), b"")) == data
        process.join()
