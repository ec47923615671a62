"""The front door: what a web configuration file says, ready for use, and renewed when a file of it changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter import webconfig
from exporter.errors import ConfigError
from exporter.runtime import tls
from exporter.runtime.bucket import Bucket
from exporter.runtime.passwords import Passwords
from exporter.webconfig import WebConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.runtime.tls import Tls

Sight = tuple[int, ...] | None
"""What changes with a file: device, inode, size and times; None where there is none."""


@dataclass(frozen=True, slots=True)
class Front:
    """How clients are received; without anything in it, everybody is."""

    tls: Tls | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    passwords: Passwords | None = None
    bucket: Bucket | None = None


class FrontFile:
    """A web configuration file, or none. `front` is what it said when it was last good."""

    def __init__(self, path: Path | None) -> None:
        """Read it. Raises ConfigError."""
        self._config, self.front = WebConfig(), Front()
        self.follow(path)

    def follow(self, path: Path | None) -> None:
        """Read this file, and from now on look at it. Raises ConfigError: the front stays until the file is good."""
        self.path = path
        self._seen: dict[Path, Sight] = {}
        self._read()

    def changed(self) -> bool:
        """Read everything again if a file of it has changed, and return whether that was so.

        Raises ConfigError where what is there now is wrong: the front stays as it was, until the next change.
        """
        if all(_sight(path) == seen for path, seen in self._seen.items()):
            return False
        self._read()
        return True

    def _read(self) -> None:
        try:
            config = self._content()
            self.front = self._prepared(config)
        except (OSError, ValueError) as error:
            # such as descriptors that run short: no reason to end for who serves by what was read before
            raise ConfigError(f"{self.path}: {error}") from error
        self._config = config

    def _content(self) -> WebConfig:
        if self.path is None:
            return WebConfig()
        # each is seen before it is read: what changes in between will be read again
        self._seen = {path: _sight(path) for path in (self.path, *self._seen)}
        config = webconfig.read(self.path)
        self._seen = {self.path: self._seen[self.path]} | {path: _sight(path) for path in _files(config)}
        return config

    def _prepared(self, config: WebConfig) -> Front:
        """Make a front of the settings; what counts requests and who is known go on where nothing changed."""
        passwords, bucket = self.front.passwords, self.front.bucket
        if not config.users:
            passwords = None
        elif config.users != self._config.users:
            passwords = passwords.of(config.users) if passwords else Passwords(config.users)
        if config.rate_limit != self._config.rate_limit:
            bucket = Bucket(config.rate_limit, time.monotonic) if config.rate_limit else None
        return Front(
            tls=tls.build(config.tls) if config.tls else None,
            headers=tuple((name.lower().encode(), text.encode()) for name, text in config.headers.items()),
            passwords=passwords,
            bucket=bucket,
        )


def _files(config: WebConfig) -> Iterator[Path]:
    """Yield the files that a configuration names."""
    if config.tls:
        for pem in (config.tls.cert, config.tls.key, config.tls.client_ca):
            if pem and pem.file:
                yield pem.file


def _sight(path: Path) -> Sight:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
