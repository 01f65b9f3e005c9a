"""What goes with a container, what stays, and whose it is."""

from __future__ import annotations

import os

from pycontainer.labs._stage import IMAGE, Stage

SUMMARY = "What goes with a container, what stays, and whose it is."
CONTROLLERS = ()
_VOLUME = "lab-volumes-data"
_DATA = f"volumes/{_VOLUME}/_data"
_ONE, _TWO = "lab-volumes-one", "lab-volumes-two"
_ONCE = ["run", "--rm", "--name", "lab-volumes", "--network", "none"]
_STAY = ["run", "-d", "--network", "none"]
_SLEEP = [IMAGE, "sleep", "600"]
_MOUNT = ["grep", " /var ", "/proc/self/mountinfo"]


def show(stage: Stage) -> None:
    _without(stage)
    _volume(stage)
    _two(stage)
    _owners(stage)
    _directory(stage)
    _end(stage)


def _without(stage: Stage) -> None:
    stage.part("What a container writes goes with it")
    stage.run(*_STAY, "--name", _ONE, *_SLEEP)
    stage.run("exec", _ONE, "sh", "-c", "echo hello > /var/www/page; ls -ln /var/www")
    directory = f"containers/{stage.find(_ONE).id}"
    stage.host("ls", "-ln", f"{directory}/upper/var/www")
    stage.run("exec", _ONE, "cat", "/proc/self/uid_map")
    stage.say(
        "It is in a directory of the container's own. There its root is not the host's, but the first of a range of "
        "ids that no other container has."
    )
    stage.remove(_ONE)
    stage.host("ls", "-d", directory, status=2)


def _volume(stage: Stage) -> None:
    stage.part("A volume stays, and is filled once")
    stage.own("volume", _VOLUME)
    script = "ls -ln /var; echo hello > /var/www/page; rm -r /var/spool"
    stage.run(*_ONCE, "-v", f"{_VOLUME}:/var", IMAGE, "sh", "-ec", script)
    stage.say("It was made, and because it was empty it got what the image has at that place.")
    stage.host("ls", "-ln", _DATA, f"{_DATA}/www")
    stage.run(*_ONCE, "-v", f"{_VOLUME}:/var", IMAGE, "ls", "/var", "/var/www")
    stage.say("The next container finds what the first has left: the page is there, and spool does not come back.")


def _two(stage: Stage) -> None:
    stage.part("Two containers have one volume, one of them only to read")
    stage.run(*_STAY, "--name", _ONE, "-v", f"{_VOLUME}:/var", *_SLEEP)
    stage.run(*_STAY, "--name", _TWO, "--volumes-from", f"{_ONE}:ro", *_SLEEP)
    for name in (_ONE, _TWO):
        stage.run("exec", name, *_MOUNT)
    stage.say("One directory, mounted twice: rw and ro, and idmapped.")
    stage.run("exec", _ONE, "sh", "-c", "echo more >> /var/www/page")
    stage.run("exec", _TWO, "cat", "/var/www/page")
    stage.run("exec", _TWO, "touch", "/var/www/page", status=1)
    stage.run("volume", "rm", _VOLUME, status=1)


def _owners(stage: Stage) -> None:
    stage.part("Whose the files are")
    for name in (_ONE, _TWO):
        stage.run("exec", name, "cat", "/proc/self/uid_map")
    stage.say("The two have different ids on the host. And yet they agree about whose a file is:")
    stage.run("exec", _ONE, "sh", "-c", "touch /var/www/users; chown 1000:1000 /var/www/users")
    for name in (_ONE, _TWO):
        stage.run("exec", name, "ls", "-ln", "/var/www")
    stage.host("ls", "-ln", f"{_DATA}/www")
    stage.say("Each mount has an id map, by which the container's 0 is 0 on the disk, and its 1000 is 1000.")


def _directory(stage: Stage) -> None:
    stage.part("A directory of the host's")
    path = stage.directory()
    name = os.path.basename(path)
    stage.host("sh", "-c", f"echo the host writes > {name}/page")
    stage.host("chown", "1000:1000", f"{name}/page")
    script = "cat /mnt/page; echo so does the container > /mnt/answer; ls -ln /mnt"
    stage.run(*_ONCE, "-v", f"{path}:/mnt", IMAGE, "sh", "-ec", script)
    stage.host("cat", f"{name}/answer")
    stage.host("ls", "-ln", name)
    stage.run(*_ONCE, "-v", f"{path}:/mnt:ro", IMAGE, "rm", "/mnt/page", status=1)
    stage.say("It is mounted as a volume is, but never filled, and never removed.")


def _end(stage: Stage) -> None:
    stage.part("A volume goes when it is told to")
    stage.remove(_ONE, _TWO)
    stage.host("ls", "-ln", f"{_DATA}/www")
    stage.run("volume", "rm", _VOLUME)
    stage.host("ls", "-d", f"volumes/{_VOLUME}", status=2)
