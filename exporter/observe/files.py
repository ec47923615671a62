"""Observations as JSON files: the one format of replays, bug reports and tests."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ObservationError
from exporter.model.observation import (
    ConfigurationFile,
    DaemonDocuments,
    Flag,
    FormerAddress,
    FormerLink,
    KernelDocuments,
    NamespaceDocuments,
    Observation,
    Sighting,
)
from exporter.observe.documents import (
    DAEMON,
    FORMER,
    INFO,
    KERNEL,
    LABELS,
    LEFT,
    NETWORKS,
    VERSION,
    containers,
    project_list,
    project_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT: Final = "docker-icc-exporter/observation"
SCHEMA: Final = 1
"""Fields are only ever added within one schema; unknown ones are passed over."""

SIZE_LIMIT: Final = 256 << 20
"""Bytes of a file; longer ones are refused unread."""


class FileObserver:
    """Looks at a file in place of an engine, every time anew."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def observe(self) -> Observation:
        """Return what the file holds now. Raises ObservationError."""
        return load(self._path)

    def interrupt(self) -> None:
        """Do nothing: a file does not keep anybody waiting."""

    def close(self) -> None:
        """Do nothing: nothing stays open."""


def load(path: Path) -> Observation:
    """Return the observation in a file. Raises ObservationError with the file's name and what is wrong with it."""
    try:
        with path.open("rb") as file:
            text = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ObservationError(f"{path}: cannot be read: {reason}") from error
    if len(text) > SIZE_LIMIT:
        raise ObservationError(f"{path}: is longer than {SIZE_LIMIT >> 20} MiB")
    return loads(text, str(path))


