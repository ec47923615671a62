"""The web configuration file, in the format of Prometheus' exporter-toolkit: TLS, headers, passwords, rate limit.

Keys, defaults and Go's names for versions, ciphers and curves are those of exporter-toolkit's web-configuration.md.
What Python's ssl module cannot do is refused by name, so that nothing written there is without effect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from exporter.configfile import Entry
    from exporter.yamlfile import Kind

Parsed = TypeVar("Parsed")

VERSIONS: Final = ("TLS10", "TLS11", "TLS12", "TLS13")
"""From the oldest to the newest."""

OUTDATED: Final = ("TLS10", "TLS11")
"""Versions that libraries speak when they are told to, and not otherwise."""

CIPHERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    }
)
"""Go's names of cipher suites up to TLS 1.2 (crypto/tls, CipherSuites) by OpenSSL's."""

CIPHERS_OF_TLS13: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""May be named and are always on where TLS 1.3 is, here as in Go."""

CURVES: Final[Mapping[str, str]] = MappingProxyType(
    {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
)
"""Go's names of curves by OpenSSL's."""

UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
"""Policies that take a client's certificate without verifying it, which Python's ssl module does not do."""

OPTIONAL: Final = "VerifyClientCertIfGiven"
REQUIRED: Final = "RequireAndVerifyClientCert"
_NONE: Final = "NoClientCert"

HEADERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Content-Security-Policy": (),
        "Strict-Transport-Security": (),
        "X-Content-Type-Options": ("nosniff",),
        "X-Frame-Options": ("deny", "sameorigin"),
        "X-XSS-Protection": (),
    }
)
"""Headers that can be set, by the values that they may have; none is any value."""

_TLS: Final = "tls_server_config"
_HEADERS: Final = "http_server_config.headers"
_USERS: Final = "basic_auth_users"

KEYS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        f"{_TLS}.cert": "secret",
        f"{_TLS}.key": "secret",
        f"{_TLS}.client_ca": "secret",
        f"{_TLS}.cert_file": "text",
        f"{_TLS}.key_file": "text",
        f"{_TLS}.client_ca_file": "text",
        f"{_TLS}.client_auth_type": "text",
        f"{_TLS}.client_allowed_sans": "texts",
        f"{_TLS}.min_version": "text",
        f"{_TLS}.max_version": "text",
        f"{_TLS}.cipher_suites": "texts",
        f"{_TLS}.prefer_server_cipher_suites": "switch",
        f"{_TLS}.curve_preferences": "texts",
        "http_server_config.http2": "switch",
        **{f"{_HEADERS}.{name}": "words" for name in HEADERS},
        f"{_USERS}.*": "secret",
        "rate_limit.interval": "duration",
        "rate_limit.burst": "number",
    }
)
"""Every key by what may stand there."""

_HASH = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
_HEADER = re.compile(r"[\x20-\x7e]*")
_DURATION_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 86400.0
_LARGEST_BURST = 1_000_000


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate or key: in a file, or written into the configuration. `where` begins messages about it."""

    where: str
    file: Path | None = None
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """How to speak TLS; names are Go's. `ciphers` and `curve` are empty where the library chooses."""

    cert: Pem
    key: Pem
    client_ca: Pem | None = None
    client_auth: str = _NONE
    allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    ciphers: tuple[str, ...] = ()
    prefer_server_ciphers: bool = True
    curve: str = ""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One request per `interval` seconds, and `burst` at once."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What a web configuration file says. `users` are bcrypt hashes by name; none means that nobody is asked."""

    tls: TlsConfig | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    users: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    rate_limit: RateLimit | None = None


def read(path: Path) -> WebConfig:
    """Return what a file says; certificates and keys are named, not yet read.

    Raises ConfigError with one line per mistake, each with file, line and key.
    """
    from exporter import configfile  # noqa: PLC0415 - YAML is loaded for those who use it

    errors: list[str] = []
    entries = configfile.read(path, "web configuration file", KEYS, errors)
    config = _Reader(path, {entry.name: entry for entry in entries}, errors).config()
    if errors:
        raise ConfigError("\n".join(errors))
    return config


class _Mistake(Exception):
    """A mistake in one value; its text ends the message."""


