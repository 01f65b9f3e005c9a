"""Networks, in Docker's shape: bridge, host and none, which are always there, and those that users make."""

from __future__ import annotations

# Not hashlib, because that loads OpenSSL.
import _blake2

from pycontainer.engine.config import attachments
from pycontainer.errors import Conflict, NotFound
from pycontainer.network import lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.engine.config.container import ContainerConfig
    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings

Json = dict[str, "Any"]

DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}
# Docker's way to say that a time is not known: the zero value of Go's time.
NO_TIME = "0001-01-01T00:00:00Z"


class Network:
    """One that there is. `stored` is None for host and none, and for bridge as long as nobody has used it."""

    __slots__ = ("driver", "id", "name", "stored")

    def __init__(self, settings: Settings, name: str, stored: lease.StoredNetwork | None) -> None:
        self.name = name
        self.stored = stored
        self.driver = DRIVERS.get(name, "bridge")
        self.id = (stored.id if stored else "") or identify(settings, name)

    @property
    def traits(self) -> lease.Traits:
        return self.stored.traits if self.stored else lease.Traits()

    @property
    def is_own(self) -> bool:
        """Whether a user has made it."""
        return self.name not in DRIVERS


def identify(settings: Settings, *words: str) -> str:
    """64 hexadecimal digits that stand for what the words name in this installation, as Docker's random ids do."""
    text = "\0".join((settings.root, *words))
    return _blake2.blake2b(text.encode(errors="surrogateescape"), digest_size=32).hexdigest()


def list_all(settings: Settings, connection: sqlite3.Connection) -> list[Network]:
    """By name."""
    stored = {each.name: each for each in lease.find_all(connection)}
    return [Network(settings, name, stored.get(name)) for name in sorted({*DRIVERS, *stored})]


def find(settings: Settings, connection: sqlite3.Connection, name_or_id: str) -> Network:
    """The network with that name, id, or beginning of an id. Raises NotFound, Conflict."""
    known = list_all(settings, connection)
    exact = [each for each in known if name_or_id in (each.name, each.id)]
    found = exact or [each for each in known if name_or_id and each.id.startswith(name_or_id)]
    if not found:
        raise NotFound("find network", name_or_id, "no such network", "pycontainer network ls lists them")
    if len(found) > 1:
        raise Conflict("find network", name_or_id, "more than one network's id begins so")
    return found[0]


def resolve(settings: Settings, connection: sqlite3.Connection, config: ContainerConfig) -> None:
    """Have the names of its networks in what was asked for, where there were ids; of another container's its id.

    Raises NotFound, Conflict.
    """
    if name := config.network.shares_container:
        from pycontainer.engine import containers

        # Its id, because its name may be another's by the next start.
        config.network.mode = f"container:{containers.find(connection, name).id}"
        config.values["network"] = [config.network.mode]
    renamed = False
    for each in config.network.attachments:
        # The one that is always there, unless its name is an id's beginning, which it is not.
        if each.network != "bridge":
            name = find(settings, connection, each.network).name
            renamed = renamed or name != each.network
            each.network = name
    if renamed:
        config.values.update(attachments.to_values(config.network.attachments))


def of(container: Container) -> list[str]:
    """The names of its networks; none for a container of an older pycontainer's, which did not keep them."""
    try:
        network = container.config.network
    except Conflict:
        return []
    return [each.network for each in network.attachments] or [network.mode]


def describe(settings: Settings, connection: sqlite3.Connection, name_or_id: str) -> Json:
    """As `docker network inspect` shows it, with the containers that run in it. Raises NotFound, Conflict."""
    from pycontainer.engine import containers
    from pycontainer.monitor.clock import rfc3339

    network = find(settings, connection, name_or_id)
    inside = [each for each in containers.list_all(connection) if each.is_active and network.name in of(each)]
    stored, traits = network.stored, network.traits
    pool = {"Subnet": stored.subnet, "Gateway": stored.gateway} if stored else {}
    if stored and traits.ip_range:
        pool["IPRange"] = traits.ip_range
    pools = [pool] if pool else []
    if stored and traits.subnet6:
        pools.append({"Subnet": traits.subnet6, "Gateway": stored.gateway6})
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(stored.created) if stored and stored.created else NO_TIME,
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": bool(traits.subnet6),
        "IPAM": {"Driver": "default", "Options": None, "Config": pools},
        "Internal": traits.internal,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {each.id: _endpoint(Endpoint(settings, connection, network.name, each), each) for each in inside},
        "Options": _options(network),
        "Labels": traits.labels,
    }


def _options(network: Network) -> dict[str, str]:
    if network.stored is None:
        return {}
    if network.is_own:
        return {"com.docker.network.bridge.name": network.stored.interface, **network.traits.options}
    return {
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.bridge.name": network.stored.interface,
    }


def _endpoint(endpoint: Endpoint, container: Container) -> Json:
    address = f"{endpoint.address}/{endpoint.prefix_length}" if endpoint.address else ""
    return {
        "Name": container.name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac_address,
        "IPv4Address": address,
        "IPv6Address": f"{endpoint.address6}/{endpoint.prefix_length6}" if endpoint.address6 else "",
    }


class Endpoint:
    """A container's place in a network; all but `network_id` is empty, or 0, while it does not run.

    address, gateway  IPv4, such as 10.99.0.2; empty where the network has none
    prefix_length     bits of the subnet
    address6, gateway6, prefix_length6  the same of IPv6
    aliases           what else it is called there
    """

    __slots__ = ("address", "address6", "aliases", "gateway", "gateway6", "id", "mac_address", "names", "network_id",
                 "prefix_length", "prefix_length6")  # fmt: skip

    def __init__(self, settings: Settings, connection: sqlite3.Connection, network: str, container: Container) -> None:
        stored = lease.find(connection, network)
        self.network_id = (stored.id if stored else "") or identify(settings, network)
        self.id = identify(settings, network, container.id) if container.is_active else ""
        self.address, self.gateway, self.mac_address, self.prefix_length = "", "", "", 0
        self.address6, self.gateway6, self.prefix_length6 = "", "", 0
        self.aliases: list[str] = []
        self.names: list[str] = []
        leased = lease.lease_of(connection, network, container.id) if container.is_active else None
        if stored is None or leased is None:
            return
        self.address, self.mac_address, self.aliases = leased.address, leased.mac, leased.aliases
        self.gateway = "" if stored.traits.internal else stored.gateway
        _, self.prefix_length = lease.split_subnet(stored.subnet)
        if stored.traits.subnet6:
            self.address6 = stored.address6(leased.address)
            self.gateway6 = "" if stored.traits.internal else stored.gateway6
            _, self.prefix_length6 = lease.split_subnet6(stored.traits.subnet6)
        if stored.id:
            self.names = [container.name, *self.aliases, container.id[:12]]

    def describe(self) -> Json:
        """As one of NetworkSettings.Networks of the Engine API."""
        return {
            "IPAMConfig": None,
            "Links": None,
            "Aliases": self.aliases or None,
            "MacAddress": self.mac_address,
            "DriverOpts": None,
            "NetworkID": self.network_id,
            "EndpointID": self.id,
            "Gateway": self.gateway,
            "IPAddress": self.address,
            "IPPrefixLen": self.prefix_length,
            "IPv6Gateway": self.gateway6,
            "GlobalIPv6Address": self.address6,
            "GlobalIPv6PrefixLen": self.prefix_length6,
            "DNSNames": self.names or None,
        }
