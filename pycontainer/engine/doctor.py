"""What is on the machine under our name and belongs to nobody.

Every command repairs what a killed one has left (repair.py), as far as it knows of it by its own records. This looks at
the machine instead: at every place where a container has something, for what no living container has.

A container lives as long as somebody holds its lock. A thing is found only if it is there in two looks some time apart,
and has no owner in either, because meanwhile containers begin and end.
"""

from __future__ import annotations

import os
import time

from pycontainer.engine import connections, containers, ports, teardown
from pycontainer.engine.settings import Settings
from pycontainer.errors import PycontainerError
from pycontainer.image import store
from pycontainer.kernel import cgroup, mount, signals
from pycontainer.kernel.netlink import NETLINK_ROUTE, Link, Netlink, get_link
from pycontainer.kernel.operation import Journal
from pycontainer.network import bridge, lease, names, rules
from pycontainer.network.operations import DeleteLink
from pycontainer.runtime import launch, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from pycontainer.network.publication import Publication

_APART = 0.25  # seconds; more than the kernel takes to remove a dead container's veth pair


class Finding:
    """One thing without an owner. `remove` removes it; it may raise OSError and PycontainerError.

    states  what it is before and after that
    """

    __slots__ = ("kind", "name", "remove", "states", "why")

    def __init__(
        self,
        kind: str,
        name: str,
        why: str,
        remove: Callable[[], None],
        states: tuple[str, str] = ("left behind", "removed"),
    ) -> None:
        self.states = states
        self.kind = kind
        self.name = name
        self.why = why
        self.remove = remove


def examine(settings: Settings, connection: sqlite3.Connection) -> list[Finding]:
    """What belongs to nobody. Raises OSError, PycontainerError."""
    before = {(found.kind, found.name) for found in _look(settings, connection)}
    if not before:
        return []
    time.sleep(_APART)
    return [found for found in _look(settings, connection) if (found.kind, found.name) in before]


def notices(connection: sqlite3.Connection) -> list[str]:
    """What keeps packets from the containers: the host's firewall, or a subnet that somebody else has taken, too.

    A run looks at it only when it makes the bridge. Raises HostError, StepFailed.
    """
    networks = lease.find_all(connection)
    found = [line for network in networks for line in rules.firewall_notices(Journal(), network)]
    return list(dict.fromkeys(found)) + bridge.overlap_notices(Journal(), networks)


def _look(settings: Settings, connection: sqlite3.Connection) -> list[Finding]:
    found = [
        *_cgroups(settings),
        *_links(settings, connection),
        *_published(settings, connection),
        *_leases(connection),
        *_cables(settings, connection),
        *_mounts(settings),
        *_launchers(settings),
        *_files(settings, connection),
    ]
    # After they were found: whatever had an owner then still has it, or has ended and is found no more.
    owned = {
        container_id for container_id in containers.locked_ids(settings.state) if _is_owned(settings, container_id)
    }
    leased = [each for container_id in owned for each in lease.leases_of(connection, container_id)]
    marks = {*owned, *(names.link_name(each.container_id, each.network) for each in leased)}
    return [finding for finding in found if os.path.basename(finding.name) not in marks]


def _is_owned(settings: Settings, container_id: str) -> bool:
    return containers.owner_pid(settings.state, container_id) != 0


