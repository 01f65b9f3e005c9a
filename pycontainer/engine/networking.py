"""What a container is plugged into when it starts: networks, an address in each, ports of the host's."""

from __future__ import annotations

import os

from pycontainer.engine import containers, ports
from pycontainer.errors import Conflict
from pycontainer.network import attach, files, lease, names
from pycontainer.network import ports as published_ports
from pycontainer.network.operations import OpenNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any

    from pycontainer.engine.config.container import ContainerConfig
    from pycontainer.engine.settings import Settings
    from pycontainer.kernel.operation import Journal
    from pycontainer.network.publication import Binding

    Json = dict[str, Any]


class Networking:
    """One start of a container. What it has leased stays the same over restarts: its addresses, ports of the host's.

    reserved  sockets that keep the host's ports for the container as long as somebody has them open
    shared    the file of another container's network namespace that it is to have; "" for one of its own, or the host's
    """

    def __init__(
        self, settings: Settings, container: containers.Container, config: ContainerConfig, journal: Journal
    ) -> None:
        self._settings = settings
        self._container = container
        self._asked = config.network
        self._journal = journal
        self._places: list[tuple[attach.Network, lease.Lease]] = []
        self._bindings: list[Binding] = []
        self._lender: containers.Container | None = None
        self.reserved: list[int] = []
        self.shared = ""

    def prepare(
        self, connection: sqlite3.Connection, notify: Callable[[str], None], image_config: Json, *, first: bool
    ) -> None:
        """Have the networks, and lease addresses and ports. Raises PycontainerError, OSError.

        notify  gets lines for the user
        first   it has no ports yet
        """
        if self._asked.attachments:
            self._lease(connection, notify)
            if not any(leased.way_out and not network.internal for network, leased in self._places):
                if self._asked.ports:
                    notify("published ports are discarded: it is in internal networks only, which nothing gets into")
            elif first:
                reserved = ports.reserve(self._journal, connection, self._container, image_config)
                self._bindings, self.reserved = reserved.bindings, reserved.detach()
            else:
                self._bindings = ports.bound(self._container)
        elif self._asked.mode == "host" and self._asked.ports:
            notify(ports.DISCARDED)
        elif self._asked.shares_container:
            self._find_lender(connection)

    def _lease(self, connection: sqlite3.Connection, notify: Callable[[str], None]) -> None:
        wishes = {each.network: each for each in self._asked.attachments}
        networks, notices = attach.ensure(
            self._journal,
            connection,
            [*wishes],
            self._settings.bridge,
            ports.publications,
            f"{self._settings.state}/ip_forward",
        )
        for notice in notices:
            notify(notice)
        # The first of those with the highest priority, of those that lead anywhere.
        ways = sorted(networks, key=lambda network: (network.internal, -wishes[network.name].priority))
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for number, network in enumerate(networks):
                wish = wishes[network.name]
                leased = lease.allocate(
                    connection,
                    network.name,
                    self._container.id,
                    address=wish.address,
                    address6=wish.address6,
                    mac=wish.mac,
                    aliases=wish.aliases,
                    link=f"eth{number}",
                    way_out=network is ways[0],
                )
                self._places.append((network, leased))
        for network in networks:
            if network.has_names:
                from pycontainer.engine import name_server

                name_server.ensure(self._settings, self._journal, network.id, network.gateway, self._container.name)

    def _find_lender(self, connection: sqlite3.Connection) -> None:
        """The container whose network it is to have. Raises NotFound, Conflict."""
        lender = containers.find(connection, self._asked.shares_container)
        if not lender.is_active:
            cause = f"container {lender.name} is {lender.shown_status}, and only a running one has a network"
            raise Conflict("share network", lender.name, cause, f"start it first: pycontainer start {lender.name}")
        self.shared = f"/proc/{lender.pid}/ns/net"
        # It may have borrowed itself; the files are those of the one whose network it is.
        seen: set[str] = set()
        # A circle is what renaming makes of it.
        while lender.config.network.shares_container and lender.id not in seen:
            seen.add(lender.id)
            lender = containers.find(connection, lender.config.network.shares_container)
        self._lender = lender

    @property
    def hostname(self) -> str:
        """The container's: its own, or that of whoever's network it has."""
        if self._lender is not None:
            return self._lender.config.network.hostname or self._lender.id[:12]
        if self._asked.hostname:
            return self._asked.hostname
        return os.uname().nodename if self._asked.mode == "host" else self._container.id[:12]

    @property
    def addresses(self) -> list[str]:
        """Its own, in the order of its networks."""
        found = [(leased.address, network.address6(leased.address)) for network, leased in self._places]
        return [address for pair in found for address in pair if address]

    @property
    def gateway(self) -> str:
        """The host, as it is reached from the container; "" where it is not."""
        ways = [network.gateway for network, leased in self._places if leased.way_out]
        return ways[0] if ways else ""

    def lent_files(self) -> dict[str, str]:
        """Files of the container whose network it has: path in the container -> path on the host."""
        if not self._lender:
            return {}
        directory = self._settings.container_directory(self._lender.id)
        return {f"/etc/{name}": f"{directory}/{name}" for name in ("resolv.conf", "hosts", "hostname")}

    def resolv_conf(self, notify: Callable[[str], None]) -> str:
        """Its text, with the network's own name server where there is one. Raises UsageError."""
        asked = self._asked
        host = read_host_file(files.RESOLV_CONF)
        flags = (tuple(asked.dns), tuple(asked.dns_search), tuple(asked.dns_options))
        if asked.mode == "host" and not any(flags):
            return host
        if own := [network.gateway for network, _ in self._places if network.has_names]:
            # It asks those of --dns itself. A name without a dot is a container's, and no domain is to be tried first.
            files.resolv_conf("", *flags)
            return files.resolv_conf(host, (own[0],), flags[1], flags[2] or ("ndots:0",))
        if files.needs_resolved(host):
            host = read_host_file(files.RESOLVED_CONF) or host
        text = files.resolv_conf(host, *flags)
        if self._places and not files.nameservers(text):
            notify("no name server of the host's can be reached from the container; use --dns")
        return text

    def connect(self, pid: int) -> None:
        """Wire the networks of a container that waits for its start. Raises PycontainerError."""
        if not self._places:
            return
        namespace = self._journal.perform(OpenNamespace(pid))
        try:
            for network, leased in self._places:
                attach.attach(self._journal, network, leased, namespace)
                if self._asked.rate is not None:
                    from pycontainer.network import shaping

                    name = names.link_name(self._container.id, network.name)
                    rate = shaping.Rate(*self._asked.rate)
                    shaping.set_rate(self._journal, name, leased.link, namespace, rate)
                if leased.way_out:
                    published_ports.publish(self._journal, network, self._container.id, leased.address, self._bindings)
        finally:
            os.close(namespace)


def read_host_file(path: str) -> str:
    """The text of one of the host's files, "" where there is none. Raises OSError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""
