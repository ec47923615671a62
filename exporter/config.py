"""Settings: flag > environment > configuration file > default, all checked before anything starts.

`OPTIONS` is the one table of them. From a name such as `web.listen-address` follow the flag
(`--web.listen-address`), the environment variable (`ICC_EXPORTER_WEB_LISTEN_ADDRESS`) and the place in the YAML
file (`web: {listen-address: …}`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.yamlfile import Kind

PREFIX: Final = "ICC_EXPORTER_"
"""Of every environment variable. Others with it are left alone: orchestrators make some up from a service's name."""

CONFIG_FILE: Final = "config.file"
"""Names the file itself, so it is a flag and an environment variable only."""

RESERVED_PATHS: Final = ("/-/", "/api/")
"""Beginnings of paths that have a meaning of their own."""

_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?", re.ASCII)
_DURATION_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_LISTEN_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]*)):([0-9]{1,5})", re.ASCII)
_PATH = re.compile(r"/[\w.~/-]*", re.ASCII)
_LONGEST = 86400.0
_HIGHEST_PORT = 65535


class ListenAddress(NamedTuple):
    """Where to serve; an empty host is every address of the machine, port 0 any free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Config:
    """What the exporter was told. Durations are seconds.

    `docker_host` is None where nobody named an engine, `evidence_max` where nobody asked for evidence.
    """

    listen_addresses: tuple[str, ...] = (":10422",)
    telemetry_path: str = "/metrics"
    log_level: str = "info"
    log_format: str = "logfmt"
    docker_host: str | None = None
    poll_interval: float = 15.0
    poll_timeout: float = 10.0
    snapshot: Path | None = None
    evidence_max: str | None = None
    host_netns: Path | None = None
    web_config_file: Path | None = None
    web_systemd_socket: bool = False
    web_max_requests: int = 40
    tenant_label: str = "com.docker.compose.project"
    trusted_tenants: tuple[str, ...] = ()
    policy_file: Path | None = None
    probe_sample: int = 0
    pair_series: int = 0


@dataclass(frozen=True, slots=True)
class Option:
    """One setting; `default` is what the help shows, the value itself is the default of `Config.field`.

    `kind` is what stands at its key in the file. A `switch` is a flag without a value.
    """

    name: str
    field: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    default: str = ""
    multiple: bool = False
    kind: Kind = "text"

    @property
    def flag(self) -> str:
        """Return the command line's name of it."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Return the environment's name of it."""
        return variable_of(self.name)


class Given(NamedTuple):
    """What somebody wrote for an option, and where: the beginning of every message about it."""

    texts: tuple[str, ...]
    where: str


def variable_of(name: str) -> str:
    """Return the environment variable of an option."""
    return PREFIX + re.sub(r"[.-]", "_", name).upper()


def parse_duration(text: str) -> float:
    """Return the seconds of a duration as Prometheus writes them: `15s`, `1m30s`, `500ms`, `1h`."""
    match = _DURATION.fullmatch(text)
    if not match or not text:
        raise ValueError(f"not a duration: {text!r} (write 15s, 1m30s or 500ms)")
    return sum(int(count) * unit for count, unit in zip(match.groups("0"), _DURATION_UNITS, strict=True))


def parse_listen_address(text: str) -> ListenAddress:
    """Split `:10422`, `127.0.0.1:10422`, `localhost:10422` or `[::1]:10422`."""
    match = _LISTEN_ADDRESS.fullmatch(text)
    if not match:
        raise ValueError(f"not an address to listen on: {text!r} (write :10422, 127.0.0.1:10422 or [::1]:10422)")
    port = int(match[3])
    if port > _HIGHEST_PORT:
        raise ValueError(f"not a port: {port} (0 to {_HIGHEST_PORT})")
    return ListenAddress(match[1] or match[2], port)


def _listen_address(text: str) -> str:
    parse_listen_address(text)
    return text


def _telemetry_path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError(f"not a path: {text!r} (it begins with / and holds letters, digits and . _ ~ - / only)")
    if text == "/" or f"{text}/".startswith(RESERVED_PATHS):
        raise ValueError(f"{text} is the path of another page (write /metrics, or anything not in {_RESERVED})")
    return text


_RESERVED = ", ".join(("/", *RESERVED_PATHS))


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be {'one of ' if choices[1:] else ''}{', '.join(choices)}, not {text!r}")
        return text

    return parse


def _duration_between(lowest: float, text_of_lowest: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        seconds = parse_duration(text)
        # the upper end keeps sums of times far from what datetimes and sockets can hold
        if not lowest <= seconds <= _LONGEST:
            raise ValueError(f"must be between {text_of_lowest} and 24h, not {text}")
        return seconds

    return parse


def _number_up_to(highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(highest)) and int(text) <= highest):
            raise ValueError(f"must be a whole number from 0 to {highest}, not {text!r}")
        return int(text)

    return parse


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _path(text: str) -> Path:
    return Path(_text(text))


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"must be true or false, not {text!r}")
    return text == "true"


OPTIONS: Final = (
    Option("web.listen-address", "listen_addresses", _listen_address, "ADDRESS",
           "Where to serve: :PORT, HOST:PORT or [IPV6]:PORT. Repeat it for several.", ":10422", multiple=True),
    Option("web.telemetry-path", "telemetry_path", _telemetry_path, "PATH", "Path of the metrics.", "/metrics"),
    Option("web.config.file", "web_config_file", _path, "FILE",
           "TLS, passwords, rate limit and headers, in exporter-toolkit's format. Read again when it changes."),
    Option("web.systemd-socket", "web_systemd_socket", _switch, "",
           "Serve on the sockets that systemd hands over, not on --web.listen-address.", kind="switch"),
    Option("web.max-requests", "web_max_requests", _number_up_to(999_999), "N",
           "Answer at most this many requests at the same time; 0 is no limit.", "40", kind="number"),
    Option("log.level", "log_level", _choice("debug", "info", "warn", "error"), "debug|info|warn|error",
           "Log from this level on.", "info"),
    Option("log.format", "log_format", _choice("logfmt", "json"), "logfmt|json", "How log lines are written.",
           "logfmt"),
    Option("docker.host", "docker_host", _text, "URL",
           "The engine: unix://, tcp:// or ssh://, as DOCKER_HOST means it, which counts where this is not given.",
           "unix:///var/run/docker.sock"),
    Option("poll.interval", "poll_interval", _duration_between(1, "1s"), "DURATION",
           "Time between two looks at the engine. Its events make a look come sooner.", "15s"),
    Option("poll.timeout", "poll_timeout", _duration_between(0.001, "1ms"), "DURATION",
           "How long the engine may take for a whole look.", "10s"),
    Option("snapshot", "snapshot", _path, "FILE",
           "Read this observation instead of asking an engine; the snapshot command writes such files."),
    Option("evidence.max", "evidence_max", _choice("api", "kernel", "sandboxes"), "api|kernel|sandboxes",
           "The most evidence to use: what the Engine API tells, what the kernel of the engine's host has beside it, "
           "and what each container's own network namespace has. Of that, all is used that is permitted.",
           "sandboxes"),
    Option("host.netns", "host_netns", _path, "PATH",
           "The engine's network namespace where it is not the exporter's own: /run/netns/NAME or /proc/PID/ns/net."),
    Option("tenant.label", "tenant_label", _text, "LABEL", "The label of containers that says whose they are.",
           "com.docker.compose.project"),
    Option("tenant.trusted", "trusted_tenants", _text, "TENANT",
           "A tenant who may reach everybody and be reached, as the host's owner may. Repeat it for several.",
           multiple=True),
    Option("policy.file", "policy_file", _path, "FILE", "The policy about who may reach whom, a YAML file."),
    Option("probe.sample", "probe_sample", _number_up_to(50), "N",
           "Put so many verdicts, drawn by lot after each poll, to the test by sending packets between sandboxes. "
           "0 sends none. Needs --evidence.max=sandboxes.", "0", kind="number"),
    Option("metrics.pairs", "pair_series", _number_up_to(10_000), "N",
           "Show up to so many pairs as series of docker_icc_pair: for small hosts, as n containers have n(n-1) pairs.",
           "0", kind="number"),
)  # fmt: skip

_BY_NAME = {option.name: option for option in OPTIONS}

_ONE_SOURCE = ("docker.host", "snapshot")
"""Two answers to one question, so only one of them can be given at a time."""


def load(flags: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> Config:
    """Return the settings from flags (texts by option name), the environment and the file that these name.

    Raises ConfigError with one line per mistake, all of them at once.
    """
    errors: list[str] = []
    given: dict[str, Given] = {}
    layers = [_from_flags(flags), _from_environ(environ)]
    file = next((layer[CONFIG_FILE] for layer in layers if CONFIG_FILE in layer), None)
    if file:
        layers.append(_from_file(file, errors))
    for layer in layers:
        _merge(given, layer, errors)
    values = _parse(given, errors)
    if errors:
        raise ConfigError("\n".join(errors))
    return Config(**values)


def _from_flags(flags: Mapping[str, Sequence[str]]) -> dict[str, Given]:
    return {name: Given(tuple(texts), f"--{name}") for name, texts in flags.items()}


def _from_environ(environ: Mapping[str, str]) -> dict[str, Given]:
    layer = {}
    for name in (CONFIG_FILE, *_BY_NAME):
        variable = variable_of(name)
        # compose files and units set a variable to nothing when they have no value to pass
        text = environ.get(variable, "").strip()
        if text:
            several = name in _BY_NAME and _BY_NAME[name].multiple
            layer[name] = Given(tuple(re.split(r"[,\s]+", text)) if several else (text,), variable)
    return layer


def _from_file(file: Given, errors: list[str]) -> dict[str, Given]:
    from exporter import configfile  # noqa: PLC0415 - YAML is loaded for those who use it

    path = file.texts[-1]
    keys: dict[str, Kind] = {option.name: "texts" if option.multiple else option.kind for option in OPTIONS}
    try:
        entries = configfile.read(Path(path), "configuration file", keys, errors)
    except ConfigError as error:
        errors.append(f"{file.where}: {error}")
        return {}
    return {entry.name: Given(entry.texts, f"{path}:{entry.line}: {entry.name}") for entry in entries}


def _merge(given: dict[str, Given], layer: Mapping[str, Given], errors: list[str]) -> None:
    """Add what a weaker layer says to what the stronger ones said."""
    rivals = [layer[name] for name in _ONE_SOURCE if name in layer]
    if len(rivals) > 1:
        errors.append(f"{rivals[0].where} and {rivals[1].where} exclude each other: an engine or a file")
    decided = any(name in given for name in _ONE_SOURCE)
    for name, value in layer.items():
        if name not in given and not (decided and name in _ONE_SOURCE):
            given[name] = value


def _parse(given: Mapping[str, Given], errors: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, (texts, where) in given.items():
        option = _BY_NAME.get(name)
        if not option:
            continue
        parsed = []
        for text in texts:
            try:
                parsed.append(option.parse(text))
            except ValueError as error:
                errors.append(f"{where}: {error}")
        if parsed:
            values[option.field] = tuple(dict.fromkeys(parsed)) if option.multiple else parsed[-1]
    return values