def _list(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _cgroups(settings: Settings) -> Iterator[Finding]:
    hierarchy = cgroup.find_hierarchy()
    if hierarchy is None:
        return
    top = os.path.dirname(hierarchy.mountpoint + settings.cgroup("ID"))
    for name in _list(top):
        path = f"{top}/{name}"
        if os.path.isdir(path):
            why = f"a cgroup with {_count_processes(path)} processes"

            def remove(path: str = path) -> None:
                launch.remove_cgroup(path)
                cgroup.remove_if_empty(top)

            yield Finding("cgroup", path, why, remove)


def _count_processes(path: str) -> int:
    try:
        return sum(len(cgroup.read(f"{place}/cgroup.procs").split()) for place, _, _ in os.walk(path))
    except OSError:
        return 0


def _links(settings: Settings, connection: sqlite3.Connection) -> Iterator[Finding]:
    bridges = {settings.bridge, *(network.interface for network in lease.find_all(connection))}
    for name in [port for each in sorted(bridges) for port in _list(f"/sys/class/net/{each}/brif")]:
        if name.startswith(names.LINK_PREFIX):

            def remove(name: str = name) -> None:
                with Netlink(NETLINK_ROUTE) as route:
                    Journal().perform(DeleteLink(route, name, "no container has it"))

            yield Finding("link", name, "half of a veth pair", remove)


def _published(settings: Settings, connection: sqlite3.Connection) -> Iterator[Finding]:
    for publication in ports.stale(connection, settings.bridge) if lease.find_all(connection) else []:

        def remove(publication: Publication = publication) -> None:
            ports.remove_stale(settings.bridge, [publication])

        yield Finding("published port", str(publication), "an element of a map of nftables", remove)


def _leases(connection: sqlite3.Connection) -> Iterator[Finding]:
    for address, container_id in connection.execute("SELECT address, container_id FROM leases ORDER BY 1").fetchall():

        def remove(container_id: str = container_id) -> None:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                lease.release(connection, container_id)

        yield Finding("lease", f"{address}/{container_id}", "an address of the bridge's", remove)


def _cables(settings: Settings, connection: sqlite3.Connection) -> Iterator[Finding]:
    """Of containers that run, what a killed `network connect` has not plugged in."""
    for container in containers.list_all(connection):
        for leased in lease.leases_of(connection, container.id) if container.is_active else []:
            link = names.link_name(container.id, leased.network)
            if not _is_up(link):

                def plug_in(container: containers.Container = container, leased: lease.Lease = leased) -> None:
                    connections.plug_in_anew(settings, connection, Journal(), container, leased)

                name = f"{container.name} in {leased.network}"
                yield Finding("cable", name, f"link {link} is not up", plug_in, ("missing", "plugged in"))


def _is_up(link: str) -> bool:
    # Not /sys, which may be another network namespace's.
    try:
        with Netlink(NETLINK_ROUTE) as route:
            return Link(route.request(get_link(link))[0]).running
    except OSError:
        return False


def _mounts(settings: Settings) -> Iterator[Finding]:
    """In this mount namespace; those of containers are in namespaces that end with them."""
    tops = tuple(f"{directory}/" for directory in (settings.state, f"{settings.root}/containers"))
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        places = [line.split()[4].encode().decode("unicode_escape") for line in file]
    for place in reversed(places):
        if place.startswith(tops):

            def remove(place: str = place) -> None:
                mount.umount2(place, mount.MNT_DETACH)

            yield Finding("mount", place, "in the namespace of this command", remove)


def _launchers(settings: Settings) -> Iterator[Finding]:
    """Launchers that cannot be reached any more, because their socket was removed and another has its place."""
    from pycontainer.engine import launcher

    serving = launcher.pid(settings)
    mark = f"PYCONTAINER_STATE={settings.state}".encode()
    for pid in filter(str.isdecimal, _list("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if launcher.MARK not in file.read():
                    continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                is_ours = mark in file.read().split(b"\0")
            with open(f"/proc/{pid}/comm", "rb") as file:
                is_launcher = file.read().strip().decode() == launcher.PROCESS_NAME
        except OSError:
            continue
        if is_ours and is_launcher and int(pid) != serving:

            def remove(pid: int = int(pid)) -> None:
                os.kill(pid, signals.SIGTERM)

            yield Finding("process", pid, "a launcher that nobody can reach", remove)


def _files(settings: Settings, connection: sqlite3.Connection) -> Iterator[Finding]:
    rows = dict(connection.execute("SELECT id, status FROM containers").fetchall())

    def put_away(container_id: str) -> None:
        owner = containers.try_lock(settings.state, container_id)
        if owner is not None:
            teardown.put_away_dead(settings, connection, container_id)
            containers.unlock(settings.state, container_id, owner)

    for name in _list(f"{settings.state}/containers"):
        yield Finding("container", name, "nobody looks after it", lambda name=name: put_away(name))  # type: ignore[misc]
    for name in state.list_ids(settings.runtime_root):
        path = f"{settings.runtime_root}/{name}"
        yield Finding("runtime state", path, "of a container that was not deleted", lambda name=name: put_away(name))  # type: ignore[misc]
    for name in _list(f"{settings.root}/containers"):
        if name not in rows:
            path = f"{settings.root}/containers/{name}"
            yield Finding("directory", path, "of a container that is gone", lambda path=path: store.remove_tree(path))  # type: ignore[misc]
    for directory in ("monitors", "words"):
        for name in _list(f"{settings.state}/{directory}"):
            path = f"{settings.state}/{directory}/{name}"
            yield Finding("file", path, "of a container that does not run", lambda path=path: os.unlink(path))  # type: ignore[misc]


def fix(found: list[Finding]) -> Iterator[tuple[Finding, str]]:
    """Remove each; with what kept it from being removed, "" for nothing."""
    for finding in found:
        try:
            finding.remove()
        except FileNotFoundError:
            # One step may have removed what another one found.
            pass
        except OSError as error:
            yield finding, (error.strerror or str(error)).lower()
            continue
        except PycontainerError as error:
            yield finding, error.message
            continue
        yield finding, ""
