#!/usr/bin/env python3
"""Write the README's excerpt of an explanation, from what `--explain` prints.

    sudo pycontainer run --rm --explain busybox true 2>&1 | docs/explain.py

tests/root/test_readme.py says when the README shows something else than is printed.
"""

from __future__ import annotations

import pathlib
import sys

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
COMMAND = "pycontainer run --rm --explain busybox true"
BEGIN, END = "<!-- explain: begin -->", "<!-- explain: end -->"

# How the first system call of each step that is shown begins, in the order in which they are made.
SHOWN = ("clone3(", 'mount("proc"')


def excerpt(explanation: str) -> str:
    """The README's part between the markers. Raises ValueError if a step that is shown is not in `explanation`."""
    lines = ["```console", f"$ sudo {COMMAND}"]
    for start in SHOWN:
        group, step = _step(explanation.splitlines(), start)
        lines += ["…", group, *step]
    return "\n".join([*lines, "…", "```"])


def _step(explanation: list[str], start: str) -> tuple[str, list[str]]:
    """The group's name and the lines from the call that begins with `start` to the end of its step."""
    group = ""
    lines = iter(explanation)
    for line in lines:
        if line and line[0].isalpha():
            group = line
        elif line.startswith(f"  {start}"):
            step = [line]
            break
    else:
        raise ValueError(f"no step begins with {start}")
    for line in lines:
        if not line.startswith("      "):
            break
        # A path below /sys is another one on another machine.
        step.append("        …" if "</sys/" in line else line)
    return group, step


def shown() -> str:
    """What stands between the markers of the README."""
    return README.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{excerpt(sys.stdin.read())}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
