"""`linux.resources` of the OCI runtime specification as values for cgroup v2 files.

See config-linux.md, "Control groups", and Documentation/admin-guide/cgroup-v2.rst. Memory is in bytes, CPU quota and
period in microseconds. A value that says "no limit" is nothing to write for a new cgroup, which has none: so it needs
no controller.
"""

from __future__ import annotations

from pycontainer.errors import HostError
from pycontainer.runtime.fields import Fields, Json, asks, shown

# What a file of a new cgroup says, which limits nothing. Of io.max it is what stands behind the device and its key.
_UNLIMITED = {
    "cpu.idle": "0",
    "cpu.max": "max 100000",
    "cpu.max.burst": "0",
    "cpu.weight": "100",
    # A list of none, for which the kernel wants a line nevertheless.
    "cpuset.cpus": "\n",
    "cpuset.mems": "\n",
    "io.bfq.weight": "default 100",
    "io.weight": "default 100",
    "memory.low": "0",
    "memory.min": "0",
    "memory.oom.group": "0",
}

REFUSED = ("network", "rdma")
_UNIFIED = "linux.resources.unified."
_UINT64_MAX = (1 << 64) - 1


class Limit:
    """One write: `value` into `file`, which belongs to `controller`, because config.json says so at `field`.

    instead   the same for a kernel that lacks `file`
    """

    __slots__ = ("controller", "field", "file", "instead", "value")

    def __init__(self, controller: str, file: str, value: str, field: str, instead: Limit | None = None) -> None:
        self.controller = controller
        self.file = file
        self.value = value
        self.field = field
        self.instead = instead

    def __repr__(self) -> str:
        return f"{self.file}={self.value}"

    @property
    def unlimited(self) -> Limit:
        """The write that takes this limit away."""
        device, equals, _ = self.value.rpartition("=")
        value = f"{device}=max" if equals else _UNLIMITED.get(self.file, "max")
        return Limit(self.controller, self.file, value, self.field, self.instead and self.instead.unlimited)

    @property
    def is_none(self) -> bool:
        """Whether it says that there is no limit."""
        return self.value == self.unlimited.value or self.value.startswith("max ")


def changes(before: list[Limit], after: list[Limit]) -> list[Limit]:
    """What to write where `before` has been written and `after` is to hold.

    All of it, also what is in both, because somebody else may have written there.
    """
    return [*{_place(limit): limit for limit in [*(old.unlimited for old in before), *after]}.values()]


def _place(limit: Limit) -> tuple[str, str]:
    """What only one of two limits can hold: a file, or one key of a device's in it."""
    return limit.file, limit.value.rpartition("=")[0]


def cpu_weight(shares: int) -> int:
    """cpu.weight (1 to 10,000) for `cpu.shares` (2 to 262,144), by the formula that runc and crun share."""
    shares = min(max(shares, 2), 262144)
    return 1 + (shares - 2) * 9999 // 262142


def io_weight(weight: int) -> int:
    """io.weight (1 to 10,000) for `blkio.weight` (10 to 1,000)."""
    return 1 + (weight - 10) * 9999 // 990


def limits(resources: Json) -> list[Limit]:
    """What to write into a new cgroup, in order. Raises as `asked` does."""
    # What stands in `unified` may take away what stands elsewhere.
    return [limit for limit in asked(resources) if not limit.is_none or limit.field.startswith(_UNIFIED)]


def asked(resources: Json) -> list[Limit]:
    """Everything that is asked for, in order, also that there be no limit.

    Raises UsageError for what makes no sense, HostError for what v2 does not have.
    """
    found: list[Limit] = []
    fields = Fields(resources, "linux.resources")
    _memory(fields.object("memory"), found)
    _cpu(fields.object("cpu"), found)
    pids = fields.object("pids")
    _add(found, "pids", "pids.max", pids.limit("limit"), pids.at("limit"))
    _block_io(fields.object("blockIO"), found)
    for entry in fields.objects("hugepageLimits"):
        size = entry.text("pageSize", longest=16)
        if not (size.isascii() and size.isalnum()):
            raise entry.wrong("pageSize", "must be a size such as 2MB")
        # 0 is a limit here: not one huge page.
        limit = entry.required_number("limit", low=-1)
        value = "max" if limit in (-1, _UINT64_MAX) else str(limit)
        found.append(Limit("hugetlb", f"hugetlb.{size}.max", value, entry.at("limit")))
    unified = fields.object("unified")
    for file, value in fields.strings("unified").items():
        if "/" in file or "." not in file or not file.isprintable() or len(file) > 255:
            raise unified.wrong(file, "must be a cgroup file's name")
        if not value.isascii():
            raise unified.wrong(file, "no cgroup file takes that")
        found.append(Limit(file.partition(".")[0], file, value, unified.at(file)))
    for field in REFUSED:
        data = fields.object(field).data
        # A device's name alone says something.
        if asks(data) or (field == "rdma" and data):
            raise _not_there(fields, field, "cgroup v2 has no such control here", "remove it")
    return found


