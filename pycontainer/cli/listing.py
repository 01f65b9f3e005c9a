"""How every command that lists things prints them: as a table, as JSON, or by a template.

A row is a dict of docker's placeholders: {"ID": "…", "Names": "…"}. A value may also be a function of strings, which
templates call with arguments: {{.Label "x"}}.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pycontainer.cli.template import Template

    Row = dict[str, str | Callable[[str], str]]

_TABLE = "table"
_JSON = ("json", "{{json .}}")
# What may be shortened where the terminal is too narrow: what nobody copies from a list.
_MAY_SHRINK = ("Command", "Image", "Ports", "Labels", "Mounts")


class Listing:
    """What --format, --quiet and --no-trunc ask for.

    columns  placeholder -> header of a table's column: all that there are
    default  the placeholders of the table that is printed without --format
    quiet    the placeholder that --quiet prints
    """

    def __init__(self, values: dict[str, Any], columns: dict[str, str], default: list[str], quiet: str = "ID") -> None:
        text: str = values.get("format") or _TABLE
        self.no_trunc = bool(values.get("no_trunc"))
        self._columns = columns
        self._default = default
        self._json = text in _JSON
        self._table = text == _TABLE or text.startswith(f"{_TABLE} ")
        self._quiet = quiet if values.get("quiet") and self._table else ""
        text = text.removeprefix(_TABLE).strip() if self._table else text
        self._template: Template | None = None
        if text and not self._json and not self._quiet:
            from pycontainer.cli.template import Template

            self._template = Template(text, escapes=True)

    def needs(self, placeholder: str) -> bool:
        """Whether it will be printed, for what is costly to find out: where not, the row may have "" for it."""
        if self._quiet:
            return placeholder == self._quiet
        if self._template is not None:
            return self._template.uses(placeholder)
        return self._json or placeholder in self._default

    def names(self, placeholder: str) -> bool:
        """Whether a column of the table or the template has that name."""
        return self._template.names(placeholder) if self._template is not None else placeholder in self._default

    def print(self, rows: Iterable[Row]) -> None:
        """Write them to standard output. Raises UsageError."""
        if self._quiet:
            sys.stdout.write("".join(f"{row[self._quiet]}\n" for row in rows))
        elif self._json:
            from pycontainer import json_text

            for row in rows:
                texts = sorted((name, text) for name, text in row.items() if isinstance(text, str))
                sys.stdout.write(f"{json_text.dumps(dict(texts))}\n")
        elif self._template is None:
            self._print_default(rows)
        elif self._table:
            self._print_table(self._template, rows)
        else:
            for row in rows:
                sys.stdout.write(f"{self._template.render(_escaped(row))}\n")

    def _print_default(self, rows: Iterable[Row]) -> None:
        from pycontainer.cli.table import print_table

        shrink = [] if self.no_trunc else [i for i, name in enumerate(self._default) if name in _MAY_SHRINK]
        header = [self._columns[name] for name in self._default]
        print_table([header, *([str(row[name]) for name in self._default] for row in rows)], shrink)

    def _print_table(self, template: Template, rows: Iterable[Row]) -> None:
        from pycontainer.cli.table import print_table

        header: Row = {**self._columns, "Label": _label_header}
        lines = [template.render(header), *(template.render(_escaped(row)) for row in rows)]
        print_table([line.split("\t") for text in lines for line in text.split("\n")])


def _escaped(row: Row) -> Row:
    """Without control characters, which an image or a container may have put into it."""
    from pycontainer.errors import printable

    return {name: printable(value) if isinstance(value, str) else value for name, value in sorted(row.items())}


def _label_header(name: str) -> str:
    """Docker's header of a column {{.Label "com.example.some-name"}}: `some name`."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")
