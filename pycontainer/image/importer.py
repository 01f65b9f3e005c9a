"""`import`: a root file system's tarball becomes an image of one layer."""

from __future__ import annotations

import copy
import json
import os
import shlex
import time
from collections.abc import Sequence
from typing import Any

from pycontainer import json_text
from pycontainer.errors import ImageError, UsageError
from pycontainer.image import reference
from pycontainer.image.ingest import Blob, receive
from pycontainer.image.load import DEFAULT_MAX_LAYER_SIZE, make_manifest, reporter
from pycontainer.image.manifest import host_architecture, parse_archive_manifest, parse_config
from pycontainer.image.operations import CopyTarball
from pycontainer.image.store import Store
from pycontainer.image.stream import CHUNK, Hash, Readable, too_large, write_all
from pycontainer.image.unpack import Progress
from pycontainer.image.workspace import NewImage, Workspace
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.root_path import open_in_root

_SHELL = "/bin/sh"


def import_tarball(
    store: Store,
    source: Readable,
    name: str,
    *,
    changes: Sequence[str] = (),
    message: str = "",
    progress: Progress | None = None,
    max_layer_size: int = DEFAULT_MAX_LAYER_SIZE,
    total: int = 0,
    journal: Journal | None = None,
) -> str:
    """Add an image called `name`; its ID. `changes` are Dockerfile instructions, as for `docker import --change`.

    Without an instruction to the contrary the image's command is /bin/sh, if there is one. Docker sets none, so that an
    imported image cannot be run without a command.
    Raises UsageError, ImageError, StepFailed, HostError.
    """
    parsed = reference.parse_name(name)
    settings = parse_changes(changes)
    on_read = reporter(progress, "reading", total)
    journal = journal or Journal()

    def save(descriptor: int, hasher: Hash) -> None:
        done = 0
        while data := source.read(CHUNK):
            done += len(data)
            if done > max_layer_size:
                raise too_large("archive", max_layer_size, "in it")
            hasher.update(data)
            write_all(descriptor, data)
            if on_read is not None:
                on_read(done)

    with Workspace(store, max_layer_size, max_layer_size, journal) as work:
        path = f"{work.directory}/archive"
        file = getattr(source, "name", "-")
        copy = CopyTarball(file if isinstance(file, str) else "-", path, lambda: receive("archive", path, save))
        layer: Blob = journal.perform(copy)
        diff_id, directory = work.unpack_base(layer, progress)
        if _is_image_archive(directory):
            cause = "this is an archive of images, and not of a root file system"
            raise ImageError("import image", name, cause, "load it: `pycontainer load -i FILE`")
        if not settings.keys() & {"Cmd", "Entrypoint"} and _has_shell(directory):
            settings["Cmd"] = [_SHELL]
        text = _config(settings, diff_id, message)
        config_blob = work.add_blob(text)
        manifest_blob = work.add_blob(make_manifest(config_blob, [layer]))
        config = parse_config(text, "config")
        work.commit([NewImage(config, [manifest_blob, config_blob, layer], [str(parsed)])])
    return config.id


def _config(settings: dict[str, Any], diff_id: str, message: str) -> bytes:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    document = {
        "architecture": host_architecture(),
        "os": "linux",
        "created": created,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "comment": message or "imported by pycontainer"}],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _is_image_archive(directory: str) -> bool:
    """Whether what was unpacked is what `docker save` writes, or an OCI layout."""
    layout = [f"{directory}/oci-layout", f"{directory}/index.json"]
    if all(os.path.isfile(path) and not os.path.islink(path) for path in layout):
        return True
    try:
        # No link is followed, because it could lead out of the directory; and it could be a FIFO.
        descriptor = os.open(f"{directory}/manifest.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Some program's manifest.json is a file like others: only the images' is refused.
        return bool(parse_archive_manifest(os.read(descriptor, 1 << 20)))
    except (ImageError, OSError):
        return False
    finally:
        os.close(descriptor)


def _has_shell(directory: str) -> bool:
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_in_root(root, _SHELL, os.O_PATH))
        return True
    except OSError:
        return False
    finally:
        os.close(root)


def parse_changes(changes: Sequence[str], base: dict[str, Any] | None = None) -> dict[str, Any]:
    """The config that Dockerfile instructions make of `base`, which stays as it is. Raises UsageError."""
    settings: dict[str, Any] = copy.deepcopy(base or {})
    for change in changes:
        instruction, _, rest = change.strip().partition(" ")
        rest = rest.strip()
        if not rest:
            raise UsageError("--change", change, "an instruction needs an argument")
        match instruction.upper():
            case "CMD":
                settings["Cmd"] = _command(rest)
            case "ENTRYPOINT":
                settings["Entrypoint"] = _command(rest)
            case "ENV":
                pairs = _pairs(change, rest)
                kept = [entry for entry in settings.get("Env", []) if entry.partition("=")[0] not in pairs]
                settings["Env"] = kept + [f"{key}={value}" for key, value in pairs.items()]
            case "LABEL":
                settings.setdefault("Labels", {}).update(_pairs(change, rest))
            case "WORKDIR":
                settings["WorkingDir"] = os.path.normpath(os.path.join("/", settings.get("WorkingDir", ""), rest))
            case "USER":
                settings["User"] = rest
            case "STOPSIGNAL":
                settings["StopSignal"] = rest
            case "EXPOSE":
                ports = (port if "/" in port else f"{port}/tcp" for port in rest.split())
                settings.setdefault("ExposedPorts", {}).update((port.lower(), {}) for port in ports)
            case "VOLUME":
                paths = _json_list(rest) or rest.split()
                settings.setdefault("Volumes", {}).update((path, {}) for path in paths)
            case _:
                raise UsageError(
                    "--change",
                    change,
                    f"unknown instruction {instruction}",
                    "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR are known",
                )
    return settings


def _command(text: str) -> list[str]:
    """The exec form if it is a JSON list of strings, the shell form otherwise."""
    words = _json_list(text)
    return [_SHELL, "-c", text] if words is None else words


def _json_list(text: str) -> list[str] | None:
    try:
        value = json_text.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _pairs(change: str, text: str) -> dict[str, str]:
    """`KEY=VALUE …` with quotes, or the old form `KEY VALUE`."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError("--change", change, str(error).lower()) from error
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        if not value:
            raise UsageError("--change", change, "KEY=VALUE expected")
        return {key: value.strip()}
    if not all("=" in word[1:] for word in words):
        raise UsageError("--change", change, "KEY=VALUE expected")
    return dict(word.split("=", 1) for word in words)
