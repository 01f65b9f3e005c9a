"""--network and what goes with it: --network-alias, --ip, --ip6, --mac-address."""

from __future__ import annotations

import _socket

from pycontainer.errors import UsageError
from pycontainer.network.lease import pack_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Values = dict[str, Any]

BRIDGE = "bridge"
_ALONE = ("none", "host")
_HINT = (
    "--network NAME, several times for several; or "
    "--network name=NAME,alias=ALIAS,ip=ADDRESS,ip6=ADDRESS,mac-address=MAC"
)


class Attachment:
    """A network that the container shall be in.

    network   its name, or its id as far as the user has written it
    aliases   what else the container is called there
    address   IPv4; "" for one that is free
    address6  IPv6; "" for the one that goes with `address`
    mac       "" for one that is made of the address
    priority  of those that have a way out, the one with the highest number gives the default route
    """

    __slots__ = ("address", "address6", "aliases", "mac", "network", "priority")

    def __init__(self, network: str) -> None:
        self.network = network
        self.aliases: list[str] = []
        self.address = ""
        self.address6 = ""
        self.mac = ""
        self.priority = 0

    def take(self, flag: str, key: str, value: str) -> None:
        """One of its properties, as the user has written it. Raises UsageError."""
        if key == "alias":
            self.aliases.append(_alias(flag, value))
        elif key == "ip":
            self.address = _address(flag, value)
        elif key == "ip6":
            self.address6 = _address6(flag, value)
        elif key == "mac-address":
            self.mac = _mac(flag, value)
        elif key == "gw-priority":
            self.priority = _number(flag, value)
        else:
            raise UsageError(flag, repr(key), "no such property of a network", _HINT)

    def check(self) -> None:
        """Raise UsageError for what the network that is always there does not have."""
        if self.network != BRIDGE:
            return
        hint = "make a network (pycontainer network create NAME) and name it"
        if self.aliases:
            cause = "on the default bridge containers have no names for each other"
            raise UsageError("--network-alias", self.aliases[0], cause, hint)
        for flag, address in (("--ip", self.address), ("--ip6", self.address6)):
            if address:
                cause = "addresses can be chosen in networks of your own, and not on the default bridge"
                raise UsageError(flag, address, cause, hint)


def parse(values: Values) -> tuple[str, list[Attachment]]:
    """The mode (host, none, container:NAME, or the first network's name) and the networks. Raises UsageError."""
    texts = values.get("network") or []
    texts = [texts] if isinstance(texts, str) else texts
    found = [_parse_one(text) for text in texts if text] or [Attachment(BRIDGE)]
    names = [each.network for each in found]
    alone = next((name for name in names if name in _ALONE or name.startswith("container:")), "")
    if alone and len(names) > 1:
        raise UsageError("--network", ", ".join(names), f"{alone} goes with no other network")
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError("--network", repr(twice), "named twice")
    for flag, key in (("--network-alias", "alias"), ("--ip", "ip"), ("--ip6", "ip6"), ("--mac-address", "mac-address")):
        given = values.get(flag[2:].replace("-", "_")) or []
        for value in [given] if isinstance(given, str) else given:
            if alone:
                raise UsageError(flag, value, f"with --network {alone} the container has no network of its own")
            found[0].take(flag, key, value)
    for each in found:
        each.check()
    return names[0], [] if alone else found


def to_values(attachments: list[Attachment]) -> Values:
    """The options that say the same, in place of all that were given: what `parse` reads."""
    texts = []
    for each in attachments:
        pairs = [f"name={each.network}", *(f"alias={alias}" for alias in each.aliases)]
        pairs += [f"ip={each.address}"] if each.address else []
        pairs += [f"ip6={each.address6}"] if each.address6 else []
        pairs += [f"mac-address={each.mac}"] if each.mac else []
        pairs += [f"gw-priority={each.priority}"] if each.priority else []
        texts.append(",".join(pairs) if len(pairs) > 1 else each.network)
    return {"network": texts or ["none"], "network_alias": [], "ip": "", "ip6": "", "mac_address": ""}


def _parse_one(text: str) -> Attachment:
    if "=" not in text:
        return Attachment(_name(text))
    pairs = [pair.partition("=") for pair in text.split(",")]
    names = [value for key, _, value in pairs if key == "name"]
    if len(names) != 1:
        raise UsageError("--network", repr(text), "it does not name one network", _HINT)
    attachment = Attachment(_name(names[0]))
    for key, _, value in pairs:
        if key != "name":
            attachment.take("--network", key, value)
    return attachment


def _name(text: str) -> str:
    if not text or text.split() != [text] or "/" in text or text == "container:":
        raise UsageError("--network", repr(text), "not the name of a network", _HINT)
    return BRIDGE if text == "default" else text


def _alias(flag: str, text: str) -> str:
    lower = text.lower()
    if not lower.isascii() or len(lower) > 63 or not lower.translate({45: "", 46: "", 95: ""}).isalnum():
        raise UsageError(flag, repr(text), "not a name", "at most 63 letters, digits, '-', '.', '_'")
    return lower


def _address(flag: str, text: str) -> str:
    try:
        pack_address(text)
    except ValueError:
        raise UsageError(
            flag, repr(text), "not an IPv4 address", "such as 10.99.16.5, inside the network's subnet"
        ) from None
    return text


def _address6(flag: str, text: str) -> str:
    """In its canonical form."""
    try:
        return _socket.inet_ntop(_socket.AF_INET6, _socket.inet_pton(_socket.AF_INET6, text))
    except (OSError, ValueError):
        hint = "such as fd12:3456:789a::5, inside the network's subnet"
        raise UsageError(flag, repr(text), "not an IPv6 address", hint) from None


def _mac(flag: str, text: str) -> str:
    parts = text.lower().replace("-", ":").split(":")
    try:
        data = bytes.fromhex("".join(part.zfill(2) for part in parts))
    except ValueError:
        data = b""
    if len(parts) != 6 or len(data) != 6 or data[0] & 1 or not any(data):
        raise UsageError(flag, repr(text), "not the address of one link", "six bytes such as 02:42:ac:11:00:05")
    return data.hex(":")


def _number(flag: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(flag, repr(text), "not a number") from None
