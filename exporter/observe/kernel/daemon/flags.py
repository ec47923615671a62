"""dockerd's command line, as pflag reads it, reduced to what matters here (moby: cmd/dockerd/config_unix.go).

Of a flag that decides who reaches whom the value is kept, of every other one the name alone: a flag and a key of the
configuration file may exclude each other whatever they say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BOOLEANS: Final = frozenset({
    "allow-direct-routing", "cri-containerd", "debug", "disable-legacy-registry", "experimental", "help", "icc", "init",
    "ip-forward", "ip-forward-no-drop", "ip-masq", "ip6tables", "iptables", "ipv6", "live-restore", "no-new-privileges",
    "raw-logs", "rootless", "selinux-enabled", "swarm-enabled", "tls", "tlsverify", "userland-proxy", "validate",
    "version",
})  # fmt: skip
"""Flags that take no value from the next word (pflag's NoOptDefVal): `--icc false` is `--icc` and a stray word."""

VALUED: Final = frozenset({
    "icc", "iptables", "ip6tables", "ipv6", "userland-proxy", "live-restore", "ip-masq", "ip-forward", "bridge", "bip",
    "firewall-backend", "config-file",
})  # fmt: skip
"""Flags whose value decides something here."""

_SHORT: Final = {
    "D": "debug", "H": "host", "G": "group", "b": "bridge", "g": "graph", "h": "help", "l": "log-level",
    "p": "pidfile", "s": "storage-driver", "v": "version",
}  # fmt: skip

STRAY: Final = "…"
"""Stands for a word that belongs to no flag."""


def reduced(words: Sequence[str]) -> list[str]:
    """Return the flags of a command line without its program: `--icc=false`, `--host`, and STRAY for other words."""
    return [flag for flag, _ in located(words)]


def located(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield the same with the place of the word that each begins in."""
    rest = iter(enumerate(words))
    for place, word in rest:
        if word == "--":
            yield from ((STRAY, later) for later, _ in rest)
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield _flag(name, value if equals else _value(name, rest)), place
        elif word.startswith("-") and word != "-":
            yield from ((flag, place) for flag in _shorthands(word[1:], rest))
        else:
            yield (word if word.lower() in ("true", "false") else STRAY), place


def _shorthands(letters: str, rest: Iterator[tuple[int, str]]) -> Iterator[str]:
    """Yield the flags of a word such as `-D`, `-bnone`, `-b=none`, `-b none` or `-DH fd://`."""
    while letters:
        name = _SHORT.get(letters[0], letters[0])
        letters = letters[1:]
        if name in BOOLEANS and not letters.startswith("="):
            yield _flag(name, "true")
            continue
        yield _flag(name, letters.removeprefix("=") or _value(name, rest))
        return


def _value(name: str, rest: Iterator[tuple[int, str]]) -> str:
    return "true" if name in BOOLEANS else next(rest, (0, ""))[1]


def _flag(name: str, value: str) -> str:
    return f"--{name}={value}" if name in VALUED else f"--{name}"
