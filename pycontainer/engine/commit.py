"""`commit`: what a container has changed becomes one more layer over those of its image."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pycontainer.engine import containers, inspect_config, monitors
from pycontainer.engine.export import compared
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, HostError, ImageError, StepFailed
from pycontainer.image import kept, manifest, reference
from pycontainer.image.changes import pack
from pycontainer.image.importer import parse_changes
from pycontainer.image.ingest import Blob, receive
from pycontainer.image.load import make_manifest
from pycontainer.image.pack import Packer
from pycontainer.image.store import Image, Store
from pycontainer.image.stream import Hash, write_all
from pycontainer.image.workspace import NewImage, Workspace
from pycontainer.kernel import descriptors
from pycontainer.kernel.operation import Journal, Operation, word

if TYPE_CHECKING:
    import _socket
    import sqlite3

    from pycontainer.engine.containers import Container

_UNLIMITED = 1 << 62  # bytes: what is on this disk already fits there
# What of a container's options, or else of its image's, goes with an image: config.md of the image-spec, and Docker's.
_SETTINGS = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Healthcheck",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "StopTimeout",
    "Shell",
    "ArgsEscaped",
)


def commit(
    settings: Settings,
    connection: sqlite3.Connection,
    name: str,
    image_name: str,
    *,
    author: str,
    message: str,
    changes: Sequence[str],
    pause: bool,
    journal: Journal,
) -> str:
    """Add an image, called `image_name` unless that is empty; its id.

    changes  Dockerfile instructions
    pause    freeze the container while its files are read

    Raises NotFound, UsageError, ImageError, StepFailed, OSError; then nothing has changed.
    """
    names = [_complete(image_name)] if image_name else []
    container = containers.find(connection, name)
    store = Store(settings.root, connection)
    image = store.get(container.image_id)
    config = _settings(container, image, changes)
    with Workspace(store, _UNLIMITED, _UNLIMITED, journal) as work:
        packing = PackChanges(settings, connection, container, f"{work.directory}/layer", pause=pause)
        layer, is_empty = journal.perform(packing)
        # An image without a layer of its own, as docker has it, and not with an empty one.
        new = [] if is_empty else [layer]
        document = _document(image, config, author, message, container, new)
        text = json.dumps(document, separators=(",", ":")).encode()
        parsed = manifest.parse_config(text, "config")
        config_blob = work.add_blob(text)
        layers = [*_layers(store, image), *new]
        work.unpack_image(parsed, layers, None)
        blobs = [work.add_blob(make_manifest(config_blob, layers)), config_blob, *layers]
        work.commit([NewImage(parsed, blobs, names)])
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        shown = reference.parse(image_name).familiar if image_name else ""
        containers.note(connection, container.id, "commit", comment=message, imageID=parsed.id, imageRef=shown)
    return parsed.id


class PackChanges(Operation):
    """Make a layer's tar of what a container has changed, and freeze the container meanwhile."""

    group = "image"
    step = "pack what has changed"
    reason = "frozen meanwhile, so that the files are those of one moment; hashed while they are written"
    bare = True

    def __init__(
        self, settings: Settings, connection: sqlite3.Connection, container: Container, layer: str, *, pause: bool
    ) -> None:
        self.path = f"{settings.container_directory(container.id)}/upper"
        self._settings = settings
        self._connection = connection
        self._container = container
        self._layer = layer
        self._pause = pause

    def shell(self) -> str:
        return f"tar --create --xattrs --file {word(self._layer)} --directory {word(self.path)} ."

    def execute(self) -> tuple[Blob, bool]:
        with paused(self._settings, self._container) if self._pause else contextlib.nullcontext():
            return _make_layer(self._settings, self._connection, self._container, self._layer)


def _complete(name: str) -> str:
    return str(reference.parse_name(name))


def _settings(container: Container, image: Image, changes: Sequence[str]) -> dict[str, Any]:
    """`config` of the new image: the container's, over what else the image says, changed by the instructions."""
    old: dict[str, Any] = image.config.get("config") or {}
    try:
        own = inspect_config.config(container.config, old, container.id)
    except Conflict:
        # An older pycontainer has made it, and not recorded what was asked for.
        own = {}
    base = {key: own.get(key, old.get(key)) for key in _SETTINGS}
    found = parse_changes(changes, {key: value for key, value in base.items() if value})
    given = {change.split(maxsplit=1)[0].upper() for change in changes if change.strip()}
    if "ENTRYPOINT" in given and "CMD" not in given:
        # As in a Dockerfile: the arguments were those of another program.
        found.pop("Cmd", None)
    return found


