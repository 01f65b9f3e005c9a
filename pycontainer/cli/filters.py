"""--filter KEY=VALUE: docker's keys, and what each of them means.

Several values of one key mean or, except of `label`, of which all must be there; several keys mean and.
"""

from __future__ import annotations

from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from pycontainer.engine.containers import Container
    from pycontainer.engine.events import Event
    from pycontainer.engine.networks import Network
    from pycontainer.engine.settings import Settings
    from pycontainer.engine.volumes import Volume
    from pycontainer.image.store import Image

_FLAG = "--filter"
_LABELS = ("label", "label!")
CONTAINER = ("id", "name", *_LABELS, "exited", "status", "ancestor", "before", "since", "volume", "network", "health")
IMAGE = ("dangling", *_LABELS, "before", "since", "reference", "until")
VOLUME = ("dangling", "driver", *_LABELS, "name")
NETWORK = ("dangling", "driver", "id", *_LABELS, "name", "type", "scope")
EVENT = ("container", "event", "image", *_LABELS, "type", "volume", "network")
PRUNE = ("until", *_LABELS)
# Without `until`: what a volume holds may be needed however old it is.
VOLUME_PRUNE = _LABELS
_STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_HEALTHS = ("starting", "healthy", "unhealthy", "none")
_BOOLEANS = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True)
_BOOLEANS |= dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False)


class Filters:
    """The values of each key. Raises UsageError for what is not KEY=VALUE, and for a key that is not one of `known`."""

    def __init__(self, texts: Iterable[str], known: Iterable[str]) -> None:
        self._values: dict[str, list[str]] = {}
        keys = sorted(known)
        for text in texts:
            key, equals, value = text.partition("=")
            key = key.strip().lower()
            if not equals:
                raise UsageError(_FLAG, repr(text), "not KEY=VALUE", f"such as {_FLAG} {keys[0]}=VALUE")
            if key not in keys:
                raise UsageError(_FLAG, repr(text), f"no such filter {key!r}", f"there are {', '.join(keys)}")
            self._values.setdefault(key, []).append(value.strip())

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def values(self, key: str) -> list[str]:
        """What was given for it; [] where nothing was."""
        return self._values.get(key, [])

    def any(self, key: str, test: Callable[[str], bool]) -> bool:
        """Whether one of the key's values passes the test, or it was not given."""
        return key not in self._values or any(map(test, self._values[key]))

    def equals(self, key: str, *texts: str) -> bool:
        """Whether one of the key's values is one of the texts, or it was not given."""
        return self.any(key, lambda value: value in texts)

    def begins(self, key: str, *texts: str) -> bool:
        """Whether one of the texts begins with one of the key's values, or it was not given."""
        return self.any(key, lambda value: any(text.startswith(value) for text in texts))

    def search(self, key: str, text: str) -> bool:
        """Whether one of the key's values, regular expressions, is in the text. Raises UsageError."""
        if key not in self._values:
            return True
        import re

        try:
            return any(re.search(value, text) for value in self._values[key])
        except re.error as error:
            raise UsageError(_FLAG, f"{key}={error.pattern!s}", f"not a regular expression: {error}") from None

    def labels(self, labels: dict[str, str]) -> bool:
        """Whether all labels of `label=KEY` and `label=KEY=VALUE` are there, and none of `label!=KEY`."""
        return all(_has(labels, text) for text in self.values("label")) and not any(
            _has(labels, text) for text in self.values("label!")
        )

    def boolean(self, key: str) -> bool | None:
        """None where it was not given. Raises UsageError."""
        found = None
        for text in self.values(key):
            if text not in _BOOLEANS:
                raise UsageError(_FLAG, f"{key}={text}", "not a boolean", "true or false")
            found = _BOOLEANS[text]
        return found

    def choice(self, key: str, words: Iterable[str]) -> None:
        """Raises UsageError for a value that is not one of these."""
        for text in self.values(key):
            if text not in words:
                raise UsageError(_FLAG, f"{key}={text}", "no such value", f"there are {', '.join(words)}")

    def until(self) -> float | None:
        """The earliest of the times of `until`, None where none was given. Raises UsageError."""
        from pycontainer.engine.moment import parse_moment

        return min((parse_moment(f"{_FLAG} until", text) for text in self.values("until")), default=None)


