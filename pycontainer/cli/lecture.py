"""`--explain`: what was done, told in about a dozen steps. Their table of contents is in chapters.py.

Each step is a group of operations as they follow each other, and takes its words from what they say of themselves; what
is said here is what they have in common.
"""

from __future__ import annotations

import os
import shlex
import textwrap
from collections import Counter

from pycontainer.cli.chapters import AT_REST, CONTENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pycontainer.cli.chapters import Chapter

    Record = dict[str, Any]

_MARGIN = 15  # columns: number, side and line


LEGEND = "$ is how a shell does it, ? a command to look at it while the container runs\n"
LEGEND_AT_REST = "$ is how a shell does it, ? a command to look at it afterwards\n"
_LAST_OF_A_PROCESS = "Execute"


class Lecture:
    """Writes the steps as they are done, folded to `width` columns.

    write    takes text
    pause    is called after each step
    at_rest  of a command that starts nothing
    """

    def __init__(
        self, write: Callable[[str], None], pause: Callable[[], None], *, width: int, bold: bool, at_rest: bool = False
    ) -> None:
        self._write = write
        self._pause = pause
        self._width = width
        self._bold = bold
        self._legend = LEGEND_AT_REST if at_rest else LEGEND
        self._contents = AT_REST if at_rest else CONTENTS
        self._number = 0
        self._at = -1  # index of the chapter
        self._records: list[Record] = []
        self._names: dict[str, str] = {}
        self._places: dict[str, str] = {}

    def take(self, record: Record) -> None:
        """What Journal says of an operation, with `pid`, the process's."""
        if "define" in record:
            self._names[record["define"]] = record["value"]
            # From the edge, because with a margin it is too long for a line.
            self._write(f"{record['define']}={record['value']}\n")
            return
        self._note_pid(record)
        place = self._chapter_of(record["operation"])
        if not self._number and not self._records:
            self._write(self._legend)
        if place != self._at:
            self.flush()
            self._at = place
        self._records.append(record)
        if record["operation"] == _LAST_OF_A_PROCESS:
            self.flush()

    def flush(self) -> None:
        """Write the step that is being collected, if there is one."""
        if not self._records:
            return
        records, self._records = self._records, []
        self._number += 1
        side = f"{self._number:2} {records[0]['side']:>9}"
        lines = _lines(self._contents[self._at], records, self._places, self._names, self._width - _MARGIN)
        for number, line in enumerate(lines):
            text = f"\033[1m{line}\033[0m" if self._bold and number == 0 else line
            self._write(f"{side if number == 0 else '':{_MARGIN - 3}} │ {text}\n")
        self._pause()

    def _note_pid(self, record: Record) -> None:
        """Keep the program's pid. Of `exec` a first process enters the container and another one is the program."""
        if record["operation"] == "CloneJoiner":
            self._places["role"] = "one more beside PID 1"
        elif record["side"] == "container" and ("role" not in self._places or record["operation"] == "Execute"):
            self._places["pid"] = str(record["pid"])

    def _chapter_of(self, operation: str) -> int:
        """The first from the present one on that has it: an operation may belong to several."""
        order = [*range(max(self._at, 0), len(self._contents)), *range(self._at)]
        return next((place for place in order if operation in self._contents[place].operations), max(self._at, 0))


def _lines(
    chapter: Chapter, records: list[Record], places: dict[str, str], names: dict[str, str], width: int
) -> Iterator[str]:
    """Title, reasons, a shell command, and one to look at it."""
    absent = [record for record in records if record["absent"]]
    there = [record for record in records if record not in absent]
    counts = Counter(record["operation"] for record in there)
    _note_places(there, places)
    fields = _Fields(counts, places)
    yield from textwrap.wrap(chapter.title.format_map(fields), width)
    why = [text for name, text in chapter.why if not name or counts[name]]
    if absent:
        why.append(f"{len(absent)} more are not on this host.")
    yield from textwrap.wrap(" ".join(why).format_map(fields), width)
    for record in there:
        if record["operation"] == "WriteFile" and record["group"] == "cgroup":
            yield from textwrap.wrap(f"{record['step']}: {record['reason']}", width, subsequent_indent="  ")
    shell = next((each for name in chapter.shown if (each := _shell(there, name))), "")
    check = next((text for name, text in chapter.check if not name or counts[name]), "").format_map(fields)
    if "$PID" in check and "role" in places and "pid" not in places:
        check = ""  # whose pid it will be is not known yet
    if "$PID" in check and "pid" in places and "PID" not in names:
        names["PID"] = ""
        check = f"PID={places['pid']}; {check}"
    for sign, command in (("$", shell), ("?", check)):
        for name, value in names.items():
            command = command.replace(value, f"${name}") if value else command
        yield from _command(sign, command, width)


