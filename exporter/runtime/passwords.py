"""Basic authentication (RFC 7617) against bcrypt hashes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
from typing import TYPE_CHECKING, Final

import bcrypt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

_WAITING: Final = 40
"""Passwords at most whose turn is still to come; who comes then is sent away, or they would wait for seconds."""

_BCRYPT_READS: Final = 72
"""Bytes of a password; bcrypt has never seen more, and the library refuses to be given more."""


class TooManyLogins(Exception):
    """So many passwords wait for their turn that another one would not be looked at in time."""


class Passwords:
    """Knows users by their hashes. A password that was right once is known again without hashing.

    Wrong ones are not remembered, and a name that nobody has costs the same hash as one that somebody has: neither
    the time nor the answer tells who exists. What is remembered is a keyed digest, one for each user at most.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._hashes = {name.encode(): hashed.encode() for name, hashed in users.items()}
        self._decoys = sorted(self._hashes.values())
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._waiting = 0

    async def accept(self, authorization: bytes, hasher: Executor) -> bool:
        """Return whether the value of an Authorization header is right. Raises TooManyLogins.

        `hasher` has a single thread: bcrypt takes a whole core, and whatever is asked it gets no second one.
        """
        credentials = _credentials(authorization)
        if credentials is None:
            return False
        if self._digest(b":".join(credentials)) in self._right:
            return True
        if self._waiting >= _WAITING:
            raise TooManyLogins
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(hasher, self._check, *credentials)
        finally:
            self._waiting -= 1

    def _check(self, user: bytes, password: bytes) -> bool:
        digest = self._digest(user + b":" + password)
        if digest in self._right:
            return True
        known = user in self._hashes
        # "and" would leave the hash out
        right = bcrypt.checkpw(password, self._hashes[user] if known else self._decoy(user)) & known
        if right:
            self._right.add(digest)
        return right

    def _decoy(self, user: bytes) -> bytes:
        """Return one of the hashes, for a name always the same: its cost must not tell strangers from users."""
        return self._decoys[int.from_bytes(self._digest(user), "big") % len(self._decoys)]

    def _digest(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()


def _credentials(authorization: bytes) -> tuple[bytes, bytes] | None:
    """Return user and password of `Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==`; None where it is anything else."""
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password[:_BCRYPT_READS]) if colon else None
