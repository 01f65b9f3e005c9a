"""`volume create` and `volume rm`: a directory and a row in the database, which come and go together."""

from __future__ import annotations

from pycontainer.engine import volume_data, volumes
from pycontainer.kernel.operation import Operation, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from pycontainer.engine.settings import Settings
    from pycontainer.kernel.operation import Journal


def create(
    settings: Settings, connection: sqlite3.Connection, name: str, labels: dict[str, str], journal: Journal
) -> str:
    """Make a volume, without a name an anonymous one; its name. One that exists stays as it is. Raises OSError."""
    made: str = journal.perform(MakeVolume(settings, connection, *volumes.named(name, labels)))
    return made


def remove(settings: Settings, connection: sqlite3.Connection, name: str, journal: Journal) -> None:
    """Remove a volume with its files. Raises NotFound, Conflict where a container has it, OSError."""
    journal.perform(DestroyVolume(journal.perform(ForgetVolume(settings, connection, name))))


class MakeVolume(Operation):
    """Make a volume's directory, in the transaction that records it; its name."""

    group = "files"
    step = "make volume"
    reason = "a directory of the host's that containers mount; it stays when they go"
    bare = True

    def __init__(self, settings: Settings, connection: sqlite3.Connection, name: str, labels: dict[str, str]) -> None:
        self.path = volume_data.data(settings.root, name)
        self._settings = settings
        self._connection = connection
        self._name = name
        self._labels = labels

    def shell(self) -> str:
        return f"mkdir --parents {word(self.path)}"

    def execute(self) -> str:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            return volumes.ensure(self._settings, self._connection, self._name, self._labels)


class ForgetVolume(Operation):
    """Take away a volume's row, and in the same transaction its directory's name; what DestroyVolume gets."""

    group = "files"
    step = "forget volume"
    reason = "renamed in the transaction that takes its row away: nobody can mount it any more"
    bare = True

    def __init__(self, settings: Settings, connection: sqlite3.Connection, name: str) -> None:
        self.path = volume_data.directory(settings.root, name)
        self._settings = settings
        self._connection = connection
        self._name = name

    def shell(self) -> str:
        return f"mv {word(self.path)} {word(self.path.removesuffix(self._name))}.….{word(self._name)}"

    def execute(self) -> str:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            return volumes.forget_unused(self._settings, self._connection, self._name)


class DestroyVolume(Operation):
    """Remove the files of a volume that is forgotten."""

    group = "files"
    step = "remove the volume's files"
    reason = "after the transaction, because it may take long, and others wait for that one"
    bare = True

    def __init__(self, path: str) -> None:
        self.path = path

    def shell(self) -> str:
        return f"rm --recursive {word(self.path)}" if self.path else ""

    def execute(self) -> None:
        volume_data.destroy(self.path)
