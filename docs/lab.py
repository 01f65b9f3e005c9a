#!/usr/bin/env python3
"""Write the transcript of a lab into docs/oom.md, from what `lab oom` prints.

sudo pycontainer lab oom | docs/lab.py
"""

from __future__ import annotations

import pathlib
import sys

PAGE = pathlib.Path(__file__).resolve().parent / "oom.md"
BEGIN, END = "<!-- lab: begin -->", "<!-- lab: end -->"


def main() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    transcript = f"```console\n$ sudo pycontainer lab oom\n{sys.stdin.read().strip()}\n```"
    PAGE.write_text(f"{before}{BEGIN}\n{transcript}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
