"""The process that looks after one container: makes it, carries its input and output, waits for its end, cleans up.

It takes a bundle and descriptors and nothing else: it knows no image, no network and no database.
"""

from __future__ import annotations

import _socket
import os

from pycontainer.kernel import descriptors
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.undo import Undo
from pycontainer.runtime import launch
from pycontainer.runtime.relay import Relay
from pycontainer.runtime.spec import Spec


class Monitor:
    """One container in the foreground, from create to delete.

    interactive  whether descriptor 0 of the caller is the program's input; /dev/null is, otherwise
    """

    def __init__(self, spec: Spec, container_id: str, root: str, journal: Journal, *, interactive: bool) -> None:
        self._spec = spec
        self._id = container_id
        self._root = root
        self._journal = journal
        self._interactive = interactive
        self._pipes: list[tuple[int, int]] = []
        self._console: _socket.socket | None = None
        self.container: launch.Container | None = None

    def create(self) -> launch.Container:
        """Make the container with its input and output; it waits for `start`. Raises PycontainerError, OSError."""
        with Undo() as theirs:
            stdio = (0, 1, 2)
            console = None
            if self._spec.process.terminal:
                self._console, console = descriptors.pair()
                theirs.push(console.close)
            else:
                stdio = self._make_pipes(theirs)
            self.container = launch.create(
                self._spec, self._id, self._root, self._journal, stdio=stdio, console=console, tethered=True
            )
            return self.container

    def _make_pipes(self, theirs: Undo) -> tuple[int, int, int]:
        """The program's ends of its pipes; ours are kept. Each belongs to its user: /dev/stdout can be opened."""
        ends = []
        for number in (0, 1, 2):
            if number == 0 and not self._interactive:
                end = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            else:
                reader, writer = os.pipe2(os.O_CLOEXEC)
                end, ours = (reader, writer) if number == 0 else (writer, reader)
                self._pipes.append((number, ours))
                os.fchown(end, self._host_id(self._spec.process.uid), -1)
            theirs.push(os.close, end)
            ends.append(end)
        return ends[0], ends[1], ends[2]

    def _host_id(self, uid: int) -> int:
        for extent in self._spec.uid_mappings:
            if extent.inside <= uid < extent.inside + extent.size:
                return extent.outside + uid - extent.inside
        return uid if not self._spec.uid_mappings else -1

    def run(self) -> int:
        """Start the program and serve it to its end; its exit status (128 + n for signal n). Raises what kept it."""
        assert self.container is not None
        relay = Relay(self.container.pidfd)
        try:
            while self._pipes:
                number, ours = self._pipes.pop()
                if number == 0:
                    relay.add_input(0, ours)
                else:
                    relay.add_output(ours, number)
            if self._console is not None:
                relay.adopt_terminal(self._console, interactive=self._interactive)
            launch.start(self.container.state)
            return relay.run()
        finally:
            relay.close()

    def delete(self) -> None:
        """Return everything that the container held, descriptors too. Raises OSError."""
        with Undo() as undo:
            for _, ours in self._pipes:
                undo.push(os.close, ours)
            if self._console is not None:
                undo.push(self._console.close)
            if self.container is not None:
                undo.push(launch.reap, self.container)
                undo.push(launch.delete, self.container.state, force=True)
        self._pipes, self._console, self.container = [], None, None
