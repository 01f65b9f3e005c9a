"""Images in a directory of files: where `pull` and `run` look by an image's name before they ask its registry.

    NAME_TAG.tar  NAME_TAG.tar.gz  NAME_TAG.tar.zst  NAME_TAG/   an archive, or an OCI layout directory
    NAME.tar      NAME.tar.gz      NAME.tar.zst      NAME/       the same, of the tag latest

NAME is the name as people write it, and each slash in it a directory: `team/app:2` is team/app_2.tar. The grammar of
names knows neither `..` nor a path that begins with a slash, so that none leads out of the directory.

An archive is one of images, for `load`, if there is in it a manifest.json that lists images, or index.json and
oci-layout. Any other is the tarball of a root file system, for `import`, which asks the same.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from pycontainer.errors import ImageError, StepFailed
from pycontainer.image.importer import import_tarball
from pycontainer.image.ingest import ARCHIVE_FACTOR
from pycontainer.image.load import load, reporter
from pycontainer.image.manifest import MAX_JSON, parse_archive_manifest
from pycontainer.image.reference import DEFAULT_TAG, Reference
from pycontainer.image.store import Store
from pycontainer.image.stream import ForwardStream
from pycontainer.image.tar import members
from pycontainer.image.unpack import Progress
from pycontainer.kernel.operation import Journal

if TYPE_CHECKING:
    from typing import BinaryIO

_SUFFIXES = (".tar", ".tar.gz", ".tar.zst")
_STEP = "read image directory"


class Found(NamedTuple):
    """An archive, or the directory of a layout."""

    path: str
    is_layout: bool


def candidates(name: Reference) -> list[str]:
    """What the files of an image may be called, the first that is there wins; without a suffix it is a directory."""
    if not name.tag or name.digest:
        # Whoever names a digest wants just that, and it is not known before all of a file is read.
        return []
    stems = [f"{name.familiar_name}_{name.tag}"]
    if name.tag == DEFAULT_TAG:
        stems.append(name.familiar_name)
    return [f"{stem}{suffix}" for stem in stems for suffix in (*_SUFFIXES, "")]


def find(directory: str, name: Reference) -> Found | None:
    """The file of an image. Raises StepFailed where it cannot be looked at."""
    for candidate in candidates(name):
        path = f"{directory}/{candidate}"
        try:
            mode = os.stat(path).st_mode
            if candidate.endswith(_SUFFIXES) and stat.S_ISREG(mode):
                return Found(path, False)
            if stat.S_ISDIR(mode) and os.path.isfile(f"{path}/index.json"):
                return Found(path, True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                continue
            raise StepFailed(_STEP, path, error.errno or 0) from error
    return None


def add(
    store: Store, found: Found, name: Reference, *, progress: Progress | None, max_layer_size: int, journal: Journal
) -> None:
    """Have it in the store, under this name and no other. Raises ImageError, which names the file, StepFailed, …"""
    try:
        if found.is_layout:
            load(store, found.path, progress=progress, max_layer_size=max_layer_size, wanted=name, journal=journal)
            return
        try:
            file = open(found.path, "rb")  # noqa: SIM115
        except OSError as error:
            raise StepFailed(_STEP, found.path, error.errno or 0) from error
        with file:
            total = os.fstat(file.fileno()).st_size
            is_images = holds_images(file, max_layer_size * ARCHIVE_FACTOR, progress, total)
            file.seek(0)
            if is_images:
                load(
                    store,
                    file,
                    progress=progress,
                    max_layer_size=max_layer_size,
                    total=total,
                    wanted=name,
                    journal=journal,
                )
            else:
                import_tarball(
                    store,
                    file,
                    str(name),
                    progress=progress,
                    max_layer_size=max_layer_size,
                    total=total,
                    journal=journal,
                )
    except ImageError as error:
        where = f"{found.path}: {error.path}" if error.path else found.path
        raise ImageError(error.step, where, error.cause, error.hint) from error


def holds_images(file: BinaryIO, limit: int, progress: Progress | None = None, total: int = 0) -> bool:
    """Whether an archive is one of images. Raises ImageError."""
    stream = ForwardStream(file, "archive", limit, on_read=reporter(progress, "looking", total))
    layout = {"oci-layout", "index.json"}
    for _, member in members(stream):
        name = os.path.normpath(member.name)
        if not member.isreg() or member.sparse is not None:
            continue
        layout.discard(name)
        if not layout or (name == "manifest.json" and _lists_images(stream, member.size)):
            return True
    return False


def _lists_images(stream: ForwardStream, size: int) -> bool:
    """Whether the file that the stream is at is what docker's archives begin with, and not some program's."""
    if size > MAX_JSON:
        return False
    memory = os.memfd_create("manifest.json", os.MFD_CLOEXEC)
    try:
        stream.copy(memory, size)
        return bool(parse_archive_manifest(os.pread(memory, size, 0)))
    except ImageError:
        return False
    finally:
        os.close(memory)
