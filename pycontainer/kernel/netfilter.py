"""Messages of nfnetlink for NETLINK_NETFILTER: elements of nf_tables' maps, and the flows that conntrack remembers.

See nft(8) for the words, linux/netfilter/nf_tables.h and nfnetlink_conntrack.h for the attributes. What happens once
per boot goes through the nft program instead: rules.py.
"""

from __future__ import annotations

import _socket
import struct

from pycontainer.kernel.netlink import ATTRIBUTES, Body, Message, list_attributes, parse_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.kernel.netlink import Value

NFGENMSG = struct.Struct("=BBH")  # family, version, resource
NFNL_SUBSYS_NFTABLES = 10
NFTNL_UDATA_TABLE_COMMENT = 0
_FAMILIES = {"ip": "AF_INET", "ip6": "AF_INET6"}  # nft's names, and the kernel's

# Which fields of a tuple a list of flows is filtered by: net/netfilter/nf_internals.h.
CTA_FILTER_F_CTA_IP_SRC = 1 << 0
CTA_FILTER_F_CTA_PROTO_NUM = 1 << 3
CTA_FILTER_F_CTA_PROTO_DST_PORT = 1 << 5


def get_table(name: str) -> Message:
    """Look an nft table of family ip up by its name; ENOENT where there is none."""
    return Message("NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETTABLE", ("NLM_F_ACK",), _inet({"NFTA_TABLE_NAME": name}))


def table_comment(payload: bytes) -> str:
    """The comment of the table that is the answer to `get_table`, "" for none."""
    attributes = parse_attributes(payload[NFGENMSG.size :])
    # nft's own format: a byte of type, a byte of length, a string with its NUL.
    data = attributes.get(ATTRIBUTES["NFTA_TABLE_USERDATA"], b"")
    return data[2:].rstrip(b"\0").decode(errors="replace") if data[:1] == bytes((NFTNL_UDATA_TABLE_COMMENT,)) else ""


def get_rules(table: str, family: str = "ip") -> Message:
    """List the rules of all chains of a table, for Netlink.dump: a payload for each. `family` is ip or ip6."""
    body = _inet({"NFTA_RULE_TABLE": table}, family)
    return Message("NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETRULE", ("NLM_F_DUMP",), body)


def new_elements(table: str, name: str, elements: list[tuple[bytes, bytes]], family: str = "ip") -> Message:
    """Add (key, value) pairs to a map. One that is there already stays; EEXIST or EBUSY if a key has another value."""
    nested: list[Value] = [
        {"NFTA_SET_ELEM_KEY": {"NFTA_DATA_VALUE": key}, "NFTA_SET_ELEM_DATA": {"NFTA_DATA_VALUE": value}}
        for key, value in elements
    ]
    body = _elements(table, name, nested, family)
    return Message("NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWSETELEM", ("NLM_F_ACK", "NLM_F_CREATE"), body)


def del_elements(table: str, name: str, keys: list[bytes], family: str = "ip") -> Message:
    """Remove keys from a map; ENOENT where one is not there."""
    nested: list[Value] = [{"NFTA_SET_ELEM_KEY": {"NFTA_DATA_VALUE": key}} for key in keys]
    body = _elements(table, name, nested, family)
    return Message("NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_DELSETELEM", ("NLM_F_ACK",), body)


def get_elements(table: str, name: str, family: str = "ip") -> Message:
    """List a map, for Netlink.dump; each payload of the answer is one for `parse_elements`."""
    body = _inet({"NFTA_SET_ELEM_LIST_TABLE": table, "NFTA_SET_ELEM_LIST_SET": name}, family)
    return Message("NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETSETELEM", ("NLM_F_DUMP",), body)


def parse_elements(payload: bytes) -> list[tuple[bytes, bytes]]:
    """(key, value) pairs of a map."""
    elements = parse_attributes(payload[NFGENMSG.size :]).get(ATTRIBUTES["NFTA_SET_ELEM_LIST_ELEMENTS"], b"")
    pairs = []
    for _, element in list_attributes(elements):
        attributes = parse_attributes(element)
        key = parse_attributes(attributes[ATTRIBUTES["NFTA_SET_ELEM_KEY"]])
        value = parse_attributes(attributes[ATTRIBUTES["NFTA_SET_ELEM_DATA"]])
        pairs.append((key[ATTRIBUTES["NFTA_DATA_VALUE"]], value[ATTRIBUTES["NFTA_DATA_VALUE"]]))
    return pairs


def get_generation() -> Message:
    """Ask for the number of the ruleset, which every change of any table raises."""
    body = Body(NFGENMSG.pack(_socket.AF_UNSPEC, 0, 0), "nfgen_family=AF_UNSPEC", {})
    return Message("NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETGEN", ("NLM_F_ACK",), body)


def generation(payload: bytes) -> bytes:
    """The number, as the kernel writes it, in the answer to `get_generation`."""
    return parse_attributes(payload[NFGENMSG.size :])[ATTRIBUTES["NFTA_GEN_ID"]]