class _Reader:
    """From entries to values. A value with a mistake is complained of and replaced by its default."""

    def __init__(self, path: Path, entries: Mapping[str, Entry], errors: list[str]) -> None:
        self._path = path
        self._entries = entries
        self._errors = errors

    def config(self) -> WebConfig:
        return WebConfig(self._tls(), self._headers(), self._users(), self._rate_limit())

    def _tls(self) -> TlsConfig | None:
        if not any(name.startswith(f"{_TLS}.") for name in self._entries):
            return None
        lowest, highest = self._versions()
        ciphers, lowest = self._ciphers(lowest, highest)
        client_ca, client_auth, allowed_sans = self._client_auth()
        return TlsConfig(
            cert=self._needed_pem("cert"),
            key=self._needed_pem("key"),
            client_ca=client_ca,
            client_auth=client_auth,
            allowed_sans=allowed_sans,
            min_version=lowest,
            max_version=highest,
            ciphers=ciphers,
            prefer_server_ciphers=self._text(f"{_TLS}.prefer_server_cipher_suites", "true") == "true",
            curve=self._value(f"{_TLS}.curve_preferences", _curve, ""),
        )

    def _pem(self, name: str) -> Pem | None:
        """Return what is at a key or in the file at its neighbour `…_file`; an empty text is none."""
        inline, file = f"{_TLS}.{name}", f"{_TLS}.{name}_file"
        text, path = self._text(inline), self._text(file)
        if text and path:
            self._complain(inline, f"and {file} exclude each other")
        if path:
            return Pem(self._where(file), file=self._path.parent / path)
        return Pem(self._where(inline), text=text) if text else None

    def _needed_pem(self, name: str) -> Pem:
        pem = self._pem(name)
        if pem is None and not self._complained(f"{_TLS}.{name}") and not self._complained(f"{_TLS}.{name}_file"):
            line = min(entry.line for key, entry in self._entries.items() if key.startswith(f"{_TLS}."))
            self._errors.append(f"{self._path}:{line}: {_TLS} needs {name}_file or {name}")
        return pem or Pem("")

    def _versions(self) -> tuple[str, str]:
        lowest = self._value(f"{_TLS}.min_version", _version, "TLS12")
        highest = self._value(f"{_TLS}.max_version", _version, "TLS13")
        if VERSIONS.index(lowest) > VERSIONS.index(highest):
            key = f"{_TLS}.min_version" if f"{_TLS}.min_version" in self._entries else f"{_TLS}.max_version"
            self._complain(key, f"leaves no version: min_version is {lowest}, max_version {highest}")
        return lowest, highest

    def _ciphers(self, lowest: str, highest: str) -> tuple[tuple[str, ...], str]:
        """Return the suites up to TLS 1.2, and the lowest version that has one of all that are named."""
        name = f"{_TLS}.cipher_suites"
        named: tuple[str, ...] = self._value(name, _cipher_suites, ())
        older = tuple(suite for suite in named if suite in CIPHERS)
        if not named or older:
            return older, lowest
        if highest != "TLS13":
            self._complain(name, f"names suites of TLS 1.3 only, and max_version is {highest}")
        return (), "TLS13"

    def _client_auth(self) -> tuple[Pem | None, str, tuple[str, ...]]:
        name, sans = f"{_TLS}.client_auth_type", f"{_TLS}.client_allowed_sans"
        policy = self._value(name, _client_auth_type, _NONE)
        understood = not self._complained(name)
        authority = self._pem("client_ca")
        if understood and authority and policy == _NONE:
            self._errors.append(f"{authority.where} needs client_auth_type {REQUIRED}: without, no client is asked")
        if policy != _NONE and not authority:
            self._complain(name, f"{policy} needs client_ca_file or client_ca")
        if understood and sans in self._entries and policy != REQUIRED:
            self._complain(sans, f"needs client_auth_type {REQUIRED}: other clients may come without a certificate")
        entry = self._entries.get(sans)
        return authority, policy, entry.texts if entry else ()

    def _headers(self) -> Mapping[str, str]:
        texts = {
            name: self._value(f"{_HEADERS}.{name}", partial(_header, allowed), "") for name, allowed in HEADERS.items()
        }
        return MappingProxyType({name: text for name, text in texts.items() if text})

    def _users(self) -> Mapping[str, str]:
        users = {}
        for name in self._entries:
            if name.startswith(f"{_USERS}."):
                user = name.removeprefix(f"{_USERS}.")
                if ":" in user:
                    self._complain(name, "is no name that a client can send: it holds a colon")
                users[user] = self._value(name, _hash, "")
        return MappingProxyType(users)

    def _rate_limit(self) -> RateLimit | None:
        interval = self._value("rate_limit.interval", _duration, 0.0)
        burst = self._value("rate_limit.burst", _burst, 0)
        if interval and not burst and not self._complained("rate_limit.burst"):
            if "rate_limit.burst" in self._entries:
                self._complain("rate_limit.burst", f"must be from 1 to {_LARGEST_BURST}, not 0: nobody would get in")
            else:
                self._complain("rate_limit.interval", "needs rate_limit.burst: how many requests may come at once")
        return RateLimit(interval, burst) if interval else None

    def _text(self, name: str, default: str = "") -> str:
        entry = self._entries.get(name)
        return entry.texts[0] if entry else default

    def _value(self, name: str, parse: Callable[[tuple[str, ...]], Parsed], default: Parsed) -> Parsed:
        entry = self._entries.get(name)
        if entry is None:
            return default
        try:
            return parse(entry.texts)
        except _Mistake as mistake:
            self._complain(name, str(mistake))
            return default

    def _complained(self, name: str) -> bool:
        """Return whether something was wrong at a key, so that it looks as if it were not there."""
        return any(f": {name} " in error for error in self._errors)

    def _where(self, name: str) -> str:
        return f"{self._path}:{self._entries[name].line}: {name}"

    def _complain(self, name: str, problem: str) -> None:
        self._errors.append(f"{self._where(name)} {problem}")


