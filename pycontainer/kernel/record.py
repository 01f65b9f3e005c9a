"""What a step asks of the kernel while it is explained: its system calls, each as strace(1) prints it.

Whoever makes a system call records it here, by the values that it hands over: `call` and `syscall` of syscalls.py, the
functions of files.py, netlink.py. While nothing is explained they only look whether something is.
"""

from __future__ import annotations

import errno

from pycontainer.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    Result = TypeVar("Result")

AT_FDCWD = -100
_MANY = 3  # lines that differ in a name only, from which on they are one

lines: list[str] | None = None  # those of the present step; None while nothing is explained
_counts: dict[str, int] = {}  # of those that `count` has put there
_tell: Callable[[list[str]], None] | None = None
_names: dict[int, str] = {}


def start(tell: Callable[[list[str]], None]) -> None:
    """Record from here to `stop`, for `tell`."""
    global lines, _tell
    lines, _tell = [], tell
    _counts.clear()


def stop() -> None:
    """Tell what was recorded. A second time, or in a process that has forgotten it, nothing."""
    global lines
    told, lines = lines, None
    if told is not None and _tell is not None:
        _tell(_folded([f"{line}  {_counts[line]} times" if _counts.get(line, 1) > 1 else line for line in told]))


def so_far() -> list[tuple[str, int]]:
    """What is recorded, each line with how often it is to be counted."""
    return [(line, _counts.get(line, 1)) for line in lines or []]


def forget() -> None:
    """In a new process: what was recorded is its parent's to tell."""
    global lines
    lines = None


def begin_anew() -> None:
    """In a new process that tells its parent what it does, which then counts it among its own: `lines`."""
    global lines
    if lines is not None:
        lines = []
        _counts.clear()


def name(descriptor: int, what: str) -> None:
    """Call a descriptor so from here on; what is not a path does not begin with a slash."""
    _names[descriptor] = what


def descriptor(number: int | None) -> str:
    """A descriptor as `strace -y` prints it: `5</dev>`."""
    if number is None or number == AT_FDCWD:
        return "AT_FDCWD"
    return f"{number}<{printable(_names[number])}>" if number in _names else str(number)


def add(line: str) -> None:
    """Record what no function here knows how to print."""
    if lines is not None:
        lines.append(line)


def count(line: str, times: int = 1) -> None:
    """Record one of any number of calls: equal ones are one line, wherever they were."""
    if lines is not None:
        if line not in _counts:
            lines.append(line)
        _counts[line] = _counts.get(line, 0) + times


def made(call: str, arguments: Sequence[str], result: int = 0, error: int = 0) -> None:
    """Record a call that has returned: `result` where it is of interest, or the number of an error."""
    suffix = f" = -1 {errno.errorcode.get(error, error)}" if error else f" = {result}" if result > 0 else ""
    add(f"{call}({', '.join(arguments)}){suffix}")


def make(
    call: str, arguments: Callable[[], Sequence[str]], function: Callable[..., Result], *values: object, **more: object
) -> Result:
    """Call `function`, of the module os say, and record it as the system call that it is. Raises OSError."""
    if lines is None:
        return function(*values, **more)
    try:
        result = function(*values, **more)
    except OSError as problem:
        made(call, arguments(), error=problem.errno or 0)
        raise
    made(call, arguments())
    return result


def quoted(text: str) -> str:
    """`text` as strace(1) prints a string; letters that are not ASCII stay readable."""
    return '"' + "".join(map(_quoted_character, text)) + '"'


def _quoted_character(character: str) -> str:
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    if character in named:
        return named[character]
    if character.isprintable():
        return character
    return f"\\{ord(character):o}" if character.isascii() else repr(character)[1:-1]


def _folded(made: list[str]) -> list[str]:
    """Equal lines that follow each other as one with their number; those that differ in the last name as one."""
    found: list[str] = []
    place = 0
    while place < len(made):
        line = made[place]
        same = _run(made, place, line)
        if same > 1:
            found.append(f"{line}  {same} times")
            place += same
            continue
        head, _, last = line.rpartition(", ")
        alike = _run(made, place, f"{head}, ") if last.endswith(")") and last[:-1].replace("_", "").isupper() else 0
        if alike >= _MANY:
            names = [each.rpartition(", ")[2][:-1] for each in made[place : place + alike]]
            found.append(f"{head}, X) for X in {', '.join(names)}")
            place += alike
            continue
        found.append(line)
        place += 1
    return found


def _run(made: list[str], place: int, beginning: str) -> int:
    """How many lines from `place` on begin so, and have nothing but a name after it."""
    count = 0
    for line in made[place:]:
        rest = line.removeprefix(beginning)
        if not line.startswith(beginning) or (rest and (", " in rest or not rest.endswith(")"))):
            break
        count += 1
    return count
