"""How dockerd was started, and what it would be started with, to the configuration of its next start.

The rules are dockerd's own: a flag and a key of the file that say the same thing exclude each other, whatever they say
(moby: daemon/config, findConfigurationConflicts); of a flag that is given twice the last counts; a switch is what Go's
ParseBool takes on the command line, and a JSON boolean in the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.model.daemon import Configuration, Setting
from exporter.model.observation import BYTE_ORDER_MARK, EMPTY, TRAILING
from exporter.model.snapshot import EngineVersion
from exporter.parse.fields import go_bool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model.observation import ConfigurationFile, DaemonDocuments
    from exporter.model.snapshot import Engine

_TOLERANT_READER: Final = EngineVersion(23, 0)
"""Since when an empty file and a byte order mark are taken, and what follows the JSON document is not."""

_IP6TABLES_CHECKED: Final = EngineVersion(27, 0)
"""Since when ip6tables rules are written by default, and needed for icc=false with IPv6."""

_DEFAULTS: Final = {
    "icc": True,
    "iptables": True,
    "userland-proxy": True,
    "ip-forward": True,
    "ipv6": False,
    "live-restore": False,
}
"""Switches, and what dockerd has them at where nobody sets them; `ip6tables` depends on the version."""

_TEXTS: Final = ("bridge", "bip", "firewall-backend")

_NAMED: Final = {
    "authorization-plugin": "authorization-plugins",
    "cluster-store-opt": "cluster-store-opts",
    "default-address-pool": "default-address-pools",
    "default-network-opt": "default-network-opts",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "feature": "features",
    "host": "hosts",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "node-generic-resource": "node-generic-resources",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
}
"""Flags that may be given several times, and what they are called in the file (moby: opts.NamedOption)."""

_NOBODY: Final = "the default"


def parse_configuration(documents: DaemonDocuments, engine: Engine) -> Configuration | str:
    """Return the configuration of the daemon's next start, or the reason why it is not known."""
    if documents.missing:
        return documents.missing
    flags = [(flag.flag.removeprefix("--").partition("="), flag) for flag in documents.flags]
    named = any(name == "config-file" for (name, _, _), _ in flags)
    if engine.rootless and not named:
        return "a rootless daemon finds its configuration by environment variables, which are not read"
    reading = _Reading(documents, engine)
    icc, iptables, ip6tables, ipv6 = (reading.switch(name) for name in ("icc", "iptables", "ip6tables", "ipv6"))
    bridge = reading.text("bridge")
    refusals = [
        *documents.troubles,
        *_stray(documents),
        *_file_refusals(documents.file, engine.version),
        *_conflicts(documents),
        *reading.refusals,
        *_contradictions(engine.version, icc, iptables, ip6tables, ipv6),
    ]
    if bridge and reading.text("bip"):
        refusals.append("bridge and bip exclude each other")
    return Configuration(
        icc=icc,
        iptables=iptables,
        ip6tables=ip6tables,
        userland_proxy=reading.switch("userland-proxy"),
        ip_forward=reading.switch("ip-forward"),
        live_restore=reading.switch("live-restore"),
        default_bridge=bridge != "none",
        service=documents.service,
        refusals=tuple(dict.fromkeys(refusals)),
        unused=tuple(documents.unused),
    )


class _Reading:
    """Looks settings up, and collects the values that dockerd would not take."""

    def __init__(self, documents: DaemonDocuments, engine: Engine) -> None:
        self._flags = documents.flags
        self._file = documents.file
        self._defaults = {**_DEFAULTS, "ip6tables": engine.version >= _IP6TABLES_CHECKED}
        self.refusals: list[str] = []

    def switch(self, name: str) -> Setting:
        """Return a switch. One that dockerd would not take is at its default, and among the refusals."""
        given = self._given(name)
        if given is not None:
            text, origin = given
            value = go_bool(text)
            if value is not None:
                return Setting(value, origin)
            self.refusals.append(f"--{name}={text} is neither true nor false ({origin})")
        elif self._file is not None and name in self._file.keys:
            inside = self._file.options.get(name)
            # null makes a switch false: the flag behind it is set to what null reads as, and that fails to false
            if inside is None or isinstance(inside, bool):
                return Setting(bool(inside), self._file.path)
            self.refusals.append(f"{name} in {self._file.path} is neither true nor false")
        return Setting(self._defaults[name], _NOBODY)

    def text(self, name: str) -> str:
        """Return a text, empty where it is not set."""
        given = self._given(name)
        if given is not None:
            return given[0]
        inside = self._file.options.get(name) if self._file is not None else None
        if inside is None or isinstance(inside, str):
            return inside or ""
        self.refusals.append(f"{name} in {self._file.path if self._file else ''} is not a text")
        return ""

    def _given(self, name: str) -> tuple[str, str] | None:
        """Return the value of a flag and where it comes from, None where it is not given."""
        values = [(flag.flag.partition("=")[2], flag.origin) for flag in self._flags if _name(flag.flag) == name]
        return values[-1] if values else None


def _name(flag: str) -> str:
    return flag.removeprefix("--").partition("=")[0]


def _stray(documents: DaemonDocuments) -> Iterator[str]:
    """Yield words of the command line that belong to no flag, and letters that are none."""
    for flag in documents.flags:
        name = _name(flag.flag)
        if not flag.flag.startswith("--"):
            hint = ": a switch takes its value behind =, as in --icc=false" if flag.flag.lower() in _SPELLED else ""
            yield f"{flag.flag!r} belongs to no flag ({flag.origin}){hint}"
        elif len(name) < 2:
            yield f"-{name} is no flag ({flag.origin}): longer ones begin with --"


_SPELLED: Final = ("true", "false")


def _file_refusals(file: ConfigurationFile | None, version: EngineVersion) -> Iterator[str]:
    if file is None:
        return
    if file.trouble:
        yield f"{file.path}: {file.trouble}"
    tolerant = version >= _TOLERANT_READER
    for quirk in file.quirks:
        if tolerant == (quirk == TRAILING) and quirk in (EMPTY, BYTE_ORDER_MARK, TRAILING):
            yield f"{file.path}: {quirk}, which this engine does not take"
    for key in file.keys:
        meant = key.lower().replace("_", "-")
        if key != meant and (meant in _DEFAULTS or meant in _TEXTS or meant == "ip6tables"):
            yield f"{file.path}: {key} is no option (write {meant})"


def _conflicts(documents: DaemonDocuments) -> Iterator[str]:
    keys = frozenset(documents.file.keys) if documents.file is not None else frozenset()
    for flag in documents.flags:
        name = _name(flag.flag)
        key = _NAMED.get(name, name)
        if key in keys and documents.file is not None:
            yield f"{key} is given both by --{name} ({flag.origin}) and in {documents.file.path}"


def _contradictions(
    version: EngineVersion, icc: Setting, iptables: Setting, ip6tables: Setting, ipv6: Setting
) -> Sequence[str]:
    """Return why dockerd would not take settings together (moby: verifyDaemonSettings)."""
    if icc.value:
        return ()
    if not iptables.value:
        return (CONTRADICTION.format(name="iptables", icc=icc, other=iptables),)
    if version >= _IP6TABLES_CHECKED and ipv6.value and not ip6tables.value:
        return (CONTRADICTION.format(name="ip6tables", icc=icc, other=ip6tables),)
    return ()


CONTRADICTION: Final = "icc={icc} needs the firewall, and {name}={other}"