def _version(texts: tuple[str, ...]) -> str:
    return _one_of(VERSIONS, texts[0])


def _cipher_suites(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_one_of((*CIPHERS, *CIPHERS_OF_TLS13), text) for text in texts)


def _curve(texts: tuple[str, ...]) -> str:
    names = [_one_of(tuple(CURVES), text) for text in texts]
    if len(names) > 1:
        raise _Mistake("may name one curve only: Python's ssl module cannot set several")
    return names[0]


def _client_auth_type(texts: tuple[str, ...]) -> str:
    if texts[0] in UNVERIFIED:
        raise _Mistake(
            f"{texts[0]} is not possible: Python's ssl module verifies every certificate that it takes "
            f"(write {REQUIRED} or {OPTIONAL})"
        )
    return _one_of((_NONE, OPTIONAL, REQUIRED), texts[0])


def _header(allowed: tuple[str, ...], texts: tuple[str, ...]) -> str:
    text = texts[0]
    if not _HEADER.fullmatch(text):
        raise _Mistake("may hold printable ASCII only")
    return _one_of(allowed, text) if allowed and text else text


def _hash(texts: tuple[str, ...]) -> str:
    if not _HASH.fullmatch(texts[0]):
        # the text may be a password that somebody forgot to hash
        raise _Mistake('is not a bcrypt hash (htpasswd -nBC 10 "" makes one)')
    return texts[0]


def _duration(texts: tuple[str, ...]) -> float:
    """Return the seconds of a duration as Go writes them."""
    text = texts[0]
    if text == "0":
        return 0.0
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise _Mistake(f"is not a duration: {text!r} (write 1s, 1m30s or 250ms)")
    seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise _Mistake(f"must be 24h at most, not {text}")
    return seconds


def _burst(texts: tuple[str, ...]) -> int:
    """Return how many may come at once; 0 goes with an interval of 0, which is no limit."""
    text = texts[0]
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST_BURST))):
        raise _Mistake(f"must be a number from 1 to {_LARGEST_BURST}, not {text}")
    if int(text) > _LARGEST_BURST:
        raise _Mistake(f"must be from 1 to {_LARGEST_BURST}, not {text}")
    return int(text)


def _one_of(choices: tuple[str, ...], text: str) -> str:
    if text in choices:
        return text
    close = get_close_matches(text, choices, n=1)
    hint = f" (did you mean {close[0]}?)" if close else f" (one of {', '.join(choices)})"
    raise _Mistake(f"cannot be {text!r}{hint}")
