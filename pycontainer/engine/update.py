"""`update`: other limits and another restart policy for a container that exists, also while it runs.

The kernel has the new limits before the row does, in one transaction: where either refuses, both keep the old ones.
"""

from __future__ import annotations

import os

from pycontainer.engine import containers, limits
from pycontainer.engine.config.block_io import RATES
from pycontainer.errors import Conflict
from pycontainer.kernel import cgroup
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.undo import Undo
from pycontainer.runtime import limits as runtime_limits
from pycontainer.runtime import resources, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.engine.config.container import ContainerConfig
    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings


def update(settings: Settings, connection: sqlite3.Connection, name: str, values: dict[str, Any]) -> list[str]:
    """Change these options of a container; what the user should know of it. Raises PycontainerError, OSError."""
    warnings: list[str] = []
    with Undo() as undo:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            container = containers.find(connection, name)
            before = container.config
            after = before.changed(_joined(before, values))
            if set(values) - {"restart"}:
                after.resources.check_machine()
                if container.status in ("starting", "restarting"):
                    # Somebody reads the old limits at this moment.
                    cause = f"it is {container.status}"
                    raise Conflict("update container", container.name, cause, "try again when it runs")
                if container.is_active:
                    path = state.load(settings.runtime_root, container.id).cgroup
                    warnings = _warnings(container.name, path, after)
                    _write(path, before, after)
                    undo.push(_write, path, after, before)
                    _shape(settings, connection, container, before, after)
                    undo.push(_shape, settings, container, after, before)
            containers.set_config(connection, container.id, after)
        undo.forget()
    return warnings


def _joined(before: ContainerConfig, values: dict[str, Any]) -> dict[str, Any]:
    """The rates of devices that are not named stay."""
    lists = {name: [*(before.values.get(name) or []), *values[name]] for name in RATES if name in values}
    return {**values, **lists}


def _write(path: str, before: ContainerConfig, after: ContainerConfig) -> None:
    old, new = (resources.limits(limits.resources(config)) for config in (before, after))
    runtime_limits.change(path, old, new)


def _shape(
    settings: Settings,
    connection: sqlite3.Connection,
    container: Container,
    before: ContainerConfig,
    after: ContainerConfig,
) -> None:
    """The rate of the network."""
    if before.network.rate == after.network.rate:
        return
    from pycontainer.network import lease, names, shaping

    rate = shaping.Rate(*after.network.rate) if after.network.rate is not None else None
    try:
        pidfd = state.load(settings.runtime_root, container.id).open_process()
    except ProcessLookupError:
        raise Conflict("update container", container.name, "it has just ended", "pycontainer ps -a shows it") from None
    try:
        for leased in lease.leases_of(connection, container.id):
            name = names.link_name(container.id, leased.network)
            shaping.set_rate(Journal(), name, leased.link, pidfd, rate)
    finally:
        os.close(pidfd)


def _warnings(name: str, path: str, after: ContainerConfig) -> list[str]:
    """What will happen where a limit is below what is in use."""
    asked = after.resources
    consequences = (
        (asked.memory.limit, "memory.current", "bytes of memory", "the kernel takes back what it can, then kills"),
        (asked.memory.high, "memory.current", "bytes of memory", "it is slowed down until it uses less"),
        (asked.pids_limit, "pids.current", "processes", "none ends, and none begins until there are fewer"),
    )
    found = []
    for limit, file, what, consequence in consequences:
        if limit is None or limit <= 0:
            continue
        try:
            used = int(cgroup.read(f"{path}/{file}"))
        except FileNotFoundError:
            # Without the controller, which is refused below.
            continue
        if used > limit:
            found.append(f"update container: {name}: it has {used} {what}, more than {limit}: {consequence}")
    return found
