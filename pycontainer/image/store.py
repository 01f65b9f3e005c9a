"""The image store: names, images and layers in the database, blobs and unpacked layers beside it.

    ROOT/blobs/sha256/HEX   manifests, configs and layers exactly as they arrived
    ROOT/layers/CHAIN-HEX   one unpacked layer by its chain id, whiteouts as overlayfs has them
    ROOT/tmp/               work in progress; empty when nothing runs and nothing was killed

What is on disk and not in the database is garbage. Whoever adds to the store holds a shared lock on ROOT/tmp from
before it looks until it is done; whoever frees bytes needs the lock exclusively, and leaves them to the next command
when it cannot have it. A process that adds or frees has a directory in ROOT/tmp meanwhile, so that an empty ROOT/tmp
says that there is nothing to clear, which costs `run` one readdir.

This module is imported by `run`: standard library only, and of that what is cheap.
"""

from __future__ import annotations

import fcntl
import os

from pycontainer import json_text
from pycontainer.errors import Conflict, ImageError, ImageNotFound, NotFound, UsageError
from pycontainer.kernel import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from pycontainer.image.reference import Reference

    Line = TypeVar("Line")

SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY,      -- digest of the config
    digest TEXT NOT NULL,     -- of the manifest
    config TEXT NOT NULL,     -- the OCI image config, JSON
    created TEXT NOT NULL,    -- RFC 3339
    size INTEGER NOT NULL,    -- bytes, unpacked
    layers TEXT NOT NULL,     -- hexadecimal chain ids, base first, separated by spaces
    blobs TEXT NOT NULL       -- hexadecimal sha256 of manifest, config and layers, separated by spaces
                              -- (without the layers where their blobs were given back)
);
CREATE TABLE IF NOT EXISTS image_names (
    name TEXT PRIMARY KEY,    -- complete reference with a tag
    familiar TEXT NOT NULL,   -- the same as people write it
    image_id TEXT NOT NULL REFERENCES images (id)
);
CREATE INDEX IF NOT EXISTS image_names_by_image ON image_names (image_id);
CREATE INDEX IF NOT EXISTS image_names_by_familiar ON image_names (familiar);
CREATE TABLE IF NOT EXISTS layers (
    chain_id TEXT PRIMARY KEY,
    size INTEGER NOT NULL     -- bytes, unpacked
);
CREATE TABLE IF NOT EXISTS verifications (
    image_id TEXT NOT NULL,
    key TEXT NOT NULL,        -- hexadecimal sha256 of the file with the public key
    digest TEXT NOT NULL,     -- what the key has signed: the image's manifest, or an index that it was chosen from
    PRIMARY KEY (image_id, key)
);
"""

_SELECT = """
SELECT id, config, layers, size, created, digest,
       (SELECT group_concat(familiar, ' ') FROM image_names WHERE image_id = images.id) FROM images
"""
_ABSENT_HINT = "`pycontainer images` lists them"


class Image:
    """A stored image. `id` is the config's digest, `digest` the manifest's.

    names    familiar references, sorted
    config   the OCI image config as it was stored, its types checked when it was loaded; ImageError where it is broken
    labels   those of the config; none where it is broken
    layers   absolute paths of directories, base first
    size     bytes of all files, unpacked
    created  RFC 3339, may be empty
    """

    __slots__ = ("_config", "_text", "created", "digest", "id", "layers", "names", "size")

    def __init__(self, row: tuple[str, str, str, int, str, str, str | None], layers: str) -> None:
        """`row` is what _SELECT gives, `layers` the directory of all layers."""
        self.id, self._text, chains, self.size, self.created, self.digest, names = row
        self.names = sorted((names or "").split())
        self.layers = [f"{layers}/{chain}" for chain in chains.split()]
        self._config: dict[str, Any] | None = None

    @property
    def config(self) -> dict[str, Any]:
        # Read when it is asked for, so that one that is broken hinders neither listing nor removing images.
        if self._config is None:
            try:
                value = json_text.loads(self._text)
            except ValueError as error:
                raise _broken(self.id, f"its config is not JSON ({error})") from error
            if not isinstance(value, dict):
                raise _broken(self.id, "its config is not an object")
            self._config = value
        return self._config

    @property
    def labels(self) -> dict[str, str]:
        try:
            settings = self.config.get("config")
        except ImageError:
            return {}
        labels = settings.get("Labels") if isinstance(settings, dict) else None
        return labels if isinstance(labels, dict) else {}


def settle(connection: sqlite3.Connection) -> None:
    """What the database says from here on is final: call it before something is destroyed that it does not know.

    A transaction that a killed process has written, and not published, is seen by nobody as long as others have the
    database open, and by everybody afterwards; unless one that comes between overwrites it in the log, as this does.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # It is written although it is the same.
        connection.execute(f"PRAGMA user_version={version}")


