"""When a process is made that relays published ports of IPv6."""

from __future__ import annotations

import _socket
import os
import socket
from collections.abc import Iterator

import pytest

from pycontainer.engine import relaying
from pycontainer.engine.settings import Settings
from pycontainer.kernel.event_loop import EventLoop
from pycontainer.monitor import errand


class Begun:
    """How many were made, and what each does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pids: list[int] = []
        self.loop = EventLoop()
        self.listener = _socket.socket(_socket.AF_INET6)
        self.listener.bind(("::1", 0))
        self.listener.listen()
        self.relaying = relaying.Relaying(Settings(), "c", self.loop, [self.listener.fileno()])
        original = errand.begin

        def begin(function: object) -> int:
            self.pids.append(original(function))  # type: ignore[arg-type]
            return self.pids[-1]

        monkeypatch.setattr(errand, "begin", begin)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname()[:2])

    def turns(self, number: int) -> None:
        for _ in range(number):
            self.loop.turn(0.2)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[Begun]:
    made = Begun(monkeypatch)
    yield made
    made.relaying.close()
    made.listener.close()


def test_one_for_all_clients_of_a_time(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    def relay(self: relaying.Relaying) -> int:
        connection, _ = begun.listener._accept()
        with socket.socket(fileno=connection) as client:
            client.sendall(b"hello")
        return 0

    monkeypatch.setattr(relaying.Relaying, "_relay", relay)
    begun.turns(1)
    assert begun.pids == []
    for number in (1, 2):
        with begun.connect() as client:
            client.settimeout(10)
            begun.turns(1)
            assert client.recv(9) == b"hello"
            # Its end is seen, and the next client is waited for.
            begun.turns(2)
            assert len(begun.pids) == number


def test_one_that_fails_is_not_tried_again_at_once(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying.Relaying, "_relay", lambda self: os.listdir("/nowhere"))
    with begun.connect():
        begun.turns(4)
        assert len(begun.pids) == 1
        begun.turns(10)
        assert len(begun.pids) >= 2