def _shell(records: list[Record], name: str) -> str:
    """The last line of the first of these operations that has one."""
    lines = next((each["shell"] for each in records if each["operation"] == name and each["shell"]), [""])
    line: str = lines[-1]
    return f"{line[:-1]}sh" if line.endswith(" …") else line


def _command(sign: str, line: str, width: int) -> Iterator[str]:
    """One shell command, folded with backslashes."""
    if not line:
        return
    # An option -o stays with its value.
    kept = line.replace(" -o ", " -o\0")
    first, *more = textwrap.wrap(kept, width - 6, break_long_words=False, break_on_hyphens=False)
    pieces = [piece.replace("\0", " ") for piece in (f"{sign} {first}", *(f"    {each}" for each in more))]
    yield from (f"{piece} \\" for piece in pieces[:-1])
    yield pieces[-1]


def _note_places(records: list[Record], places: dict[str, str]) -> None:
    """Where things are that a later check names."""
    for record in records:
        if record["operation"] == "MakeCgroup":
            places["cgroup"] = shlex.quote(record["path"])
        elif record["operation"] == "FindLink" and "bridge" not in places:
            places["bridge"] = shlex.quote(record["path"])
        elif record["operation"] in ("ApplyRules", "FindTable"):
            places["table"] = shlex.quote(record["path"])
        elif record["operation"] == "StartNameServer":
            places["gateway"], _, places["member"] = record["path"].partition(" for ")
        elif record["operation"] == "OpenNamespace":
            places.setdefault("pid", record["path"].split("/")[2])
        elif record["operation"] == "ExchangeServer":
            places["resolv"] = shlex.quote(record["path"])
        elif record["operation"] == "UnpackLayers":
            places["layers"] = shlex.quote(record["path"])
            places["unpacked"] = record["step"].split()[1]
        elif record["operation"] == "FetchBlobs":
            places["blobs"] = shlex.quote(record["path"])
            places["amount"] = record["step"].removeprefix("fetch ")
        elif record["operation"] in ("ReadArchive", "CopyTarball"):
            places["list"] = _list(record["path"])
        elif record["operation"] == "PackChanges":
            places["upper"] = shlex.quote(record["path"])
        elif record["operation"] == "AskToEnd":
            places["signal"] = record["path"]
        elif record["operation"] == "AwaitEnd":
            places["patience"] = record["path"]
        elif record["operation"] == "StoreImages":
            places["store"] = shlex.quote(record["path"])
        elif record["operation"] == "MakeVolume":
            places["volume"] = shlex.quote(record["path"])
        elif record["operation"] in ("ForgetVolume", "RemoveContainerFiles"):
            kind = "volumes" if record["operation"] == "ForgetVolume" else "containers"
            places[kind] = shlex.quote(record["path"].rpartition("/")[0])
        elif record["operation"] == "SetCapabilities":
            places["capabilities"] = record["path"].partition(" ")[0]


def _list(path: str) -> str:
    """A command that lists what an archive holds, or an OCI layout directory; "" for standard input."""
    if path == "-":
        return ""
    return f"ls {shlex.quote(path)}/blobs/sha256" if os.path.isdir(path) else f"tar -tf {shlex.quote(path)}"


class _Fields(dict[str, str]):
    """What stands in the texts' braces."""

    def __init__(self, counts: Counter[str], places: dict[str, str]) -> None:
        super().__init__(places)
        self._counts = counts

    def __missing__(self, name: str) -> str:
        if name == "role":
            return "PID 1, whose end ends all"
        if name == "devices":
            return str(self._counts["BindDevice"] + self._counts["MakeDevice"])
        return str(self._counts[name])
