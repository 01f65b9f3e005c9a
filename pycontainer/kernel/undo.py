"""A stack of things to undo, as contextlib.ExitStack, whose import would cost more than a mount.

    with Undo() as undo:
        descriptor = os.open(…)
        undo.push(os.close, descriptor)
        …
        undo.forget()      # all went well: keep what was made

Unlike ExitStack's, a step that fails does not stop the others; an error of theirs never hides the first one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Undo:
    """Calls what was pushed, last first, when its `with` block ends in any way."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def push(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call `function(*arguments)` at the end."""
        self._steps.append((function, arguments))

    def forget(self) -> None:
        """Undo nothing of what was pushed so far."""
        self._steps.clear()

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        first: BaseException | None = None
        while self._steps:
            function, arguments = self._steps.pop()
            try:
                function(*arguments)
            except BaseException as failure:  # everything, because the other steps must run whatever this one met
                first = first or failure
        if first is not None and error is None:
            raise first
