#!/usr/bin/env python3
"""Write the README's explanation of a run, from what `--explain` prints.

    sudo pycontainer run --rm --explain busybox true 2>&1 | docs/explain.py

tests/root/test_lecture.py says when the README shows something else than is printed.
"""

from __future__ import annotations

import pathlib
import re
import sys

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
COMMAND = "pycontainer run --rm --explain busybox true"
BEGIN, END = "<!-- explain: begin -->", "<!-- explain: end -->"

ID, PID, PARENT = "3e9c0d51a7b2", "4242", "4240"


def page(explanation: str) -> str:
    """The README's part between the markers: what is another one each time is always the same."""
    found = re.search(r"^ID=([0-9a-f]{64})$", explanation, re.MULTILINE)
    if found is None:
        raise ValueError("the container's id is not in it")
    text = explanation.strip().replace(found[1], f"{ID}…").replace(found[1][:12], ID)
    text = re.sub(r"\bPID=\d+", f"PID={PID}", text)
    text = re.sub(r"/proc/\d+/fd/\d+", f"/proc/{PARENT}/fd/16", text)
    return f"```console\n$ sudo {COMMAND}\n{text}\n```"


def shape(text: str) -> str:
    """What has to be the same on every machine: not how lines are folded, where things are, and what a kernel has."""
    text = re.sub(r" \\\n +│ +", " ", text)
    text = re.sub(r"/sys/fs/cgroup/\S*/\$ID", "CGROUP", text)
    text = re.sub(r"\b\d+ (paths|read-only|more)", r"N \1", text)
    text = re.sub(r"\bN more are not\s+│ on this host\.", "N more are not on this host.", text)
    text = re.sub(r"\$ mount (-t tmpfs -o ro|--bind /dev/null).*", "$ mount MASK", text)
    text = re.sub(r"mtu \d+", "mtu N", text)
    return re.sub(r"10\.99\.\d+\.\d+|02:42:[0-9a-f:]{11}", "ADDRESS", text)


def shown() -> str:
    """What stands between the markers of the README."""
    return README.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{page(sys.stdin.read())}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
