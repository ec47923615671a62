"""Basic authentication (RFC 7617) against bcrypt hashes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import bcrypt

from exporter.runtime.turns import Turns, origin_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

_BCRYPT_READS: Final = 72
"""Bytes of a password; bcrypt has never seen more, and the library refuses to be given more."""

_NOBODY: Final[Mapping[bytes, bytes]] = MappingProxyType({})


class Passwords:
    """Knows users by their hashes. A password that was right once is known again without hashing.

    Wrong ones are not remembered, and a name that nobody has costs the same hash as one that somebody has: neither
    the time nor the answer tells who exists. What is remembered is a digest with a `key`, one for each user at most.
    """

    def __init__(self, users: Mapping[str, str], key: bytes = b"", right: Mapping[bytes, bytes] = _NOBODY) -> None:
        self._hashes = {name.encode(): hashed.encode() for name, hashed in users.items()}
        self._decoys = sorted(self._hashes.values())
        self._key = key or secrets.token_bytes(32)
        self._right = dict(right)
        self._checks: dict[bytes, asyncio.Task[bool]] = {}
        self._turns = Turns()

    def of(self, users: Mapping[str, str]) -> Passwords:
        """Return the same for other users. Who is among these, and has the hash that he had, is known as before."""
        same = {name.encode() for name, hashed in users.items() if self._hashes.get(name.encode()) == hashed.encode()}
        right = {user: digest for user, digest in self._right.copy().items() if user in same}
        return Passwords(users, self._key, right)

    async def accept(self, authorization: bytes, host: str, hasher: Executor) -> bool:
        """Return whether the value of an Authorization header, from an address, is right. Raises TooMany.

        `hasher` has a single thread: bcrypt takes a whole core, and whatever is asked it gets no second one. Who says
        what somebody else is just being looked at for waits with him.
        """
        credentials = _credentials(authorization)
        if credentials is None:
            return False
        digest = self._digest(b":".join(credentials))
        if self._right.get(credentials[0]) == digest:
            return True
        check = self._checks.get(digest)
        if check is None:
            check = asyncio.create_task(self._checked(credentials, origin_of(host), hasher))
            self._checks[digest] = check
            check.add_done_callback(lambda _: self._checks.pop(digest))
        return await asyncio.shield(check)

    async def _checked(self, credentials: tuple[bytes, bytes], origin: str, hasher: Executor) -> bool:
        async with self._turns.turn(origin):
            return await asyncio.get_running_loop().run_in_executor(hasher, self._check, *credentials)

    def _check(self, user: bytes, password: bytes) -> bool:
        known = user in self._hashes
        # "and" would leave the hash out
        right = bcrypt.checkpw(password, self._hashes[user] if known else self._decoy(user)) & known
        if right:
            self._right[user] = self._digest(user + b":" + password)
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
