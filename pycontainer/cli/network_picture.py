"""`network inspect --picture`: what is plugged into what, as a tree of lines."""

from __future__ import annotations

from pycontainer.cli.table import shorten
from pycontainer.errors import printable
from pycontainer.network.lease import pack_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.engine.topology import Bridge, Cable

WIDTH = 100
_GAP = 2
_INDENT = 6  # of a container: that of its network, and its branch
# What a published port takes at most, so that it is never cut.
_PORT = len("255.255.255.255:65535 -> 65535/sctp")
_WAYS = {
    "NAT": "NAT",
    "no NAT": "no NAT: what leaves keeps its address",
    "internal": "internal: nothing gets out, and nothing in",
}
_STATES = {"gone": "gone: the next start makes it anew", "down": "down: the next start sets it up"}
_WITHOUT = {"host": "no bridge: all links of the host's", "none": "no bridge: a loopback each"}


def draw(links: list[tuple[str, str]], bridges: list[Bridge]) -> str:
    """The host's links, each a name and an address, and networks with their containers, by address.

    A line for a container, and more where it has many names and ports; names that are too long end with an ellipsis.
    """
    lines = ["host"]
    last = len(links) + len(bridges) - 1
    width = max((len(printable(name)) for name, _ in links), default=0)
    for place, (name, address) in enumerate(sorted(links)):
        lines.append(f"{_branch(place == last)}{printable(name):{width}}  {address}")
    for place, bridge in enumerate(bridges):
        is_last = len(links) + place == last
        lines.append("│")
        lines.append(shorten(_branch(is_last) + _title(bridge), WIDTH))
        stem = "   " if is_last else "│  "
        lines += [f"{stem}{line}" for line in _containers(bridge.cables)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _branch(is_last: bool) -> str:
    return "└─ " if is_last else "├─ "


def _title(bridge: Bridge) -> str:
    if not bridge.interface:
        return f"{bridge.network}  {_WITHOUT.get(bridge.network, 'no bridge: nobody has used it yet')}"
    state = f" ({_STATES[bridge.state]})" if bridge.state else ""
    # The name last of what may be long, because the line is cut there.
    return f"{bridge.interface}{state}  {bridge.address}  {_WAYS[bridge.way_out]}  network {bridge.network}"


def _containers(cables: tuple[Cable, ...]) -> list[str]:
    ordered = sorted(cables, key=lambda each: (pack_address(each.address) if each.address else b"", each.container))
    starts = [_start(each, ordered) for each in ordered]
    room = WIDTH - _INDENT - max(map(len, starts), default=0)
    pieces = [[each.address6, *each.ports, *each.aliases] for each in ordered]
    most = min(max((len(piece) for row in pieces for piece in row), default=0), _PORT)
    names = min(max((len(each.container) for each in ordered), default=0), room - _GAP - most)
    lines = []
    for place, (each, start) in enumerate(zip(ordered, starts, strict=True)):
        is_last = place == len(ordered) - 1
        details = _pack(each, room - _GAP - names)
        lines.append(f"{_branch(is_last)}{start}{shorten(each.container, names):{names}}  {details[0]}")
        stem = " " * (3 + len(start) + names + _GAP)
        lines += [f"{' ' if is_last else '│'}{stem[1:]}{detail}" for detail in details[1:]]
    return lines


def _start(cable: Cable, cables: list[Cable]) -> str:
    """What stands before a container's name."""
    if not cable.address:
        return ""
    addresses, links = (max(len(getattr(each, name)) for each in cables) for name in ("address", "link"))
    return f"{cable.address:{addresses}}  {cable.host_end} ═ {cable.link:{links}}  "


def _pack(cable: Cable, room: int) -> list[str]:
    """IPv6 address, ports and other names, as many in a line as there is room for; at least one line."""
    lines = [""]
    for word in filter(None, [cable.address6, *cable.ports, *(f"also {alias}" for alias in cable.aliases)]):
        longer = f"{lines[-1]}, {word}" if lines[-1] else word
        if len(longer) <= room:
            lines[-1] = longer
        else:
            # No place for a line without words.
            lines = [*filter(None, lines), shorten(word, room)]
    return lines