def loads(text: str | bytes, name: str) -> Observation:
    """Return the observation that `dumps` wrote. Raises ObservationError that begins with `name`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ObservationError(f"{name}: is not JSON: {error}") from error
    try:
        return _from_document(document)
    except ObservationError as error:
        raise ObservationError(f"{name}: {error}") from error


def dumps(observation: Observation) -> str:
    """Return the observation as JSON text, with a line end."""
    document = {
        "format": FORMAT,
        "schema": SCHEMA,
        "taken_at": _written(observation.taken_at),
        "api": {
            "version": observation.version,
            "info": observation.info,
            "networks": observation.networks,
            "containers": observation.containers,
        },
        "sightings": {identity: _sighting_document(sighting) for identity, sighting in observation.sightings.items()},
    }
    if observation.labels:
        document["labels"] = observation.labels
    if observation.kernel is not None:
        document["kernel"] = _kernel_document(observation.kernel)
    if observation.daemon is not None:
        document["daemon"] = asdict(observation.daemon)
    return json.dumps(document, indent=1) + "\n"


def _from_document(document: object) -> Observation:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ObservationError(f'is not an observation: it does not begin with "format": "{FORMAT}"')
    if document.get("schema") != SCHEMA:
        raise ObservationError(f"has schema {document.get('schema')!r}, this program reads {SCHEMA}")
    api = _object(document, "api")
    kernel, daemon = document.get("kernel"), document.get("daemon")
    # files of earlier versions hold no labels, and say so
    labels = tuple(project_list(document.get("labels", []), LABELS, "labels"))
    return Observation(
        taken_at=_moment(document, "taken_at"),
        version=project_object(api.get("version"), VERSION, "api.version"),
        info=project_object(api.get("info"), INFO, "api.info"),
        networks=project_list(api.get("networks"), NETWORKS, "api.networks"),
        containers=project_list(api.get("containers"), containers(labels), "api.containers"),
        sightings={
            identity: _sighting(entry, identity) for identity, entry in _object(document, "sightings", {}).items()
        },
        kernel=None if kernel is None else _kernel(project_object(kernel, KERNEL, "kernel")),
        labels=labels,
        daemon=None if daemon is None else _daemon(project_object(daemon, DAEMON, "daemon")),
    )


def _kernel_document(kernel: KernelDocuments) -> dict[str, Any]:
    """Return the documents with each namespace once, however many containers live in it."""
    host = [kernel.host] if kernel.host else []
    everywhere = [*host, *kernel.sandboxes.values(), *kernel.bystanders.values()]
    document: dict[str, Any] = {
        "host": kernel.host.inode if kernel.host else None,
        "namespaces": list({documents.inode: _namespace_document(documents) for documents in everywhere}.values()),
        "sandboxes": {identity: documents.inode for identity, documents in kernel.sandboxes.items()},
        "missing": kernel.missing,
    }
    if kernel.bystanders:
        document["bystanders"] = {name: documents.inode for name, documents in kernel.bystanders.items()}
    if kernel.modules:
        document["modules"] = kernel.modules
    return document


def _namespace_document(documents: NamespaceDocuments) -> dict[str, Any]:
    document = {part.name: getattr(documents, part.name) for part in fields(NamespaceDocuments)}
    # texts within a text would be for nobody to read
    return {**document, "nftables": [json.loads(text) for text in documents.nftables]}


def _kernel(document: dict[str, Any]) -> KernelDocuments:
    namespaces: dict[int, NamespaceDocuments] = {}
    for place, entry in enumerate(document.get("namespaces", [])):
        if "inode" not in entry:
            raise ObservationError(f"kernel: namespaces[{place}]: inode is missing")
        listed = [json.dumps(each, ensure_ascii=False) for each in entry.pop("nftables", ())]
        namespaces[entry["inode"]] = NamespaceDocuments(**entry, nftables=listed)
    host = document.get("host")
    sandboxes, bystanders = document.get("sandboxes", {}), document.get("bystanders", {})
    for inode in [*([] if host is None else [host]), *sandboxes.values(), *bystanders.values()]:
        if inode not in namespaces:
            raise ObservationError(f"kernel: namespace {inode} is missing")
    return KernelDocuments(
        host=None if host is None else namespaces[host],
        sandboxes={identity: namespaces[inode] for identity, inode in sandboxes.items()},
        bystanders={name: namespaces[inode] for name, inode in bystanders.items()},
        modules=document.get("modules", []),
        missing=document.get("missing", {}),
    )


def _daemon(document: dict[str, Any]) -> DaemonDocuments:
    file = document.pop("file", None)
    flags = [Flag(entry.get("flag", ""), entry.get("origin", "")) for entry in document.pop("flags", ())]
    return DaemonDocuments(
        **document,
        flags=flags,
        file=None if file is None else ConfigurationFile(**{"path": "", **file, "present": bool(file.get("present"))}),
    )


def _sighting_document(sighting: Sighting) -> dict[str, Any]:
    document: dict[str, Any] = {"status": sighting.status, "at": _written(sighting.at)}
    if sighting.former:
        document["former"] = [{"address": item.address, "until": _written(item.until)} for item in sighting.former]
    if sighting.left:
        document["left"] = [{"address": item.address, "ports": list(item.ports)} for item in sighting.left]
    return document


def _sighting(entry: object, identity: str) -> Sighting:
    if not isinstance(entry, dict) or not isinstance(entry.get("status"), str):
        raise ObservationError(f"sightings of {identity}: a status is missing")
    former, left = tuple(_former(entry, identity)), tuple(_left(entry, identity))
    return Sighting(entry["status"], _moment(entry, "at"), former, left)


def _former(entry: dict[str, Any], identity: str) -> Iterator[FormerAddress]:
    for item in project_list(entry.get("former", []), FORMER, f"sightings of {identity}: former"):
        yield FormerAddress(str(item.get("address", "")), _moment(item, "until"))


def _left(entry: dict[str, Any], identity: str) -> Iterator[FormerLink]:
    for item in project_list(entry.get("left", []), LEFT, f"sightings of {identity}: left"):
        yield FormerLink(str(item.get("address", "")), tuple(item.get("ports", ())))


def _object(document: dict[str, Any], key: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    value = document.get(key, default)
    if not isinstance(value, dict):
        raise ObservationError(f"{key} is {'missing' if value is None else 'not an object'}")
    return value


def _moment(document: dict[str, Any], key: str) -> datetime:
    try:
        moment = datetime.fromisoformat(document[key])
    except (KeyError, TypeError, ValueError) as error:
        raise ObservationError(f"{key} is not a time such as 2026-01-01T00:00:00Z") from error
    if moment.tzinfo is None:
        raise ObservationError(f"{key} has no time zone")
    return moment.astimezone(UTC)


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
