#!/usr/bin/env python3
"""Write what a machine has shown into docs: the transcript of a lab into oom.md, or a run's memory into oom.svg.

sudo pycontainer lab oom | docs/lab.py
sudo pycontainer why --json NAME | docs/lab.py --picture
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
from typing import Any

PAGE = pathlib.Path(__file__).resolve().parent / "oom.md"
PICTURE = PAGE.with_suffix(".svg")
BEGIN, END = "<!-- lab: begin -->", "<!-- lab: end -->"
MIB = 1 << 20

# Of the picture, in pixels: its size, and what is left for the labels.
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 28, 44
# Without a background; who looks at it in the dark has bright lines.
STYLE = """\
text { font: 12px sans-serif; fill: #24292f }
.axis, .tick { stroke: #8c959f; fill: none }
.tick { stroke-width: .4 }
.memory { stroke: #0969da; stroke-width: 2; fill: none }
.limit { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 6 4 }
.end { fill: #cf222e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.memory { stroke: #58a6ff }
.limit { stroke: #ff7b72 }
.end { fill: #ff7b72 }
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", action="store_true", help="read `why --json` and write oom.svg")
    if parser.parse_args().picture:
        (found,) = json.load(sys.stdin)
        PICTURE.write_text(draw(found))
        return
    before, _, rest = PAGE.read_text().partition(BEGIN)
    transcript = f"```console\n$ sudo pycontainer lab oom\n{sys.stdin.read().strip()}\n```"
    PAGE.write_text(f"{before}{BEGIN}\n{transcript}\n{END}{rest.partition(END)[2]}")


def draw(found: dict[str, Any]) -> str:
    """An SVG of the memory that a container had, as `why --json` tells it, against its limit."""
    evidence = found["Evidence"]
    samples, limit = evidence["samples"], evidence["limit"]
    if not samples or not limit:
        sys.exit("docs/lab.py: a container that ran for a while with a memory limit (-m) makes a picture")
    is_oom = found["Verdict"] == "oom"
    if is_oom:
        # What the kernel saw, because a sample comes before the kill or after it.
        samples = [*samples[:-1], [samples[-1][0], max(samples[-1][1], evidence.get("peak") or 0)]]
    duration = samples[-1][0]
    step = _step(duration)
    last = math.ceil(duration / step) * step
    top = limit * 1.1

    def place(seconds: float, size: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * seconds / last
        return round(across, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * size / top, 1)

    (left, bottom), (right, _) = place(0, 0), place(last, 0)
    lines = []
    for quarter in range(1, 4):
        height = place(0, limit * quarter / 4)[1]
        lines.append(f'<path class="tick" d="M{left} {height}H{right}"/>')
        lines.append(f'<text x="{left - 6}" y="{height + 4}" text-anchor="end">{limit * quarter / 4 / MIB:g}</text>')
    for number in range(round(last / step) + 1):
        across = place(number * step, 0)[0]
        lines.append(f'<path class="axis" d="M{across} {bottom}v4"/>')
        lines.append(f'<text x="{across}" y="{bottom + 17}" text-anchor="middle">{number * step:g}</text>')
    lines.append(f'<text x="{(left + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">seconds of the run</text>')
    lines.append(f'<text x="8" y="{TOP - 12}">memory.current, MiB</text>')
    height = place(0, limit)[1]
    lines.append(f'<path class="limit" d="M{left} {height}H{right}"/>')
    lines.append(f'<text x="{left - 6}" y="{height + 4}" text-anchor="end">{limit / MIB:g}</text>')
    lines.append(f'<text x="{left + 8}" y="{height - 6}">memory.max</text>')
    points = " ".join(f"{across},{up}" for across, up in (place(*sample) for sample in samples))
    lines.append(f'<path class="axis" d="M{left} {TOP}V{bottom}H{right}"/>')
    lines.append(f'<polyline class="memory" points="{points}"/>')
    if is_oom:
        across, up = place(*samples[-1])
        lines.append(f'<circle class="end" cx="{across}" cy="{up}" r="4"/>')
        lines.append(f'<text x="{across}" y="{up - 8}" text-anchor="end">killed</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">'
    title = f"<title>The memory of a container against its limit of {limit / MIB:g} MiB</title>"
    return "\n".join([head, title, f"<style>\n{STYLE}\n</style>", *lines, "</svg>", ""])


def _step(duration: float) -> float:
    """Seconds from one label to the next: 1, 2 or 5 times a power of ten, so that there are at most ten."""
    unit: float = 10 ** math.floor(math.log10(max(duration, 1) / 10))
    return next(unit * factor for factor in (1, 2, 5, 10) if duration <= 10 * unit * factor)


if __name__ == "__main__":
    main()
