"""How fast a container may send and receive: --network-rate.

    host                                     container
    bridge ── pyc0123456789ab ═══ veth ═══ eth0
              └ token bucket: what the       └ token bucket: what it sends
                container receives

cgroup v2 has no controller for the network, so the limit is at the devices. A device limits only what leaves it, hence
one at each end. The inner one is the container's own, which it may change with CAP_NET_ADMIN and without it not.
"""

from __future__ import annotations

import errno

from pycontainer.kernel import traffic_control
from pycontainer.kernel.netlink import NETLINK_ROUTE, Netlink
from pycontainer.network.operations import FindLink, OpenSocket, Request, in_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.kernel.operation import Journal

_WAITS = 0.05  # seconds' worth of bytes that wait; what is longer only makes everything late


class Rate:
    """Bytes a second, and bytes that may go at once."""

    __slots__ = ("burst", "bytes")

    def __init__(self, bytes_: int, burst: int) -> None:
        self.bytes = bytes_
        self.burst = burst


class LimitRate(Request):
    step = "limit the rate"
    reason = "cgroup v2 has no controller for the network: a token bucket holds back what leaves this end of the cable"
    hint = "the kernel needs the token bucket filter: modprobe sch_tbf"

    def __init__(self, netlink: Netlink, index: int, name: str, rate: Rate, netns: int = -1) -> None:
        queue = int(rate.bytes * _WAITS)
        command = (
            f"tc qdisc replace dev {name} root tbf rate {rate.bytes}bps burst {rate.burst} limit {queue + rate.burst}"
        )
        super().__init__(
            netlink,
            traffic_control.replace_token_bucket(index, rate.bytes, rate.burst, queue),
            name,
            command if netns < 0 else in_namespace(netns, command),
        )


class LiftRate(Request):
    """None that is there is no failure."""

    step = "lift the rate"
    reason = "the device sends at once what it has"

    def __init__(self, netlink: Netlink, index: int, name: str, netns: int = -1) -> None:
        command = f"tc qdisc delete dev {name} root"
        message = traffic_control.delete_token_bucket(index)
        super().__init__(netlink, message, name, command if netns < 0 else in_namespace(netns, command))

    def execute(self) -> None:
        try:
            self.send()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise


def set_rate(journal: Journal, name: str, inside_name: str, netns: int, rate: Rate | None) -> None:
    """Limit both directions of a container's cable, or lift the limit.

    name   of the host's end; inside_name is that of the other end
    netns  descriptor of the container's network namespace, or a pidfd of a process in it

    Raises StepFailed.
    """
    with Netlink(NETLINK_ROUTE) as route:
        _at(journal, route, name, rate)
    with journal.perform(OpenSocket(netns)) as inside:
        _at(journal, inside, inside_name, rate, netns)


def _at(journal: Journal, netlink: Netlink, name: str, rate: Rate | None, netns: int = -1) -> None:
    link = journal.perform(FindLink(netlink, name, "its index, by which the next message names it", netns))
    # A container that is about to end may have lost its link already.
    if link is not None:
        index = link.index
        journal.perform(LimitRate(netlink, index, name, rate, netns) if rate else LiftRate(netlink, index, name, netns))
