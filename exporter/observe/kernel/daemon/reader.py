"""The engine's dockerd, what it was started with, and what it would be started with."""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING, Any, Final

from exporter.model.observation import (
    BYTE_ORDER_MARK,
    EMPTY,
    TRAILING,
    ConfigurationFile,
    DaemonDocuments,
    Flag,
)
from exporter.observe.documents import DAEMON_OPTIONS
from exporter.observe.kernel.daemon.assignments import shell_variable
from exporter.observe.kernel.daemon.flags import located, reduced
from exporter.observe.kernel.daemon.units import Word, command_line
from exporter.observe.kernel.trouble import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.observe.kernel.daemon.root import Root

CONFIGURATION: Final = "/etc/docker/daemon.json"
"""The file that dockerd reads where no `--config-file` names another."""

DEFAULTS: Final = "/etc/default/docker"
_OPTIONS: Final = "DOCKER_OPTS"
_PROGRAM: Final = "dockerd"

_INIT_SCRIPT: Final = "/etc/init.d/docker"
_INIT_SETTINGS: Final = (DEFAULTS, "/etc/conf.d/docker")
"""Where the init scripts of Debian and of Alpine (OpenRC) take DOCKER_OPTS from."""

_SYSTEMD_RUNS: Final = "/run/systemd/system"
"""Where this folder is, systemd starts services (sd_booted(3))."""

_MARK: Final = "\ufeff"
_SPREAD: Final = 200
"""Characters of a message about a file's content."""


def read_daemon(root: Root, arguments: Sequence[str], cgroup: str) -> DaemonDocuments:
    """Return what is known of a dockerd with this root folder, command line and cgroup.

    Whoever starts it next is the systemd unit whose cgroup it is in, else the init script, where systemd does not run;
    where it is neither, it is assumed to be started with the command line that it has now. Raises Unreadable.
    """
    running = arguments[1:]
    service, words, troubles = _next_start(root, running, cgroup)
    flags = [Flag(flag, words[place].origin) for flag, place in located([word.text for word in words])]
    named = [flag.flag.partition("=")[2] for flag in flags if flag.flag.startswith("--config-file=")]
    path = named[-1] if named else CONFIGURATION
    if not path.startswith("/"):
        raise Unreadable(f"{path}: which folder the daemon will be started in is not known")
    file = _configuration(root, path, chosen=bool(named))
    return DaemonDocuments(
        running=reduced(running),
        service=service,
        flags=flags,
        file=file,
        troubles=troubles,
        unused=_unused(root, words),
    )


def _next_start(root: Root, running: Sequence[str], cgroup: str) -> tuple[str, list[Word], list[str]]:
    """Return what starts the daemon, the words of its next command line without the program, and troubles."""
    unit = posixpath.basename(cgroup)
    if unit.endswith(".service") and "/user@" not in cgroup:
        words, troubles = command_line(root, unit)
        if words and posixpath.basename(words[0].text) == _PROGRAM:
            return unit, words[1:], troubles
    elif root.has(_INIT_SCRIPT) and not root.has(_SYSTEMD_RUNS):
        return _INIT_SCRIPT, _of_the_init_script(root), []
    return "", [Word(word, "the command line that it runs with") for word in running], []


def _of_the_init_script(root: Root) -> list[Word]:
    words: list[Word] = []
    for path in _INIT_SETTINGS:
        text = root.read(path)
        value = shell_variable(text, _OPTIONS) if text is not None else None
        if value is not None:
            # the scripts write $DOCKER_OPTS without quotes: the shell splits at spaces and knows no quotes there
            words = [Word(part, f"{_OPTIONS} in {path}") for part in value.split()]
    return words


def _unused(root: Root, words: Sequence[Word]) -> list[str]:
    """Return the flags in DOCKER_OPTS of the file that many look at, where nothing at the next start reads it."""
    text = root.read(DEFAULTS)
    if text is None or any(word.origin.endswith(DEFAULTS) for word in words):
        return []
    try:
        value = shell_variable(text, _OPTIONS) or ""
    except Unreadable:
        return []
    return [flag for flag in reduced(value.split()) if "=" in flag]


def _configuration(root: Root, path: str, *, chosen: bool) -> ConfigurationFile:
    """Return the configuration file; `chosen` is whether somebody asked for that one."""
    text = root.read(path)
    if text is None:
        return ConfigurationFile(path, present=False, trouble="there is no such file" if chosen else "")
    quirks = [BYTE_ORDER_MARK] if text.startswith(_MARK) else []
    content = text.removeprefix(_MARK).strip()
    if not content:
        return ConfigurationFile(path, quirks=[*quirks, EMPTY])
    try:
        document, end = json.JSONDecoder(parse_constant=_no_constant).raw_decode(content)
    except (ValueError, RecursionError) as error:
        return ConfigurationFile(path, trouble=f"is not JSON: {error}"[:_SPREAD])
    quirks += [TRAILING] if content[end:] else []
    if not isinstance(document, dict):
        return ConfigurationFile(path, trouble="" if document is None else "is not a JSON object", quirks=quirks)
    options = {key: _plain(document[key]) for key in DAEMON_OPTIONS if document.get(key) is not None}
    return ConfigurationFile(path, quirks=quirks, keys=sorted(document), options=options)


def _plain(value: Any) -> Any:  # noqa: ANN401 - as JSON has it
    """Return a value, of an object or list its kind alone: none of the options has one."""
    return type(value)() if isinstance(value, dict | list) else value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
