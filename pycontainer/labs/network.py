"""A bridge network by hand, what a packet needs of it, and the same as `network create` makes it."""

from __future__ import annotations

from pycontainer.engine.database import open_database
from pycontainer.labs._stage import IMAGE, Stage
from pycontainer.network import lease
from pycontainer.network.names import table_name

SUMMARY = "Bridge, cable, route and translation: what a packet needs of each."
CONTROLLERS = ()
# The container's namespace, its host's, and that of somebody elsewhere who knows the host only.
_BOX, _HOST, _FAR = "lab-network-box", "lab-network-host", "lab-network-far"
# Of a range for testing, and of one for examples: nobody has them.
_BOX_ADDRESS, _GATEWAY = "198.18.0.2", "198.18.0.1"
_FAR_ADDRESS, _HOST_ADDRESS = "203.0.113.2", "203.0.113.1"
_DEFAULT = ["route", "add", "default", "via", _GATEWAY]
_MASQUERADE = ["oifname", "up0", "masquerade"]
_NAME, _OWN = "lab-network", "lab-network-own"


def show(stage: Stage) -> None:
    _cable(stage)
    _addresses(stage)
    _way_out(stage)
    _translation(stage)
    _without_route(stage)
    _without_link(stage)
    _without_translation(stage)
    _same(stage)
    _end(stage)


def _cable(stage: Stage) -> None:
    stage.part("A cable into another network")
    for name in (_HOST, _BOX):
        _add_namespace(stage, name)
    stage.say("Two empty networks. The first plays the host, so that yours stays as it is.")
    _ip(stage, _HOST, "link", "add", "br0", "up", "type", "bridge")
    cable = ["link", "add", "plug", "up", "master", "br0", "type", "veth", "peer", "eth0", "netns", _BOX]
    _ip(stage, _HOST, *cable)
    _ip(stage, _BOX, "link", "set", "eth0", "up")
    _ip(stage, _HOST, "-br", "link")
    _ip(stage, _BOX, "-br", "link")
    stage.say("plug is in the bridge br0. What goes into it comes out at eth0, in the other network.")


def _addresses(stage: Stage) -> None:
    stage.part("Addresses: who is on the same cable")
    _ip(stage, _HOST, "address", "add", f"{_GATEWAY}/24", "dev", "br0")
    _ip(stage, _BOX, "address", "add", f"{_BOX_ADDRESS}/24", "dev", "eth0")
    _ping(stage, _GATEWAY)
    _ip(stage, _BOX, "route")
    _ping(stage, _FAR_ADDRESS, status=1)
    stage.say("An address brings a route to its subnet. For all others there is none: nothing was sent.")


def _way_out(stage: Stage) -> None:
    stage.part("A route: the host is the way out")
    _add_namespace(stage, _FAR)
    _ip(stage, _HOST, "link", "add", "up0", "up", "type", "veth", "peer", "eth0", "netns", _FAR)
    _ip(stage, _HOST, "address", "add", f"{_HOST_ADDRESS}/24", "dev", "up0")
    _ip(stage, _FAR, "link", "set", "eth0", "up")
    _ip(stage, _FAR, "address", "add", f"{_FAR_ADDRESS}/24", "dev", "eth0")
    _inside(stage, _FAR, "nft", "add", "table", "ip", "lab")
    _inside(stage, _FAR, "nft", "add", "set", "ip", "lab", "seen", "{ type ipv4_addr; flags dynamic; counter; }")
    _inside(stage, _FAR, "nft", "add", "chain", "ip", "lab", "input", "{ type filter hook input priority 0; }")
    _inside(stage, _FAR, "nft", "add", "rule", "ip", "lab", "input", "add", "@seen", "{ ip saddr }")
    stage.say("That is somebody elsewhere, who writes down from whom packets come.")
    _inside(stage, _HOST, "busybox", "sysctl", "-w", "net.ipv4.ip_forward=1")
    _ip(stage, _BOX, *_DEFAULT)
    _ping(stage, _FAR_ADDRESS, status=1)
    _seen(stage)
    stage.say(f"It has arrived. The answer has not: who is elsewhere knows no way to {_BOX_ADDRESS}.")


def _translation(stage: Stage) -> None:
    stage.part("Translation: what leaves takes the host's address")
    _inside(stage, _HOST, "nft", "add", "table", "ip", "lab")
    chain = ["chain", "ip", "lab", "postrouting", "{ type nat hook postrouting priority srcnat; }"]
    _inside(stage, _HOST, "nft", "add", *chain)
    _inside(stage, _HOST, "nft", "add", "rule", "ip", "lab", "postrouting", *_MASQUERADE)
    _ping(stage, _FAR_ADDRESS)
    _seen(stage)
    stage.say(f"Now it came from {_HOST_ADDRESS}, and the host gave the answer to whom it was for.")


