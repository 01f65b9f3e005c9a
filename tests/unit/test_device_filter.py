"""The device filter's BPF program, run in a small interpreter, against the rules evaluated one by one.

Opcodes: Documentation/bpf/standardization/instruction-set.rst. Context: struct bpf_cgroup_dev_ctx in linux/bpf.h.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pycontainer.errors import UsageError
from pycontainer.kernel.device_filter import ALWAYS, compile_rules

Rule = dict[str, Any]
BLOCK, CHARACTER = 1, 2
ACCESS = {"m": 1, "r": 2, "w": 4}
WORD = (1 << 32) - 1


def run(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """Interpret the program; registers are None until they are written, as the verifier has it."""
    assert len(program) % 8 == 0
    code = [struct.unpack_from("<BBhi", program, position) for position in range(0, len(program), 8)]
    context = struct.pack("<III", access << 16 | kind, major, minor)
    registers: list[Any] = [None] * 11
    registers[1] = "context"
    position = 0
    while True:
        opcode, pair, offset, immediate = code[position]
        destination, source = pair & 15, pair >> 4
        position += 1
        if opcode == 0x61:  # load a word
            assert registers[source] == "context"
            assert offset in (0, 4, 8)
            registers[destination] = struct.unpack_from("<I", context, offset)[0]
        elif opcode == 0xBC:  # move, 32 bits
            registers[destination] = registers[source] & WORD
        elif opcode == 0x54:  # and
            registers[destination] = registers[destination] & immediate & WORD
        elif opcode == 0x74:  # shift right
            registers[destination] = (registers[destination] & WORD) >> immediate
        elif opcode == 0xB7:  # move a constant
            registers[destination] = immediate & (1 << 64) - 1
        elif opcode == 0x55:  # jump unless equal to a constant
            assert offset >= 0
            if registers[destination] != immediate & (1 << 64) - 1:
                position += offset
        elif opcode == 0x5D:  # jump unless equal to a register
            assert offset >= 0
            assert None not in (registers[destination], registers[source])
            if registers[destination] != registers[source]:
                position += offset
        elif opcode == 0x95:  # exit
            assert registers[0] in (0, 1)
            return int(registers[0])
        else:
            raise AssertionError(f"unknown opcode {opcode:#x}")


def evaluate(rules: list[Rule], kind: int, access: int, major: int, minor: int) -> int:
    """The last rule that covers the request decides; none means no."""
    verdict = False
    for rule in rules:
        letters = sum(ACCESS[letter] for letter in set(rule.get("access") or "rwm"))
        wanted = rule.get("type") or "a"
        if wanted != "a" and {"b": BLOCK, "c": CHARACTER}[wanted] != kind:
            continue
        if access & ~letters:
            continue
        if any(rule.get(name) not in (None, -1, value) for name, value in (("major", major), ("minor", minor))):
            continue
        verdict = bool(rule.get("allow", False))
    return int(verdict)


_NUMBERS = st.sampled_from([0, 1, 3, 5, 136, 259, (1 << 20) - 1])
_RULES = st.lists(
    st.fixed_dictionaries(
        {"allow": st.booleans()},
        optional={
            "type": st.sampled_from(["a", "b", "c", "", None]),
            "access": st.sampled_from(["r", "w", "m", "rw", "wr", "rm", "rwm", "rrw", "", None]),
            "major": _NUMBERS | st.sampled_from([None, -1]),
            "minor": _NUMBERS | st.sampled_from([None, -1]),
        },
    ),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(_RULES, st.sampled_from([BLOCK, CHARACTER]), st.integers(1, 7), _NUMBERS, _NUMBERS)
@example([], CHARACTER, 2, 1, 3)
@example([{"allow": True}, {"allow": False, "access": "w"}], CHARACTER, 6, 1, 3)
@example([{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "major": 0}], BLOCK, 7, 0, 0)
def test_the_program_says_what_the_rules_say(rules: list[Rule], kind: int, access: int, major: int, minor: int) -> None:
    assert run(compile_rules(rules), kind, access, major, minor) == evaluate(rules, kind, access, major, minor)


@given(_RULES)
def test_no_instruction_is_out_of_reach(rules: list[Rule]) -> None:
    """The kernel's verifier refuses a program with instructions that no path reaches."""
    program = compile_rules(rules)
    code = [struct.unpack_from("<BBhi", program, position) for position in range(0, len(program), 8)]
    reached: set[int] = set()
    waiting = [0]
    while waiting:
        position = waiting.pop()
        if position in reached:
            continue
        reached.add(position)
        opcode, _, offset, _ = code[position]
        if opcode in (0x55, 0x5D):
            waiting.append(position + 1 + offset)
        if opcode != 0x95:
            waiting.append(position + 1)
    assert reached == set(range(len(code)))


@pytest.mark.parametrize(
    ("kind", "access", "major", "minor", "verdict"),
    [
        (CHARACTER, 6, 1, 3, 1),  # null
        (CHARACTER, 2, 1, 9, 1),  # urandom
        (CHARACTER, 6, 5, 0, 1),  # tty
        (CHARACTER, 6, 5, 2, 1),  # ptmx
        (CHARACTER, 6, 136, 7, 1),  # a pseudoterminal
        (CHARACTER, 1, 10, 229, 1),  # mknod of fuse
        (CHARACTER, 2, 10, 229, 0),  # opening it
        (CHARACTER, 2, 1, 1, 0),  # mem
        (CHARACTER, 4, 1, 11, 0),  # kmsg
        (BLOCK, 1, 8, 0, 1),  # mknod of a disk
        (BLOCK, 2, 8, 0, 0),  # reading it
        (BLOCK, 3, 8, 0, 0),
    ],
)
def test_the_default_container(kind: int, access: int, major: int, minor: int, verdict: int) -> None:
    program = compile_rules([{"allow": False, "access": "rwm"}, *ALWAYS])
    assert run(program, kind, access, major, minor) == verdict


@pytest.mark.parametrize(
    "rule",
    [
        {"allow": True, "type": "x"},
        {"allow": True, "type": 1},
        {"allow": True, "access": "rx"},
        {"allow": True, "access": 6},
        {"allow": True, "type": "c", "major": "1"},
        {"allow": True, "type": "c", "minor": 1.5},
        {"allow": True, "type": "c", "major": True},
        {"allow": True, "type": "c", "major": 1 << 31},
        {"allow": True, "type": "c", "major": -2},
        {"allow": "false"},
        {"allow": 1},
    ],
)
def test_what_is_no_rule_is_refused(rule: Rule) -> None:
    with pytest.raises(UsageError) as caught:
        compile_rules([rule])
    assert caught.value.path == "linux.resources.devices"


def test_the_kernel_takes_the_program() -> None:
    """With root the verifier has the last word."""
    import os

    if os.geteuid() != 0:
        pytest.skip("needs root")
    from pycontainer.kernel.device_filter import AttachDeviceFilter

    for rules in ([], [{"allow": True}], [{"allow": False, "access": "rwm"}, *ALWAYS]):
        operation = AttachDeviceFilter("/nonexistent", rules)
        # Loading comes first; what fails is the directory that is not there.
        with pytest.raises(FileNotFoundError):
            operation.execute()
