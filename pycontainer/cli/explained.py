"""The journal of a command that takes its steps in this process, and not in one that the launcher forks."""

from __future__ import annotations

from pycontainer.cli.main import for_each
from pycontainer.kernel.operation import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pycontainer.cli.explain import Explainer


class Explained:
    """A context, whose value is the journal. At its end all that --explain asks for is written."""

    def __init__(self, values: dict[str, Any]) -> None:
        """Raises UsageError."""
        self._explainer: Explainer | None = None
        style, path = values.get("explain"), values.get("explain_to", "")
        if style is not None or path:
            # Only now, because mostly nobody asks.
            from pycontainer.cli.explain import Explainer

            self._explainer = Explainer(style or "steps", path, interactive=False, at_rest=True)

    def __enter__(self) -> Journal:
        explainer = self._explainer
        if explainer is None:
            return Journal()
        return Journal(explainer.passed[0], bold=explainer.request["bold"], records=explainer.request["records"])

    def __exit__(self, *_: object) -> None:
        if self._explainer is not None:
            self._explainer.__exit__()

    def for_each(self, names: Iterable[str], action: Callable[[str, Journal], None]) -> int:
        """As for_each in main.py; what is wrong is said after the step in which it was."""
        with self as journal:

            def told(name: str) -> None:
                try:
                    action(name, journal)
                except BaseException:
                    journal.flush()
                    raise

            return for_each(names, told)
