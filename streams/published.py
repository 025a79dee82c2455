"""A model on `models.v1`: a bundle in one message, and back.

    magic 4s | version u2 | 0 u2 | manifest length u4 | arrays length u4 | manifest.json | arrays.npz

All numbers little-endian. A message's key is its publication, `<scope>|<version>|<random>`, and no publication is ever
written to twice: compaction keeps them all, so a state of last year still finds its model, and what a control record of
`readings.v1` says of a publication is as fixed as that log. (A key that a later promotion writes to again would let the
past change: a torn model refused once would be taken by whoever reads the log after it was mended.)
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from typing import Annotated, Final

import msgspec

from models.bundle import ARRAYS, MANIFEST, Bundle
from streams.topics import RAW_LIMIT

MAGIC: Final = b"NLMB"
VERSION: Final = 1
_PREFIX: Final = struct.Struct("<4sHHII")
MODEL_LIMIT: Final = RAW_LIMIT - 64 * 1024
"""Bytes of a message; the topic's limit, less Kafka's own framing."""

_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Named(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Which model: by its name, and by its content."""

    id: _Text
    scope: _Text
    """A DMA's id, or `*`."""
    version: _Text
    sha256: _Sha256
    """Of the bundle's arrays.npz, as alerts tell it."""
    digest: _Sha256
    """Of the whole message on models.v1: manifest and arrays."""
    publication: _Text | None = None
    """Key of that message; null for a model that came with the site's folder."""


def pack_bundle(bundle: Bundle) -> bytes:
    """The message's value. Raises ValueError for a bundle that is too large for the topic."""
    files = bundle.to_files()
    manifest, arrays = files[MANIFEST], files[ARRAYS]
    value = _PREFIX.pack(MAGIC, VERSION, 0, len(manifest), len(arrays)) + manifest + arrays
    if len(value) > MODEL_LIMIT:
        raise ValueError(
            f"model {bundle.version} of {bundle.id} has {len(value):,} bytes; possible: at most {MODEL_LIMIT:,}, so fewer "
            "or smaller trees"
        )
    return value


def unpack_bundle(value: bytes) -> Bundle:
    """The bundle of `pack_bundle`'s bytes. Raises ValueError for foreign or torn bytes and whatever `Bundle` refuses."""
    if len(value) < _PREFIX.size:
        raise ValueError(f"model is torn: found {len(value)} bytes; possible: at least {_PREFIX.size}")
    magic, version, _, of_manifest, of_arrays = _PREFIX.unpack_from(value)
    if magic != MAGIC:
        raise ValueError(f"not a model: starts with {magic!r}; possible: {MAGIC!r}")
    if version != VERSION:
        raise ValueError(f"model message version: found {version}; possible: {VERSION}")
    middle = _PREFIX.size + of_manifest
    if len(value) != middle + of_arrays:
        raise ValueError(f"model is torn: found {len(value)} bytes; possible: {middle + of_arrays}")
    return Bundle.from_files({MANIFEST: value[_PREFIX.size : middle], ARRAYS: value[middle:]})


def digest_of(value: bytes) -> str:
    """SHA-256 of a message's value, in hex."""
    return hashlib.sha256(value).hexdigest()


def name_of(bundle: Bundle, publication: str | None = None) -> Named:
    """The name of a bundle, published or not. Raises ValueError for one that is too large for the topic."""
    return Named(
        id=bundle.id,
        scope=bundle.scope,
        version=bundle.version,
        sha256=bundle.sha256,
        digest=digest_of(pack_bundle(bundle)),
        publication=publication,
    )


def new_publication(bundle: Bundle) -> str:
    """A key that nobody has written to."""
    return f"{bundle.scope}|{bundle.version}|{uuid.uuid4().hex[:16]}"