def device_rules(resources: Json) -> list[Json]:
    """`linux.resources.devices`, checked: kernel/device_filter.py. Raises UsageError."""
    rules = []
    for rule in Fields(resources, "linux.resources").objects("devices"):
        # What is misread here opens devices.
        kind, access = rule.text("type"), rule.text("access")
        if kind not in ("", "a", "b", "c"):
            raise rule.wrong("type", f"must be a, b or c, not {shown(kind)}")
        if set(access) - set("rwm"):
            raise rule.wrong("access", f"must be made of r, w and m, not {shown(access)}")
        major, minor = (rule.optional_number(name, low=-1, high=(1 << 31) - 1) for name in ("major", "minor"))
        rules.append({"allow": rule.flag("allow"), "type": kind, "access": access, "major": major, "minor": minor})
    return rules


def _not_there(fields: Fields, field: str, cause: str, hint: str) -> HostError:
    return HostError("read config.json", fields.at(field), cause, hint)


def _add(found: list[Limit], controller: str, file: str, value: int, field: str) -> None:
    """One of those that are -1 for no limit, and 0 where nothing is asked for."""
    if value:
        limit = Limit(controller, file, str(value), field)
        found.append(limit if value > 0 else limit.unlimited)


def _memory(memory: Fields, found: list[Limit]) -> None:
    limit, swap, low = (memory.limit(name) for name in ("limit", "swap", "reservation"))
    _add(found, "memory", "memory.low", low, memory.at("reservation"))
    _add(found, "memory", "memory.max", limit, memory.at("limit"))
    if swap > 0:
        # The specification counts memory and swap together, as v1 did; v2 counts swap alone.
        if limit <= 0:
            raise memory.wrong("swap", "needs a memory limit")
        if swap < limit:
            raise memory.wrong("swap", "is memory plus swap and so no less than the limit")
        found.append(Limit("memory", "memory.swap.max", str(swap - limit), memory.at("swap")))
    elif swap:
        found.append(Limit("memory", "memory.swap.max", "max", memory.at("swap")))
    for field in ("kernel", "kernelTCP"):
        if memory.limit(field) > 0:
            raise _not_there(memory, field, "cgroup v2 does not limit it apart", "use the memory limit")
    # 0 says something here: do not swap.
    if memory.optional_number("swappiness", low=-1) not in (None, -1, _UINT64_MAX):
        raise _not_there(memory, "swappiness", "cgroup v2 has no such control", "limit memory.swap instead")
    if memory.flag("disableOOMKiller"):
        raise _not_there(memory, "disableOOMKiller", "cgroup v2 has no such switch", "remove it")
    # v2 always counts what is below, and a new cgroup uses nothing that could be more than its limit.
    memory.flag("useHierarchy")
    memory.flag("checkBeforeUpdate")


def _cpu(cpu: Fields, found: list[Limit]) -> None:
    shares, period = (cpu.number(name, low=0) for name in ("shares", "period"))
    quota = cpu.limit("quota")
    if shares:
        found.append(Limit("cpu", "cpu.weight", str(cpu_weight(shares)), cpu.at("shares")))
    # A period says nothing without how much of it may be used.
    if quota:
        found.append(Limit("cpu", "cpu.max", f"{quota if quota > 0 else 'max'} {period or 100000}", cpu.at("quota")))
    for field, file, most in (("idle", "cpu.idle", 1), ("burst", "cpu.max.burst", _UINT64_MAX)):
        value = cpu.optional_number(field, low=0, high=most)
        if value is not None:
            found.append(Limit("cpu", file, str(value), cpu.at(field)))
    for field, file in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        numbers = cpu.text(field)
        if set(numbers) - set("0123456789,-:/ "):
            raise cpu.wrong(field, f"must be a list such as 0-3,7, not {shown(numbers)}")
        if numbers.strip():
            found.append(Limit("cpuset", file, numbers, cpu.at(field)))
    for field in ("realtimeRuntime", "realtimePeriod"):
        if cpu.number(field):
            raise _not_there(cpu, field, "cgroup v2 does not control real-time tasks", "remove it")


def _block_io(block_io: Fields, found: list[Limit]) -> None:
    weight = block_io.number("weight", low=0, high=1000)
    if weight:
        if weight < 10:
            raise block_io.wrong("weight", f"must be 10 to 1000, not {weight}")
        field = block_io.at("weight")
        # BFQ's weight has v1's range. Kernels have either, by CONFIG_BLK_CGROUP_IOCOST and CONFIG_BFQ_GROUP_IOSCHED.
        bfq = Limit("io", "io.bfq.weight", str(weight), field)
        found.append(Limit("io", "io.weight", f"default {io_weight(weight)}", field, bfq))
    for field, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for device in block_io.objects(field):
            major, minor = (device.required_number(name, low=0, high=(1 << 32) - 1) for name in ("major", "minor"))
            # 0 is none, as it was in v1.
            rate = device.number("rate", low=0) or "max"
            found.append(Limit("io", "io.max", f"{major}:{minor} {key}={rate}", block_io.at(field)))
    if block_io.number("leafWeight", low=0, high=1000):
        raise _not_there(block_io, "leafWeight", "not supported", "use weight or the throttle fields")
    if block_io.objects("weightDevice"):
        raise _not_there(block_io, "weightDevice", "not supported", "use weight or the throttle fields")
