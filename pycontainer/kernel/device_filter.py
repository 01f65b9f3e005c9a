"""Which device nodes a cgroup may use: a BPF program of type BPF_PROG_TYPE_CGROUP_DEVICE, see bpf(2).

cgroup v2 has no devices controller; this is its replacement (cgroup-v2.rst, "Device controller"). The kernel runs the
program at each open(2) and mknod(2) of a device node.
"""

from __future__ import annotations

import ctypes
import os
import struct

from pycontainer.errors import UsageError
from pycontainer.kernel import record
from pycontainer.kernel.operation import Operation
from pycontainer.kernel.syscalls import syscall

_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 2

# enum in include/uapi/linux/bpf.h: BPF_DEVCG_DEV_* and BPF_DEVCG_ACC_*
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

# What every container may use, whatever the rules say (config-linux.md, "Default Devices"), and mknod of anything,
# because making a node grants nothing: opening it is what counts.
ALWAYS: list[dict[str, object]] = [
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
]
for _major, _minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None)):
    ALWAYS.append({"allow": True, "type": "c", "major": _major, "minor": _minor, "access": "rwm"})


# Opcodes, as include/uapi/linux/bpf_common.h and bpf.h compose them.
_LDX_MEM_W = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOV32_X = 0xBC  # BPF_ALU | BPF_MOV | BPF_X
_MOV64_K = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_AND32_K = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RSH32_K = 0x74  # BPF_ALU | BPF_RSH | BPF_K
_JNE_K = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_JNE_X = 0x5D  # BPF_JMP | BPF_JNE | BPF_X
_EXIT = 0x95  # BPF_JMP | BPF_EXIT


def _instruction(opcode: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", opcode, source << 4 | destination, offset, immediate)


def compile_rules(rules: list[dict[str, object]]) -> bytes:
    """The program for OCI `linux.resources.devices` rules: the last one that matches decides, none means no.

    Raises UsageError.
    """
    # r2 = type, r3 = access, r4 = major, r5 = minor, out of struct bpf_cgroup_dev_ctx
    program = [
        _instruction(_LDX_MEM_W, 2, 1, 0),
        _instruction(_MOV32_X, 3, 2),
        _instruction(_AND32_K, 2, immediate=0xFFFF),
        _instruction(_RSH32_K, 3, immediate=16),
        _instruction(_LDX_MEM_W, 4, 1, 4),
        _instruction(_LDX_MEM_W, 5, 1, 8),
    ]
    last: dict[str, object] = {"allow": False}
    for rule in (*reversed(rules), last):
        instructions = _rule(rule)
        program.extend(instructions)
        if len(instructions) == 2:
            # It matches everything, and the verifier refuses what can never be reached.
            break
    return b"".join(program)


def _rule(rule: dict[str, object]) -> list[bytes]:
    kind, access, allow = rule.get("type") or "a", rule.get("access") or "rwm", rule.get("allow", False)
    numbers = rule.get("major"), rule.get("minor")
    # What is misread here opens devices, so that nothing but exact types will do.
    if not isinstance(allow, bool) or not all(number is None or _is_device_number(number) for number in numbers):
        raise UsageError("read config.json", "linux.resources.devices", f"not a device rule: {rule}")
    if kind not in ("a", "b", "c") or not isinstance(access, str) or set(access) - set("rwm"):
        raise UsageError("read config.json", "linux.resources.devices", f"not a device rule: {rule}")
    allowed = sum(_ACCESS[letter] for letter in set(access))
    tests: list[bytes] = []
    # Each test jumps over the rest of this rule; how far is filled in below.
    if kind != "a":
        tests.append(_instruction(_JNE_K, 2, immediate=_TYPES[str(kind)]))
    if allowed != 7:
        tests.append(_instruction(_MOV32_X, 1, 3))
        tests.append(_instruction(_AND32_K, 1, immediate=allowed))
        tests.append(_instruction(_JNE_X, 1, 3))
    for register, number in zip((4, 5), numbers, strict=True):
        if isinstance(number, int) and number >= 0:
            tests.append(_instruction(_JNE_K, register, immediate=number))
    tests.extend((_instruction(_MOV64_K, 0, immediate=int(allow)), _instruction(_EXIT)))
    return [
        test[:2] + struct.pack("<h", len(tests) - position - 1) + test[4:] if test[0] in (_JNE_K, _JNE_X) else test
        for position, test in enumerate(tests)
    ]


def _is_device_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value < 1 << 31


class AttachDeviceFilter(Operation):
    """Load the program and attach it to the cgroup; the kernel keeps it for as long as the cgroup lives."""

    group = "cgroup"
    step = "attach device filter"
    reason = "device nodes other than the usual harmless ones stay closed, whoever makes them"
    hint = "the kernel needs CONFIG_CGROUP_BPF"

    def __init__(self, cgroup: str, rules: list[dict[str, object]]) -> None:
        self.path = cgroup
        self.program = compile_rules(rules)

    def shell(self) -> str:
        pin = "/sys/fs/bpf/devices"
        return f"bpftool prog load … {pin}\nbpftool cgroup attach {self.path} device pinned {pin} multi"

    def execute(self) -> None:
        code = ctypes.create_string_buffer(self.program, len(self.program))
        license_ = ctypes.create_string_buffer(b"Apache-2.0")
        load = struct.pack(
            "IIQQIIQII16s",
            _BPF_PROG_TYPE_CGROUP_DEVICE,
            len(self.program) // 8,
            ctypes.addressof(code),
            ctypes.addressof(license_),
            0,
            0,
            0,
            0,
            0,
            b"pycontainer_dev",
        )
        program = self._load(load)
        try:
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            record.name(directory, self.path)
            try:
                attach = struct.pack("IIII", directory, program, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI)
                how = (
                    f"{{target_fd={record.descriptor(directory)}, attach_bpf_fd={record.descriptor(program)}, "
                    "attach_type=BPF_CGROUP_DEVICE, attach_flags=BPF_F_ALLOW_MULTI}"
                )
                shown = {0: lambda _: "BPF_PROG_ATTACH", 1: lambda _: how}
                syscall("bpf", _BPF_PROG_ATTACH, attach, len(attach), path=self.path, shown=shown)
            finally:
                os.close(directory)
        finally:
            os.close(program)

    def _load(self, load: bytes) -> int:
        how = f"{{prog_type=BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt={len(self.program) // 8}}}"
        shown = {0: lambda _: "BPF_PROG_LOAD", 1: lambda _: how}
        while True:
            try:
                program = syscall("bpf", _BPF_PROG_LOAD, load, len(load), path=self.path, shown=shown)
                record.name(program, "device filter")
                return program
            except BlockingIOError:
                # A signal came while the kernel checked the program: bpf_check() gives up then.
                continue