def _make_layer(
    settings: Settings, connection: sqlite3.Connection, container: Container, path: str
) -> tuple[Blob, bool]:
    """What has changed as a layer's tar, uncompressed, at `path`; whether that is nothing. Raises ImageError, …"""
    found = False

    def write(descriptor: int, hasher: Hash) -> None:
        nonlocal found

        def put(data: bytes | memoryview) -> None:
            hasher.update(data)
            write_all(descriptor, data)

        try:
            with compared(settings, connection, container, copies=True) as comparison:
                found = pack(Packer(put), comparison.changes())
        except OSError as error:
            raise StepFailed("commit", error.filename or "", error.errno or 0) from error

    return receive("layer", path, write), not found


def _document(
    image: Image, settings: dict[str, Any], author: str, message: str, container: Container, layers: list[Blob]
) -> dict[str, Any]:
    """The OCI image config: config.md of the image-spec."""
    old = image.config
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    history: dict[str, Any] = {"created": created, "created_by": " ".join(container.command)}
    history |= {key: value for key, value in (("author", author), ("comment", message)) if value}
    if not layers:
        history["empty_layer"] = True
    kept = ("architecture", "variant", "os", "os.version", "os.features")
    document: dict[str, Any] = {key: old[key] for key in kept if old.get(key)}
    author = author or old.get("author") or ""
    return {
        **document,
        "created": created,
        **({"author": author} if author else {}),
        "config": settings,
        "rootfs": {
            "type": "layers",
            "diff_ids": [*old["rootfs"]["diff_ids"], *(f"sha256:{layer.hex}" for layer in layers)],
        },
        "history": [*(old.get("history") or []), history],
    }


def _layers(store: Store, image: Image) -> list[Blob]:
    """The blobs of an image's layers. Raises ImageError."""
    path = f"{store.blobs}/{image.digest.removeprefix('sha256:')}"
    try:
        with open(path, "rb") as file:
            stored = manifest.parse_manifest(file.read(), "manifest")
    except OSError as error:
        raise StepFailed("read image", path, error.errno or 0) from error
    if len(stored.layers) != len(image.layers):
        raise ImageError("read image", path, "its manifest is not that of its config")
    digits = [layer.digest.removeprefix("sha256:") for layer in stored.layers]
    for layer, hex_digits in zip(stored.layers, digits, strict=True):
        if not os.path.exists(f"{store.blobs}/{hex_digits}"):
            # The new image would have all layers but these.
            raise ImageError("commit", layer.digest, kept.why_missing(store, image.id), kept.AGAIN)
    return [
        Blob(f"{store.blobs}/{hex_digits}", hex_digits, layer.size)
        for hex_digits, layer in zip(digits, stored.layers, strict=True)
    ]


@contextlib.contextmanager
def paused(settings: Settings, container: Container) -> Iterator[None]:
    """Freeze a container that runs. One that was frozen before stays so. Raises HostError, OSError.

    By a child, which lets it go on when this process has ended in any way, by SIGKILL too.
    """
    ours, theirs = descriptors.pair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            # Out of reach of what the terminal sends to the command.
            os.setsid()
            _hold(settings, container, theirs)
        finally:
            os._exit(0)
    theirs.close()
    try:
        if not ours.recv(1):
            raise HostError("commit", container.name, "it could not be paused", "--pause=false does without")
        yield
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _hold(settings: Settings, container: Container, command: _socket.socket) -> None:
    """The child: freeze the container for as long as `command` is connected."""
    frozen = _ask(settings, container, "pause")
    with contextlib.suppress(OSError):
        command.send(b"\0")
        command.recv(1)
    if frozen:
        _ask(settings, container, "unpause")


def _ask(settings: Settings, container: Container, request: str) -> bool:
    """Whether it had an effect: a container that does not run, or is paused already, is left as it is."""
    channel = monitors.connect(settings, container.id)
    if channel is None:
        return False
    try:
        return monitors.ask(channel, {"do": request}) is not None
    except Conflict:
        return False
    finally:
        channel.close()
