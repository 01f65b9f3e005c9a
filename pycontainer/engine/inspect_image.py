"""One image in Docker's shape: ImageInspect of the Engine API."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.image.store import Image

Json = dict[str, "Any"]

DRIVER = "overlay"


def describe(image: Image) -> Json:
    """The image as `docker image inspect` shows it; sizes in bytes."""
    document = image.config
    history = document.get("history") or [{}]
    found: Json = {
        "Id": image.id,
        "RepoTags": image.names,
        "RepoDigests": [],
        "Parent": "",
        "Comment": history[-1].get("comment", ""),
        "Created": image.created,
        "DockerVersion": document.get("docker_version") or "",
        "Author": document.get("author") or "",
        "Config": _config(document.get("config") or {}),
        "Architecture": document.get("architecture") or "",
        "Os": document.get("os") or "linux",
        "Size": image.size,
        "GraphDriver": {"Data": _overlay(image), "Name": DRIVER},
        "RootFS": {"Type": "layers", "Layers": document["rootfs"]["diff_ids"]},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Descriptor": {"digest": image.digest},
    }
    variant = document.get("variant")
    return found | {"Variant": variant} if variant else found


def _config(stored: Json) -> Json:
    found: Json = {
        "Hostname": "",
        "Domainname": "",
        "User": stored.get("User") or "",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": stored.get("Env"),
        "Cmd": stored.get("Cmd"),
        "Image": "",
        "Volumes": stored.get("Volumes"),
        "WorkingDir": stored.get("WorkingDir") or "",
        "Entrypoint": stored.get("Entrypoint"),
        "OnBuild": stored.get("OnBuild"),
        "Labels": stored.get("Labels"),
    }
    # What docker leaves out where it is empty.
    optional = ("ExposedPorts", "Healthcheck", "StopSignal", "Shell")
    return found | {name: stored[name] for name in optional if stored.get(name)}


def _overlay(image: Image) -> Json:
    """As docker has it: the topmost layer is the upper directory of what the image was made with."""
    if not image.layers:
        return {}
    lower = {"LowerDir": ":".join(reversed(image.layers[:-1]))} if len(image.layers) > 1 else {}
    return {**lower, "UpperDir": image.layers[-1]}