def batch(messages: list[Message], expected: bytes = b"") -> list[Message]:
    """A transaction for Netlink.transact; ERESTART if the ruleset is no longer that of the generation `expected`."""
    frame = NFGENMSG.pack(_socket.AF_UNSPEC, 0, _socket.htons(NFNL_SUBSYS_NFTABLES))
    text = "nfgen_family=AF_UNSPEC, res_id=htons(NFNL_SUBSYS_NFTABLES)"
    begin = Body(frame, text, {"NFNL_BATCH_GENID": expected} if expected else {})
    return [
        Message("NFNL_MSG_BATCH_BEGIN", (), begin),
        *messages,
        Message("NFNL_MSG_BATCH_END", (), Body(frame, text, {})),
    ]


class Flow:
    """What conntrack remembers of packets between two ends: `protocol` by its number, where they were sent to.

    family  ip or ip6
    name    the attributes by which the kernel knows the flow again
    """

    __slots__ = ("address", "family", "name", "port", "protocol")

    def __init__(self, payload: bytes) -> None:
        attributes = parse_attributes(payload[NFGENMSG.size :])
        original = attributes[ATTRIBUTES["CTA_TUPLE_ORIG"]]
        tuple_ = parse_attributes(original)
        ends = parse_attributes(tuple_[ATTRIBUTES["CTA_TUPLE_IP"]])
        layer4 = parse_attributes(tuple_[ATTRIBUTES["CTA_TUPLE_PROTO"]])
        self.protocol = layer4[ATTRIBUTES["CTA_PROTO_NUM"]][0]
        if packed := ends.get(ATTRIBUTES["CTA_IP_V6_DST"]):
            self.family, self.address = "ip6", _socket.inet_ntop(_socket.AF_INET6, packed)
        else:
            self.family, self.address = "ip", _socket.inet_ntoa(ends[ATTRIBUTES["CTA_IP_V4_DST"]])
        # ICMP has none.
        self.port = int.from_bytes(layer4.get(ATTRIBUTES["CTA_PROTO_DST_PORT"], b""), "big")
        self.name: dict[str, Value] = {"CTA_TUPLE_ORIG": original, "CTA_ID": attributes[ATTRIBUTES["CTA_ID"]]}


def get_flows_to(protocol: int, port: int = 0, family: str = "ip") -> Message:
    """List the flows to a port, or to all, of a protocol: each payload of Netlink.dump is one for Flow."""
    wanted: dict[str, Value] = {"CTA_PROTO_NUM": bytes((protocol,))}
    flags = CTA_FILTER_F_CTA_PROTO_NUM
    if port:
        wanted["CTA_PROTO_DST_PORT"] = port.to_bytes(2, "big")
        flags |= CTA_FILTER_F_CTA_PROTO_DST_PORT
    chosen: dict[str, Value] = {
        "CTA_TUPLE_ORIG": {"CTA_TUPLE_PROTO": wanted},
        "CTA_FILTER": {"CTA_FILTER_ORIG_FLAGS": flags},
    }
    return _get_flows(chosen, family)


def get_flows_answered_by(address: bytes) -> Message:
    """List the flows whose answers come from an address (4 or 16 bytes): those that lead there after translation."""
    family, name = ("ip", "CTA_IP_V4_SRC") if len(address) == 4 else ("ip6", "CTA_IP_V6_SRC")
    chosen: dict[str, Value] = {
        "CTA_TUPLE_REPLY": {"CTA_TUPLE_IP": {name: address}},
        "CTA_FILTER": {"CTA_FILTER_ORIG_FLAGS": 0, "CTA_FILTER_REPLY_FLAGS": CTA_FILTER_F_CTA_IP_SRC},
    }
    return _get_flows(chosen, family)


def del_flow(flow: Flow) -> Message:
    """Forget a flow, whose next packet is translated anew; ENOENT where it is over."""
    body = _inet(flow.name, flow.family)
    return Message("NFNL_SUBSYS_CTNETLINK<<8|IPCTNL_MSG_CT_DELETE", ("NLM_F_ACK",), body)


def _get_flows(attributes: dict[str, Value], family: str) -> Message:
    return Message("NFNL_SUBSYS_CTNETLINK<<8|IPCTNL_MSG_CT_GET", ("NLM_F_DUMP",), _inet(attributes, family))


def _elements(table: str, name: str, elements: list[Value], family: str) -> Body:
    return _inet(
        {
            "NFTA_SET_ELEM_LIST_TABLE": table,
            "NFTA_SET_ELEM_LIST_SET": name,
            "NFTA_SET_ELEM_LIST_ELEMENTS": elements,
        },
        family,
    )


def _inet(attributes: dict[str, Value], family: str = "ip") -> Body:
    name = _FAMILIES[family]
    number: int = getattr(_socket, name)
    return Body(NFGENMSG.pack(number, 0, 0), f"nfgen_family={name}", attributes)
