"""Who has a port: the process whose socket is in the way, for an error that names it. See proc(5), /proc/net/tcp."""

from __future__ import annotations

import os
import sys

from pycontainer.network.publication import ANY, ANY6, Binding, pack

_LISTEN = "0A"
_ANY6 = "0" * 32
_ORDER = -1 if sys.byteorder == "little" else 1


def find_holder(binding: Binding) -> str:
    """The process that is bound to the host's port, as `nginx (pid 812)`; "" where it cannot be told."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(binding)}
    if not sockets:
        return ""
    for pid in sorted(filter(str.isdecimal, os.listdir("/proc")), key=int):
        directory = f"/proc/{pid}/fd"
        try:
            if any(_link(f"{directory}/{name}") in sockets for name in os.listdir(directory)):
                with open(f"/proc/{pid}/comm", errors="replace") as file:
                    return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue  # it has ended
    return ""


def _inodes(binding: Binding) -> list[str]:
    """Of the sockets that are bound to the port at an address that overlaps."""
    inodes = []
    for name in [f"{binding.protocol}6"] if binding.is_ipv6 else [binding.protocol, f"{binding.protocol}6"]:
        try:
            with open(f"/proc/net/{name}") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue  # SCTP has another table, and IPv6 may be off
        for line in lines:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            is_server = binding.protocol != "tcp" or fields[3] == _LISTEN
            if int(port, 16) == binding.host_port and is_server and _overlap(address, binding.host_address):
                inodes.append(fields[9])
    return inodes


def _overlap(written: str, address: str) -> bool:
    """Whether an address of /proc/net, hexadecimal in the machine's byte order, and one of ours may meet."""
    packed = pack(address)
    # Each 32 bits are a number.
    own = b"".join(packed[at : at + 4][::_ORDER] for at in range(0, len(packed), 4)).hex().upper()
    return address in (ANY, ANY6) or written in ("0" * 8, _ANY6) or written.endswith(own)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""  # closed meanwhile
