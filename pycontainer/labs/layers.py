"""An image's layers, and what overlayfs makes of them."""

from __future__ import annotations

import os

from pycontainer.engine.database import open_database
from pycontainer.errors import ImageNotFound
from pycontainer.image.layer import OPAQUE_XATTR
from pycontainer.image.store import Store
from pycontainer.labs._stage import IMAGE, Stage

SUMMARY = "An image's layers, and where a container's changes are."
CONTROLLERS = ()
_NAME, _OTHER, _IMAGE = "lab-layers", "lab-layers-other", "lab-layers-image"
# Without what does not fit in a line; the command line knows \t.
_TRACE = r"table {{.Layer}}\t{{.Does}}\t{{.At}}\t{{.Seen}}"
_COUNTS = r"table {{.Layer}}\t{{.CreatedBy}}\t{{.Adds}}\t{{.Changes}}\t{{.Removes}}"


def show(stage: Stage) -> None:
    layers = _image(stage)
    upper = _mount(stage)
    _copy_up(stage, layers, upper)
    _whiteout(stage, upper)
    _opaque(stage, upper)
    _separate(stage)
    _commit(stage)
    _end(stage, upper)


def _image(stage: Stage) -> list[str]:
    """The layers' directories, base first."""
    stage.part("An image is a pile of directories")
    connection = open_database(stage.settings.root)
    store = Store(stage.settings.root, connection)
    try:
        image = store.resolve(IMAGE)
    except ImageNotFound:
        # It is in the directory of images, and nobody has used it yet.
        stage.run("pull", IMAGE)
        image = store.resolve(IMAGE)
    finally:
        connection.close()
    stage.run("layers", "--format", _COUNTS, IMAGE)
    layers = [os.path.relpath(layer, stage.settings.root) for layer in image.layers]
    for layer in reversed(layers):
        stage.host("ls", "-C", layer)
    stage.say("Each is unpacked once, the base last in this list, and serves all containers that have it.")
    return layers


def _mount(stage: Stage) -> str:
    """The container's upper directory."""
    stage.part("A container is one more on top")
    stage.run("run", "-d", "--name", _NAME, "--network", "none", IMAGE, "sleep", "600")
    stage.run("exec", _NAME, "grep", " / / ", "/proc/self/mountinfo")
    stage.say(
        "That is its root. lowerdir are the image's layers, the topmost first, by the short names that they had when "
        "it was mounted; upperdir is the container's own, and workdir is overlayfs's."
    )
    directory = f"containers/{stage.find(_NAME).id}"
    stage.host("ls", "-ln", directory)
    stage.run("exec", _NAME, "cat", "/proc/self/uid_map")
    stage.say("upper belongs to the container's root, who is the id in the second column here.")
    return f"{directory}/upper"


def _copy_up(stage: Stage, layers: list[str], upper: str) -> None:
    stage.part("Copy-up: to write to a file is to copy it first")
    # Of an image that is made of several, it may be in any.
    below = next(layer for layer in reversed(layers) if os.path.exists(f"{stage.settings.root}/{layer}/etc/passwd"))
    stage.host("ls", "-ln", f"{upper}/etc")
    stage.run("exec", _NAME, "sh", "-c", "echo me:x:7:7::/: >> /etc/passwd")
    stage.host("ls", "-ln", f"{upper}/etc")
    stage.host("tail", "-n", "1", f"{upper}/etc/passwd")
    stage.host("tail", "-n", "1", f"{below}/etc/passwd")
    stage.run("layers", "--format", _TRACE, _NAME, "/etc/passwd")
    stage.say("The whole file is now above, and hides the one below, which is as it was.")
    stage.say("(The empty ones are places to mount on: the container's own hosts, hostname and resolv.conf.)")


def _whiteout(stage: Stage, upper: str) -> None:
    stage.part("A whiteout: to remove is to add")
    stage.run("exec", _NAME, "rm", "/etc/group")
    stage.host("ls", "-ln", f"{upper}/etc/group")
    stage.run("exec", _NAME, "ls", "/etc/group", status=1)
    stage.run("layers", "--format", _TRACE, _NAME, "/etc/group", status=1)
    stage.say("A character device 0:0 says that there is nothing here. No layer has become smaller.")


def _opaque(stage: Stage, upper: str) -> None:
    stage.part("An opaque directory: a new one in place of an old one")
    stage.run("exec", _NAME, "sh", "-c", "rm -r /var/spool; mkdir /var/spool")
    stage.host("ls", "-ln", f"{upper}/var")
    stage.attribute(f"{upper}/var/spool", OPAQUE_XATTR)
    stage.run("layers", "--format", _TRACE, _NAME, "/var/spool/mail", status=1)
    stage.say("Directories of one name are merged. That attribute says: this one is not.")


def _separate(stage: Stage) -> None:
    stage.part("What has changed, and for whom")
    stage.run("diff", _NAME)
    stage.say("This is the upper directory, read. Another container of the image has another:")
    look = ["sh", "-c", "tail -n 1 /etc/passwd; ls /etc/group /var/spool"]
    stage.run("run", "--rm", "--name", _OTHER, "--network", "none", IMAGE, *look)


def _commit(stage: Stage) -> None:
    stage.part("commit makes a layer of it")
    stage.own("image", _IMAGE)
    stage.run("commit", _NAME, _IMAGE)
    stage.run("layers", "--format", _COUNTS, _IMAGE)
    stage.say("The layers below are the same directories as before, and not copied.")


def _end(stage: Stage, upper: str) -> None:
    stage.part("rm removes the upper directory, and so all that has changed")
    stage.remove(_NAME)
    stage.host("ls", "-d", upper, status=2)
    stage.run("rmi", _IMAGE)
    stage.run("layers", "--format", _COUNTS, IMAGE)
    stage.say("The image is as it was in the beginning.")
