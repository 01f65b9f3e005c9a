"""What is asked of running containers: `stop`, `restart`, `kill`, `pause`, `unpause`, `wait`."""

from __future__ import annotations

import sys

from pycontainer.cli.explained import Explained
from pycontainer.cli.main import for_each, notice
from pycontainer.engine import containers, monitors
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.engine.stop import stop_container
from pycontainer.errors import Conflict, NotFound, UsageError
from pycontainer.kernel import signals
from pycontainer.kernel.operation import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.monitor.messages import Message

_RUNNING = ("starting", "running", "paused", "restarting")


def stop(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer stop`: print the names of those that have ended; one that does not run is no failure."""
    explained = Explained(values)
    connection = open_engine(settings, notice)
    request = _stop_request(values)

    def stop_one(name: str, journal: Journal) -> None:
        stop_container(settings, connection, containers.find(connection, name), request, journal)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()

    return explained.for_each(operands, stop_one)


def restart(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer restart`: print the names; one that does not run is started."""
    from pycontainer.cli import launch

    connection = open_engine(settings, notice)
    request = _stop_request(values)

    def restart_one(name: str) -> None:
        container = containers.find(connection, name)
        stop_container(settings, connection, container, request, Journal())
        launch.detached(settings, {"do": "run", "id": container.id}, values={})
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            containers.note(connection, container.id, "restart")
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()

    return for_each(operands, restart_one)


def _stop_request(values: dict[str, Any]) -> Message:
    """The message for the monitor. Raises UsageError."""
    request: Message = {"do": "stop"}
    if "time" in values:
        try:
            request["timeout"] = int(values["time"])
        except ValueError:
            raise UsageError("--timeout", repr(values["time"]), "not a number of seconds", "--timeout 10") from None
    if "signal" in values:
        request["signal"] = _signal(values["signal"])
    return request


def _signal(text: str) -> int:
    number = signals.parse(text)
    if number is None:
        raise UsageError("--signal", repr(text), "no such signal", "a number or a name such as SIGTERM")
    return number


def kill(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer kill`: print the names of those that were sent the signal."""
    request = {"do": "kill", "number": _signal(values.get("signal", "KILL"))}
    return _ask_each(settings, operands, request, "kill container")


def pause(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer pause`: print the names of those that are frozen now."""
    return _ask_each(settings, operands, {"do": "pause"}, "pause container")


def unpause(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer unpause`: print the names of those that go on now."""
    return _ask_each(settings, operands, {"do": "unpause"}, "unpause container")


def _ask_each(settings: Settings, operands: list[str], request: Message, step: str) -> int:
    connection = open_engine(settings, notice)

    def ask_one(name: str) -> None:
        channel = monitors.require(settings, containers.find(connection, name), step)
        try:
            monitors.ask(channel, request)
        finally:
            channel.close()
        sys.stdout.write(f"{name}\n")

    return for_each(operands, ask_one)


def wait(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer wait`: print the exit statuses, in the order of the containers."""
    connection = open_engine(settings, notice)

    def wait_one(name: str) -> None:
        sys.stdout.write(f"{_wait(settings, connection, containers.find(connection, name))}\n")
        sys.stdout.flush()

    return for_each(operands, wait_one)


def _wait(settings: Settings, connection: sqlite3.Connection, container: containers.Container) -> int:
    if container.status in _RUNNING:
        try:
            channel = monitors.require(settings, container, "wait for container")
        except Conflict:
            channel = None
        if channel is not None:
            try:
                while (message := monitors.receive(channel)) is not None:
                    if message["say"] == "exit":
                        return int(message["status"])
            finally:
                channel.close()
        # It has ended without a word for us: its row says how.
        try:
            container = containers.get(connection, container.id)
        except NotFound:
            return 0
    return container.exit_status or 0
