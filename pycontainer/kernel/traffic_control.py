"""Traffic control: a token bucket filter at a network device, tc-tbf(8). The messages are in linux/rtnetlink.h and
linux/pkt_sched.h.

It limits what leaves the device. What is more than the rate waits in a queue, and what finds that full is dropped.
"""

from __future__ import annotations

import _socket
import struct

from pycontainer.kernel.netlink import Body, Message

TC_H_ROOT = 0xFFFFFFFF
_TC_LINKLAYER_ETHERNET = 1

TCMSG = struct.Struct("=BBHiIII")  # family, padding, padding, index, handle, parent, info
_RATESPEC = struct.Struct("=BBHhHI")  # cell_log, link layer, overhead, cell_align, least packet, bytes a second
_TBF_QOPT = struct.Struct("=12s12sIII")  # rate, peak rate, length of the queue, buffer and mtu in ticks


def replace_token_bucket(index: int, rate: int, burst: int, queue: int) -> Message:
    """Limit what leaves the device: bytes a second, bytes that may go at once, bytes that may wait beside those."""
    # The buffer in the kernel's ticks is left to TCA_TBF_BURST, which is in bytes.
    spec = _RATESPEC.pack(0, _TC_LINKLAYER_ETHERNET, 0, 0, 0, rate)
    options = _TBF_QOPT.pack(spec, bytes(_RATESPEC.size), queue + burst, 0, 0)
    body = _root_of(index)
    body.attributes = {"TCA_KIND": "tbf", "TCA_OPTIONS": {"TCA_TBF_PARMS": options, "TCA_TBF_BURST": burst}}
    return Message("RTM_NEWQDISC", ("NLM_F_ACK", "NLM_F_REPLACE", "NLM_F_CREATE"), body)


def delete_token_bucket(index: int) -> Message:
    """ENOENT where the device has none."""
    return Message("RTM_DELQDISC", ("NLM_F_ACK",), _root_of(index))


def _root_of(index: int) -> Body:
    text = f"tcm_family=AF_UNSPEC, tcm_ifindex={index}, tcm_handle=0, tcm_parent={TC_H_ROOT}, tcm_info=0"
    return Body(TCMSG.pack(_socket.AF_UNSPEC, 0, 0, index, 0, TC_H_ROOT, 0), text, {})