def _has(labels: dict[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def prune_filter(texts: Iterable[str], known: Iterable[str] = PRUNE) -> Callable[[float, dict[str, str]], bool]:
    """The test `wanted(created, labels)`, with seconds since the epoch. Raises UsageError."""
    filters = Filters(texts, known)
    until = filters.until()

    def wanted(created: float, labels: dict[str, str]) -> bool:
        return (until is None or created < until) and filters.labels(labels)

    return wanted


def container_filter(
    settings: Settings, connection: sqlite3.Connection, filters: Filters
) -> Callable[[Container], bool]:
    """The test for one container, by filters of the keys CONTAINER. Raises UsageError, NotFound, Conflict."""
    from pycontainer.engine import containers, volumes

    filters.choice("status", _STATUSES)
    filters.choice("health", _HEALTHS)
    _check_numbers(filters, "exited")
    before = [containers.find(connection, name).created for name in filters.values("before")]
    since = [containers.find(connection, name).created for name in filters.values("since")]
    ancestors = _descendants(settings, connection, filters.values("ancestor"))

    def mounted(container: Container) -> bool:
        mounts = volumes.of(connection, container.id) if "volume" in filters else []
        return filters.equals("volume", *(text for mount in mounts for text in (mount.source, mount.target)))

    def wanted(container: Container) -> bool:
        exited = container.status == "exited"
        return (
            filters.search("id", container.id)
            and filters.search("name", container.name)
            and filters.labels(container.labels)
            and filters.equals("exited", *([str(container.exit_status)] if exited else []))
            and filters.equals("status", container.shown_status)
            and filters.equals("health", container.health.get("Status", "none"))
            and all(container.created < moment for moment in before)
            and all(container.created > moment for moment in since)
            and ("ancestor" not in filters or container.image_id in ancestors)
            and mounted(container)
            and ("network" not in filters or _in_network(settings, connection, filters, container))
        )

    return wanted


def _check_numbers(filters: Filters, key: str) -> None:
    for text in filters.values(key):
        if not text.isascii() or not text.isdigit():
            raise UsageError(_FLAG, f"{key}={text}", "not a number", f"such as {_FLAG} {key}=0")


def _in_network(settings: Settings, connection: sqlite3.Connection, filters: Filters, container: Container) -> bool:
    from pycontainer.engine import networks

    known = {each.name: each.id for each in networks.list_all(settings, connection)}
    return any(
        filters.equals("network", name) or filters.begins("network", known.get(name, name))
        for name in networks.of(container)
    )


def _descendants(settings: Settings, connection: sqlite3.Connection, names: list[str]) -> set[str]:
    """Ids of the images of these names, and of those that have all their layers below their own."""
    if not names:
        return set()
    from pycontainer.errors import NotFound
    from pycontainer.image.store import Store

    store = Store(settings.root, connection)
    found = set()
    for name in names:
        try:
            base = store.resolve(name)
        except NotFound:
            # As docker has it: of what is not there nothing descends.
            continue
        found.add(base.id)
        layers = base.layers
        found |= {image.id for image in store.images() if layers and image.layers[: len(layers)] == layers}
    return found


def image_filter(settings: Settings, connection: sqlite3.Connection, filters: Filters) -> Callable[[Image], bool]:
    """The test for one image, by filters of the keys IMAGE but `reference`. Raises UsageError, NotFound, Conflict."""
    from pycontainer.image.store import Store

    store = Store(settings.root, connection)
    before = [image_created(store.resolve(name)) for name in filters.values("before")]
    since = [image_created(store.resolve(name)) for name in filters.values("since")]
    until, dangling = filters.until(), filters.boolean("dangling")

    def wanted(image: Image) -> bool:
        created = image_created(image)
        return (
            (dangling is None or dangling == (not image.names))
            and filters.labels(image_labels(image))
            and all(created < moment for moment in before)
            and all(created > moment for moment in since)
            and (until is None or created < until)
        )

    return wanted


def image_created(image: Image) -> float:
    """Seconds since the epoch, 0 where the image does not say it."""
    from pycontainer.engine.moment import parse_moment

    try:
        return parse_moment("created", image.created)
    except UsageError:
        return 0.0


def image_labels(image: Image) -> dict[str, str]:
    """The labels of an image."""
    return image.labels


def is_reference(pattern: str, name: str) -> bool:
    """Whether an image's familiar name fits docker's pattern: with its tag or without, and * stops at a slash."""
    from fnmatch import fnmatchcase

    # Go negates a class by another sign.
    parts = pattern.replace("[^", "[!").split("/")
    repository = name.rpartition(":")[0]
    return bool(name) and any(
        len(parts) == len(words) and all(map(fnmatchcase, words, parts))
        for words in (name.split("/"), repository.split("/"))
    )


def volume_filter(connection: sqlite3.Connection, filters: Filters) -> Callable[[Volume], bool]:
    """The test for one volume, by filters of the keys VOLUME. Raises UsageError."""
    from pycontainer.engine import volumes

    dangling = filters.boolean("dangling")

    def wanted(volume: Volume) -> bool:
        return (
            filters.search("name", volume.name)
            and filters.equals("driver", volumes.DRIVER)
            and filters.labels(volume.labels)
            and (dangling is None or dangling == (not volumes.users(connection, volume.name)))
        )

    return wanted


def network_filter(connection: sqlite3.Connection, filters: Filters) -> Callable[[Network], bool]:
    """The test for one network, by filters of the keys NETWORK. Raises UsageError."""
    from pycontainer.engine import containers, networks

    filters.choice("type", ("builtin", "custom"))
    dangling = filters.boolean("dangling")
    every = containers.list_all(connection) if dangling is not None else []
    used = {name for container in every for name in networks.of(container)}

    def wanted(network: Network) -> bool:
        return (
            filters.search("name", network.name)
            and filters.search("id", network.id)
            and filters.equals("driver", network.driver)
            and filters.equals("scope", "local")
            and filters.equals("type", "custom" if network.is_own else "builtin")
            and filters.labels(network.traits.labels)
            and (dangling is None or (network.is_own and dangling == (network.name not in used)))
        )

    return wanted


def event_filter(filters: Filters) -> Callable[[Event], bool]:
    """The test for one event, by filters of the keys EVENT."""

    def concerns(kind: str, event: Event) -> bool:
        if kind not in filters:
            return True
        return event.kind == kind and filters.begins(kind, event.actor, event.attributes.get("name", event.actor))

    def of_image(event: Event) -> bool:
        name = event.attributes.get("name" if event.kind == "image" else "image", "")
        texts = [text for text in (event.actor, name) if text]
        return filters.equals("image", *texts, *(_without_tag(text) for text in texts))

    def wanted(event: Event) -> bool:
        return (
            # Some actions have more behind a colon: `health_status: healthy`, `exec_create: sh`.
            filters.equals("event", event.action, event.action.partition(":")[0])
            and filters.equals("type", event.kind)
            and all(concerns(kind, event) for kind in ("container", "volume", "network"))
            and of_image(event)
            and filters.labels(event.attributes)
        )

    return wanted


def _without_tag(name: str) -> str:
    repository, _, tag = name.rpartition(":")
    return repository if repository and "/" not in tag else name
