"""A database on a volume: what it has acknowledged is there after SIGKILL of everything, in a new container."""

from __future__ import annotations

import io
import itertools
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tarfile
import threading
import time

import pytest
from conftest import Pycontainer, lock_holder, wait_until
from leftovers import Leftovers

SEED = int(os.environ.get("PYCONTAINER_TEST_SEED", "20261124"))
ROUNDS = int(os.environ.get("PYCONTAINER_TEST_CRASHES", "8"))
WRITERS = 4
# Debian's redis-server is a link to it, in a package that would start a server on this machine.
PROGRAM = shutil.which("redis-check-rdb")
# Each write is on the disk before it is answered, and now and then the file that holds them is written anew.
OPTIONS = """
--port 0 --unixsocket /data/socket --dir /data --appendonly yes --appendfsync always --save ''
--auto-aof-rewrite-min-size 16kb --auto-aof-rewrite-percentage 20
""".replace("''", "").split()


class Connection:
    """A client of the server's, by the socket that it has on the volume. Raises OSError, EOFError where it ends."""

    def __init__(self, path: pathlib.Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.reader = self.socket.makefile("rb")

    def close(self) -> None:
        self.reader.close()
        self.socket.close()

    def ask(self, *words: str) -> str | list[str]:
        """One command, and its answer: a line, or a list of strings."""
        self.socket.sendall(" ".join(words).encode() + b"\r\n")
        line = self.line()
        if not line.startswith("*"):
            return line
        # Each string is announced by a line with its length.
        return [self.line() for _ in range(2 * int(line[1:]))][1::2]

    def line(self) -> str:
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        return line.decode().strip()


class Writer(threading.Thread):
    """Appends 1, 2, 3 and so on to a list of its own, from where it was, until the server is no longer there."""

    def __init__(self, path: pathlib.Path, name: str, acknowledged: int) -> None:
        super().__init__(name=name)
        self.acknowledged = acknowledged
        self.connection = Connection(path)

    def run(self) -> None:
        try:
            for number in itertools.count(self.acknowledged + 1):
                if self.connection.ask("RPUSH", self.name, str(number)) != f":{number}":
                    return
                self.acknowledged = number
        except (OSError, EOFError):
            pass
        finally:
            self.connection.close()


def database_image(pycontainer: Pycontainer) -> str:
    """An image of the server and the libraries that it is linked with, and nothing else."""
    assert PROGRAM
    linked = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True).stdout
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", dereference=True) as archive:
        archive.add(PROGRAM, "bin/redis-server")
        for path in re.findall(r"(/\S+) \(0x", linked):
            archive.add(path)
    pycontainer("import", "-", "database", input=data.getvalue(), text=False, check=True)
    return "database"


def start(pycontainer: Pycontainer, path: pathlib.Path) -> subprocess.Popen:
    """The client of a container with the server, which answers."""
    options = ("--name", "db", "--network", "none", "-v", "db:/data")
    client = pycontainer.popen("run", *options, "database", "/bin/redis-server", *OPTIONS, stdout=subprocess.DEVNULL)
    wait_until(lambda: client.poll() is not None or answers(path))
    assert client.poll() is None
    return client


def answers(path: pathlib.Path) -> bool:
    """Whether it does, and has read what it had written before."""
    try:
        connection = Connection(path)
    except OSError:
        return False
    try:
        return connection.ask("PING") == "+PONG"
    except EOFError:
        return False
    finally:
        connection.close()


def kill_everything(pycontainer: Pycontainer, client: subprocess.Popen, generator: random.Random) -> None:
    """SIGKILL of the client, the monitor and all in the container's cgroup, in any order."""
    connection = sqlite3.connect(pycontainer.root / "db.sqlite", timeout=30)
    (container_id,) = connection.execute("SELECT id FROM containers WHERE name='db'").fetchone()
    connection.close()
    monitor = lock_holder(pycontainer.state / "containers" / container_id)
    cgroups = Leftovers(pycontainer.environment).cgroups()
    members = [int(pid) for directory in cgroups for pid in pathlib.Path(directory, "cgroup.procs").read_text().split()]
    assert monitor
    assert members
    victims = [client.pid, monitor, *members]
    generator.shuffle(victims)
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            # The first process of a PID namespace takes the others along.
            pass
    client.wait(60)


@pytest.mark.skipif(not PROGRAM, reason="needs Redis: Debian's package redis-tools")
def test_what_a_database_has_acknowledged_outlives_sigkill_of_everything(pycontainer: Pycontainer) -> None:
    database_image(pycontainer)
    path = pycontainer.root / "volumes/db/_data/socket"
    acknowledged = dict.fromkeys((f"writer{number}" for number in range(WRITERS)), 0)
    for round_ in range(ROUNDS):
        generator = random.Random(f"{SEED} {round_}")
        client = start(pycontainer, path)
        writers = [Writer(path, name, count) for name, count in acknowledged.items()]
        for writer in writers:
            writer.start()
        time.sleep(generator.uniform(0, 0.5))
        kill_everything(pycontainer, client, generator)
        for writer in writers:
            writer.join(60)
        pycontainer("rm", "-f", "db", check=True)

        client = start(pycontainer, path)
        connection = Connection(path)
        for writer in writers:
            found = connection.ask("LRANGE", writer.name, "0", "-1")
            # One that was not answered any more may be there or not.
            assert len(found) - writer.acknowledged in (0, 1), f"{writer.name} in round {round_} of seed {SEED}"
            assert found == [str(number + 1) for number in range(len(found))]
            acknowledged[writer.name] = len(found)
        connection.close()
        pycontainer("rm", "-f", "db", check=True)
        client.wait(60)
    assert min(acknowledged.values()) > 0
    pycontainer("volume", "rm", "db", check=True)