class Store:
    """Images under `root`, with `connection` to a database that has SCHEMA. Creating one touches nothing."""

    def __init__(self, root: str, connection: sqlite3.Connection) -> None:
        self.root = root
        self.connection = connection
        self.blobs = f"{root}/blobs/sha256"
        self.layers = f"{root}/layers"
        self.tmp = f"{root}/tmp"

    def resolve(self, name_or_id: str) -> Image:
        """The image with that reference, ID, or unique beginning of an ID of at least two digits.

        A reference wins over the beginning of an ID. Raises NotFound, Conflict where the beginning is not unique,
        UsageError where it can be neither.
        """
        digits = _digits(name_or_id)
        problem = None
        if not name_or_id.isascii():
            raise UsageError("find image", name_or_id, "not an image's name or ID", "names are ASCII")
        if not digits or not (len(digits) == 64 or name_or_id.startswith("sha256:")):
            if image := self._by_familiar_name(name_or_id):
                return image
            from pycontainer.image import reference

            try:
                if image := self._by_reference(reference.parse(name_or_id)):
                    return image
            except UsageError as error:
                problem = error
        if digits:
            if image := self._by_id(digits):
                return image
        elif problem is not None:
            raise problem
        raise ImageNotFound("no such image", name_or_id, hint=_ABSENT_HINT)

    def _by_familiar_name(self, name: str) -> Image | None:
        """The image whose name is written just so, but for the tag: what `run` looks up, without parsing references."""
        row = self.connection.execute(
            f"{_SELECT} WHERE id = (SELECT image_id FROM image_names WHERE familiar IN (?1, ?1 || ':latest'))",
            (name,),
        ).fetchone()
        return Image(row, self.layers) if row else None

    def _by_reference(self, wanted: Reference) -> Image | None:
        if wanted.digest:
            where, value = "digest = ?", wanted.digest
        else:
            where, value = "id = (SELECT image_id FROM image_names WHERE name = ?)", str(wanted)
        row = self.connection.execute(f"{_SELECT} WHERE {where}", (value,)).fetchone()
        return Image(row, self.layers) if row else None

    def _by_id(self, prefix: str) -> Image | None:
        # ':' follows the last digit and 'g' the last hexadecimal letter: a range, which the index serves.
        rows = self.connection.execute(
            f"{_SELECT} WHERE id >= ? AND id < ? LIMIT 2", (f"sha256:{prefix}", f"sha256:{prefix}g")
        ).fetchall()
        if len(rows) > 1:
            raise Conflict("find image", prefix, "more than one image ID begins so", "write more digits of it")
        return Image(rows[0], self.layers) if rows else None

    def images(self) -> list[Image]:
        """All images, newest first."""
        rows = self.connection.execute(f"{_SELECT} ORDER BY created DESC, id").fetchall()
        return [Image(row, self.layers) for row in rows]

    def names_in(self, repository: str) -> list[tuple[str, str]]:
        """Every name that a repository has, complete, with the id of its image; sorted."""
        # ';' follows ':', and so this is a range, which the index serves.
        rows = self.connection.execute(
            "SELECT name, image_id FROM image_names WHERE name >= ?1 || ':' AND name < ?1 || ';' ORDER BY name",
            (repository,),
        )
        return rows.fetchall()

    def layer_size(self, layer: str) -> int:
        """Bytes of one of an image's layers, unpacked; 0 where nobody knows of it any more."""
        row = self.connection.execute(
            "SELECT size FROM layers WHERE chain_id = ?", (os.path.basename(layer),)
        ).fetchone()
        return int(row[0]) if row else 0

    def is_verified(self, image_id: str, key: str) -> bool:
        """Whether a signature of that image by that key has been seen."""
        row = self.connection.execute("SELECT 1 FROM verifications WHERE image_id = ? AND key = ?", (image_id, key))
        return row.fetchone() is not None

    def get(self, image_id: str) -> Image:
        """By its whole ID; inside a transaction it stays. Raises NotFound."""
        row = self.connection.execute(f"{_SELECT} WHERE id = ?", (image_id,)).fetchone()
        if row is None:
            raise NotFound("no such image", image_id, hint=_ABSENT_HINT)
        return Image(row, self.layers)

    def tag(self, image_id: str, name: str) -> None:
        """Make `name` mean the image, whatever it meant before. Raises UsageError, NotFound."""
        from pycontainer.image import reference

        wanted = reference.parse_name(name)
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            self.get(image_id)
            self.connection.execute(
                "REPLACE INTO image_names VALUES (?, ?, ?)", (str(wanted), wanted.familiar, image_id)
            )

    def remove(self, name_or_id: str, force: bool, in_use: Callable[[str], list[str]]) -> list[str]:
        """Take away a name, and the image with its last name; lines as `docker rmi` prints them.

        `in_use` gives the containers of an image ID and is called in the transaction. An image that a container needs
        keeps its bytes: `force` then only takes its name. Raises NotFound, Conflict.
        """
        return self._free(lambda: self._remove_rows(self.resolve(name_or_id), name_or_id, force, in_use))

    def give_back_blobs(self, image_ids: Iterable[str]) -> list[tuple[str, int]]:
        """Remove the layers of images as they arrived: what `save` and `push` need, and `run` does not.

        Manifest, config and unpacked layers stay, and what an image beside them has in common. Hexadecimal digests and
        bytes of what is removed.
        """

        def rows() -> list[tuple[str, int]]:
            before = self._needed()[1]
            for image_id in image_ids:
                row = self.connection.execute("SELECT blobs FROM images WHERE id = ?", (image_id,)).fetchone()
                if row is not None:
                    self.connection.execute(
                        "UPDATE images SET blobs = ? WHERE id = ?", (" ".join(row[0].split()[:2]), image_id)
                    )
            return [(name, _length(f"{self.blobs}/{name}")) for name in sorted(before - self._needed()[1])]

        return self._free(rows)

    def has_layer_blobs(self, image_id: str) -> bool:
        """Whether the layers of an image are kept as they arrived."""
        row = self.connection.execute("SELECT blobs FROM images WHERE id = ?", (image_id,)).fetchone()
        return row is None or len(row[0].split()) != 2

    def _free(self, change: Callable[[], list[Line]]) -> list[Line]:
        """What `change` gives, which is called in a transaction; then the bytes go that no row needs any more."""
        self.write_durably()
        self.make_directories()
        exclusive = self._lock_exclusively()
        lock = self.lock_shared() if exclusive is None else exclusive
        try:
            marker = self.make_marker()
            try:
                with self.connection:
                    self.connection.execute("BEGIN IMMEDIATE")
                    changed = change()
            except BaseException:
                os.rmdir(marker)
                raise
            if exclusive is not None:
                self._clear()
        finally:
            os.close(lock)
        return changed

    def _remove_rows(self, image: Image, name_or_id: str, force: bool, in_use: Callable[[str], list[str]]) -> list[str]:
        from pycontainer.image import reference

        digits = _digits(name_or_id)
        by_id = bool(digits) and image.id.startswith(f"sha256:{digits}")
        names = image.names
        if not by_id and "@" not in name_or_id:
            names = [reference.parse(name_or_id).familiar]
        elif len({name.rpartition(":")[0] for name in names}) > 1 and not force:
            raise Conflict("remove image", name_or_id, f"it has several names: {', '.join(names)}", "use --force")
        last = len(names) == len(image.names)
        containers = in_use(image.id) if last else []
        if containers and (by_id or not force):
            raise Conflict(
                "remove image", name_or_id, f"used by container {', '.join(containers)}", "remove the container first"
            )
        lines = []
        for name in names:
            self.connection.execute("DELETE FROM image_names WHERE familiar = ?", (name,))
            lines.append(f"Untagged: {name}")
        if not last or containers:
            return lines
        self.connection.execute("DELETE FROM images WHERE id = ?", (image.id,))
        self.connection.execute("DELETE FROM verifications WHERE image_id = ?", (image.id,))
        lines.append(f"Deleted: {image.id}")
        needed, _ = self._needed()
        for layer in reversed(image.layers):
            chain = os.path.basename(layer)
            if chain not in needed:
                self.connection.execute("DELETE FROM layers WHERE chain_id = ?", (chain,))
                lines.append(f"Deleted: sha256:{chain}")
        return lines

    def _needed(self) -> tuple[set[str], set[str]]:
        """Names of the layers and of the blobs that some image has."""
        layers: set[str] = set()
        blobs: set[str] = set()
        for layer_text, blob_text in self.connection.execute("SELECT layers, blobs FROM images"):
            layers.update(layer_text.split())
            blobs.update(blob_text.split())
        return layers, blobs

    def clear_leftovers(self) -> None:
        """Remove what killed commands left behind, unless one that adds to the store is at work. Raises ImageError."""
        try:
            if not os.listdir(self.tmp):
                return
        except FileNotFoundError:
            return
        import time

        # Not once only: the child of a command that was killed holds the lock until it has noticed, for milliseconds.
        for _ in range(6):
            lock = self._lock_exclusively()
            if lock is not None:
                try:
                    self._clear()
                finally:
                    os.close(lock)
                return
            time.sleep(0.005)

    def _clear(self) -> None:
        """Remove all that no image needs, ROOT/tmp last. The lock must be held exclusively."""
        settle(self.connection)
        layers, blobs = self._needed()
        _remove_all(self.layers, layers)
        _remove_all(self.blobs, blobs)
        _remove_all(self.tmp, ())

    def make_directories(self) -> None:
        """Make the store's directories. For root only: a layer holds set-user-ID programs."""
        for directory in (self.blobs, self.layers, self.tmp):
            os.makedirs(directory, 0o700, exist_ok=True)

    def write_durably(self) -> None:
        """Make commits survive a crash of the machine: bytes come and go with them, which a crash would not undo."""
        self.connection.execute("PRAGMA synchronous=FULL")

    def make_marker(self) -> str:
        """A new directory in ROOT/tmp, which says that what is on disk may be more than the database knows.

        To be called with the lock, so that it is not cleared before there is something to clear.
        """
        marker = f"{self.tmp}/{os.urandom(8).hex()}"
        os.mkdir(marker, 0o700)
        return marker

    def lock_shared(self) -> int:
        """Keep bytes from being freed until the descriptor is closed."""
        lock = os.open(self.tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    def _lock_exclusively(self) -> int | None:
        lock = os.open(self.tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock


def _broken(image_id: str, cause: str) -> ImageError:
    return ImageError("read stored image", image_id, cause, f"pycontainer rmi -f {image_id[7:19]}, and load it again")


def _length(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _remove_all(directory: str, keep: Iterable[str]) -> None:
    for name in set(os.listdir(directory)) - set(keep):
        remove_tree(f"{directory}/{name}")


def remove_tree(path: str) -> None:
    """Remove a file or a directory with all in it. Raises ImageError."""
    import errno
    import time

    for patience in range(10, -1, -1):
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                tree.remove_tree(path)
            else:
                os.unlink(path)
            return
        except OSError as error:
            # The child of a command that was killed this moment may be making its last file.
            if error.errno != errno.ENOTEMPTY or not patience:
                raise ImageError("clear image store", path, (error.strerror or "failed").lower()) from error
            time.sleep(0.05)


def _digits(text: str) -> str:
    """The hexadecimal digits of an image ID or of the beginning of one, at least two; "" for anything else."""
    digits = text.removeprefix("sha256:")
    return digits if 2 <= len(digits) <= 64 and not digits.strip("0123456789abcdef") else ""
