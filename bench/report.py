"""docs/benchmarks.md: each benchmark owns the part between its two markers."""

from __future__ import annotations

import datetime
import os
import pathlib
import platform

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/benchmarks.md"
README = ROOT / "README.md"
INTRODUCTION = """# Benchmarks

Written by the programs in `bench/` (see [bench/README.md](../bench/README.md)). Read the ratios: all numbers of a table
come from one run on one machine, and another machine has others.
"""


def table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table whose columns also line up as plain text; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def machine() -> str:
    """One line about where this ran."""
    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    load = os.getloadavg()[0]
    return (
        f"{datetime.date.today()}, Linux {platform.release()}, {os.cpu_count()} CPUs ({model or platform.machine()}), "
        f"load {load:.1f} at the end"
    )


def write(name: str, title: str, text: str) -> None:
    """Put `text` between the markers of `name`; at the end of the page, under `title`, if they are not there yet."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = PAGE.read_text() if PAGE.exists() else INTRODUCTION
    if begin not in page:
        page = f"{page.rstrip()}\n\n## {title}\n\n{begin}\n{end}\n"
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")
    # The README shows the table alone, if it has the markers.
    before, found, rest = README.read_text().partition(begin)
    if found:
        rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
        README.write_text(f"{before}{begin}\n{rows}\n{end}{rest.partition(end)[2]}")
