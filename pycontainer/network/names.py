"""What our links and tables are called."""

from __future__ import annotations

# Not hashlib, because that loads OpenSSL.
import _blake2

NAME = "bridge"  # what docker(1) calls its default network
LINK_PREFIX = "pyc"
ID_DIGITS = 12  # with the prefix 15 characters, the longest name that a link can have


def is_link_name(text: str) -> bool:
    """Whether a link may be called so: 1 to 15 letters, digits, '-', '.', '_'."""
    return len(text) <= 15 and text.isascii() and text.translate({45: "", 46: "", 95: ""}).isalnum()


def table_name(interface: str) -> str:
    """The nft table, of family ip, that belongs to the bridge."""
    return "pycontainer" if interface == "pyc0" else f"pycontainer_{interface}"


def link_name(container_id: str, network: str = NAME) -> str:
    """The name of the host's end of the container's veth pair in a network."""
    if network == NAME:
        return LINK_PREFIX + container_id[:ID_DIGITS]
    text = f"{container_id} {network}".encode()
    return LINK_PREFIX + _blake2.blake2b(text, digest_size=ID_DIGITS // 2).hexdigest()
