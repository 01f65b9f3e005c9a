"""Many containers come and go on one network, are renamed, connected and disconnected, and things are killed meanwhile.

PYCONTAINER_TEST_NETWORK=200 for as many containers; the default is a few.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from conftest import COMMAND, Pycontainer, end_processes, lasting, lock_holder, own_bridges, wait_until
from dnslib import QTYPE, DNSRecord
from test_networks import name_servers

from pycontainer.engine import containers

CONTAINERS = int(os.environ.get("PYCONTAINER_TEST_NETWORK", "4"))
SEED = int(os.environ.get("PYCONTAINER_TEST_SEED", "20261128"))
WORKERS = 4
STEPS = max(CONTAINERS // WORKERS, 1) + 4  # of each worker, after its containers have been started


def ask(gateway: str, name: str) -> set[str]:
    """The addresses of a name, "" for each that none could be had for; as the host asks."""
    query = DNSRecord.question(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        # Short, because nobody answers where a network has no container, and who was killed is asked again.
        client.settimeout(0.5)
        client.sendto(bytes(query.pack()), (gateway, 53))
        answer = DNSRecord.parse(client.recv(4096))
    assert answer.header.id == query.header.id
    return {str(record.rdata) for record in answer.rr if record.rtype == QTYPE.A}


class Storm:
    """One installation with the networks `one` and `two`, and what went wrong in it."""

    def __init__(self, pycontainer: Pycontainer) -> None:
        self.pycontainer = pycontainer
        self.wrong: list[str] = []
        self.over = threading.Event()
        self.gateways = {}
        for name in ("one", "two"):
            pycontainer("network", "create", name, check=True)
            (shown,) = json.loads(pycontainer("network", "inspect", name, check=True).stdout)
            self.gateways[name] = shown["IPAM"]["Config"][0]["Gateway"]

    def command(self, *words: str, kill_after: float | None = None) -> bool:
        """Run a command; whether it was left to end. What else it says than "no such container" is wrong."""
        process = subprocess.Popen(
            [*COMMAND, *words],
            env={**os.environ, **self.pycontainer.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if kill_after is not None:
            time.sleep(kill_after)
            process.kill()
        _, stderr = process.communicate(timeout=120)
        if process.returncode == -signal.SIGKILL:
            return False
        if "Traceback" in stderr:
            self.wrong.append(f"{' '.join(words)}: {stderr}")
        return process.returncode == 0

    def expected(self, network: str, name: str) -> set[str]:
        """What the database has."""
        connection = sqlite3.connect(self.pycontainer.root / "db.sqlite", timeout=30)
        try:
            rows = connection.execute(
                """SELECT address FROM leases JOIN containers ON id = container_id
                WHERE network = ? AND name = ? AND status IN ('starting', 'running', 'paused')""",
                (network, name),
            ).fetchall()
        finally:
            connection.close()
        return {address for (address,) in rows}

    def check(self, what: str, name: str) -> None:
        """The name server says what the database says; asked again where that has changed meanwhile."""
        for network, gateway in self.gateways.items():
            for _ in range(50):
                before = self.expected(network, name)
                try:
                    found = ask(gateway, name)
                except OSError:
                    # Nobody is in that network, or both of its processes were killed.
                    found = set()
                if found == before or self.expected(network, name) != before:
                    break
                if not before or found:
                    self.wrong.append(f"{what}: {name} in {network}: {found}, not {before}")
                    break
                # It is being started again.
                time.sleep(0.1)
            else:
                self.wrong.append(f"{what}: {name} in {network} cannot be had")

    def work(self, number: int) -> None:
        """One of several workers, with containers of its own."""
        generator = random.Random(f"{SEED} {number}")
        names = [f"c{number}-{each}" for each in range(CONTAINERS // WORKERS)]
        try:
            for name in names:
                self.command("run", "-d", "--name", name, "--network", "one", "busybox", "sleep", "1000")
                self.check("run", name)
            for step in range(STEPS):
                name = generator.choice(names)
                kind = generator.choice(["run", "rm", "stop", "start", "rename", "connect", "disconnect", "restart"])
                other = f"r{number}-{step}"
                words = {
                    "run": ["run", "-d", "--name", name, "--network", "one", "busybox", "sleep", "1000"],
                    "rm": ["rm", "-f", name],
                    "stop": ["stop", "-t", "0", name],
                    "start": ["start", name],
                    "restart": ["restart", "-t", "0", name],
                    "rename": ["rename", name, other],
                    "connect": ["network", "connect", "two", name],
                    "disconnect": ["network", "disconnect", "two", name],
                }[kind]
                kill_after = generator.uniform(0, 0.4) if generator.random() < 0.25 else None
                done = self.command(*words, kill_after=kill_after)
                self.check(" ".join(words), name)
                if kind == "rename":
                    self.check(" ".join(words), other)
                    if done:
                        names[names.index(name)] = other
        except Exception as error:
            self.wrong.append(f"worker {number}: {error!r}")

    def kill(self) -> None:
        """Kill monitors and name servers, until all is over."""
        generator = random.Random(f"{SEED} kill")
        while not self.over.wait(generator.uniform(0.3, 1.5)):
            if generator.random() < 0.5:
                victims = name_servers(self.pycontainer)
            else:
                ids = containers.locked_ids(str(self.pycontainer.state))
                victims = [pid for each in ids if (pid := lock_holder(self.pycontainer.state / "containers" / each))]
            if victims:
                try:
                    os.kill(generator.choice(victims), signal.SIGKILL)
                except ProcessLookupError:
                    pass


@pytest.fixture
def storm(busybox: str, pycontainer: Pycontainer) -> Iterator[Storm]:
    yield Storm(pycontainer)
    end_processes(pycontainer.environment)


def test_names_are_right_at_every_moment(storm: Storm) -> None:
    print(f"seed {SEED}")
    pycontainer = storm.pycontainer
    killer = threading.Thread(target=storm.kill)
    workers = [threading.Thread(target=storm.work, args=(number,)) for number in range(WORKERS)]
    for thread in (*workers, killer):
        thread.start()
    for thread in workers:
        thread.join()
    storm.over.set()
    killer.join()
    assert not storm.wrong, "\n".join(storm.wrong[:20])
    # What is left runs, and each of it is where the database says; a killed `connect` may have left a cable out.
    pycontainer("ps", check=True)
    found = pycontainer("doctor", "--fix", check=True).stdout
    assert all(line.split()[0] == "cable" for line in found.splitlines()[1:]), found
    connection = sqlite3.connect(pycontainer.root / "db.sqlite")
    leases = connection.execute("SELECT network, address, container_id FROM leases").fetchall()
    running = {row[0] for row in connection.execute("SELECT id FROM containers WHERE status = 'running'")}
    connection.close()
    assert {container_id for _, _, container_id in leases} <= running
    assert len({(network, address) for network, address, _ in leases}) == len(leases)
    bridges = own_bridges(pycontainer.environment)
    ports = [port for bridge in bridges for port in os.listdir(f"/sys/class/net/{bridge}/brif")]
    assert len(ports) == len(leases)
    names = pycontainer("ps", "-a", "--format", "{{.Names}}", check=True).stdout.split()
    pycontainer("rm", "-f", *names, check=True)
    assert not lasting(lambda: {port for each in bridges for port in os.listdir(f"/sys/class/net/{each}/brif")})
    wait_until(lambda: not name_servers(pycontainer))
    assert pycontainer("doctor", check=True).stdout == "Nothing is left behind.\n"
    pycontainer("network", "rm", "one", "two", check=True)
