"""`system verify`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pycontainer.cli.load import progress_bar
from pycontainer.cli.main import notice
from pycontainer.cli.table import human_size
from pycontainer.engine.repair import open_engine
from pycontainer.errors import printable
from pycontainer.image.store import Store
from pycontainer.image.verify import Verifier

if TYPE_CHECKING:
    from pycontainer.engine.settings import Settings


def verify(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer system verify`: 0 when nothing is wrong. Raises PycontainerError, OSError."""
    store = Store(settings.root, open_engine(settings, notice))
    images = [store.resolve(operand) for operand in operands] if operands else store.images()
    images = list({image.id: image for image in images}.values())
    # Kept, because while there is a bar sys.stdout leads to it; the bar is drawn anew below a line.
    out = sys.stdout
    clear = "\r\x1b[2K" if out.isatty() and sys.stderr.isatty() else ""
    found = 0
    with progress_bar(values) as progress:
        verifier = Verifier(store, deep="deep" in values, progress=progress)
        for problem in verifier.verify(images):
            found += 1
            out.write(f"{clear}{printable(str(problem))}\n")
            out.flush()
    out.write(f"{_summary(verifier)}: {_number(found, 'problem') if found else 'nothing is wrong'}\n")
    return 1 if found else 0


def _summary(verifier: Verifier) -> str:
    blobs = f"{_number(len(verifier.blobs), 'blob')} ({human_size(verifier.bytes)})"
    text = f"{_number(verifier.images, 'image')}, {blobs}, {_number(len(verifier.layers), 'layer')}"
    if verifier.without_blobs:
        text += f", the layers' blobs of {_number(verifier.without_blobs, 'image')} given back"
    return text


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