def _without_route(stage: Stage) -> None:
    stage.part("Broken: the route is gone")
    _ip(stage, _BOX, "route", "delete", "default")
    _ping(stage, _FAR_ADDRESS, status=1)
    _ping(stage, _GATEWAY)
    stage.say("An error at once, and the gateway answers: look at the routes of the container.")
    _ip(stage, _BOX, "route")
    _ip(stage, _BOX, *_DEFAULT)
    _ping(stage, _FAR_ADDRESS)


def _without_link(stage: Stage) -> None:
    stage.part("Broken: the host's end of the cable is down")
    _ip(stage, _HOST, "link", "set", "plug", "down")
    _ping(stage, _GATEWAY, status=1)
    stage.say("Silence, from the gateway too: look at both ends of the cable.")
    _ip(stage, _HOST, "-br", "link", "show", "plug")
    _ip(stage, _BOX, "-br", "link", "show", "eth0")
    _ip(stage, _HOST, "link", "set", "plug", "up")
    # Three, because the bridge may switch the port on a moment later.
    _inside(stage, _BOX, "busybox", "ping", "-q", "-c", "3", "-W", "1", _FAR_ADDRESS)


def _without_translation(stage: Stage) -> None:
    stage.part("Broken: the rule that translates is gone")
    _inside(stage, _HOST, "nft", "flush", "chain", "ip", "lab", "postrouting")
    _ping(stage, _FAR_ADDRESS, status=1)
    _ping(stage, _GATEWAY)
    _seen(stage)
    stage.say(f"Silence, the gateway answers, and elsewhere {_BOX_ADDRESS} is seen again: look at the rules.")
    _inside(stage, _HOST, "nft", "list", "table", "ip", "lab")
    _inside(stage, _HOST, "nft", "add", "rule", "ip", "lab", "postrouting", *_MASQUERADE)
    _ping(stage, _FAR_ADDRESS)


def _same(stage: Stage) -> None:
    stage.part("The same, as pycontainer makes it")
    stage.own("network", _OWN)
    stage.run("network", "create", _OWN)
    stage.run("run", "-d", "--name", _NAME, "--network", _OWN, IMAGE, "sleep", "600")
    connection = open_database(stage.settings.root)
    stored = lease.find(connection, _OWN)
    connection.close()
    assert stored
    bridge = stored.interface
    stage.host("ip", "-br", "address", "show", bridge)
    stage.host("ip", "-br", "link", "show", "master", bridge)
    stage.run("exec", _NAME, "ip", "-4", "address", "show", "eth0")
    stage.run("exec", _NAME, "ip", "route")
    stage.host("nft", "list", "chain", "ip", table_name(stage.settings.bridge), "postrouting")
    stage.host("cat", "/proc/sys/net/ipv4/ip_forward")
    stage.run("exec", _NAME, "ping", "-q", "-c", "1", stored.gateway)
    stage.say("Bridge, cable, address, route, translation, forwarding: nothing that you have not made by hand.")


def _end(stage: Stage) -> None:
    stage.part("A cable goes with either of its ends")
    stage.remove(_NAME)
    stage.run("network", "rm", _OWN)
    _ip(stage, _BOX, "link", "delete", "eth0")
    _ip(stage, _HOST, "link", "show", "plug", status=1)
    stage.say(
        "So nothing is left of a container: its network goes with it, eth0 with that, and the host's end with eth0."
    )


def _add_namespace(stage: Stage, name: str) -> None:
    stage.own("network namespace", name)
    stage.host("ip", "netns", "add", name)


def _ip(stage: Stage, namespace: str, *words: str, status: int = 0) -> None:
    stage.host("ip", "-n", namespace, *words, status=status)


def _inside(stage: Stage, namespace: str, *words: str, status: int = 0) -> None:
    stage.host("ip", "netns", "exec", namespace, *words, status=status)


def _ping(stage: Stage, address: str, status: int = 0) -> None:
    """One packet from the container, and what came back in a second."""
    _inside(stage, _BOX, "busybox", "ping", "-q", "-c", "1", "-W", "1", address, status=status)


def _seen(stage: Stage) -> None:
    """Whom packets came from, as it was written down elsewhere."""
    _inside(stage, _FAR, "nft", "list", "set", "ip", "lab", "seen")
