"""A trained model as files, and back: `arrays.npz`, `manifest.json`, `card.md`. Never pickle.

Nothing here touches a disk: training/registry.py keeps the files in folders. Bytes are deterministic: the same forest and
the same manifest give the same files, on every machine and day.

Evolution: within schema version 1 only optional manifest fields are added; readers ignore unknown ones. A bundle of another
major version is refused, so the one loaded before keeps serving.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.features import FEATURES
from models.forest import Forest, check
from models.wire import FOREIGN, LAST_MS, brief, shown

SCHEMA_VERSION: Final = "1.0"
ARRAYS, MANIFEST, CARD = "arrays.npz", "manifest.json", "card.md"
MAX_ARRAYS_BYTES: Final = 64 << 20
"""A forest of 100 trees on 256 samples has 0.2 MB; far beyond this a file is not one of ours."""

_DTYPES: Final[dict[str, Any]] = {"nodes": np.int64, "path": np.float64, "roots": np.int32, "depths": np.int32}
_Time = Annotated[int, msgspec.Meta(ge=0, le=LAST_MS)]
_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What `manifest.json` says of a bundle."""

    schema_version: str
    id: str
    """Names the line of models: the site's name and the scope."""
    scope: str
    """A DMA's id, or `*` for the whole site."""
    version: str
    """Derived from the data, the seed and the result, never from the clock: training again gives it again."""
    features: list[str]
    """Columns of the forest's rows, in order."""
    trained_from_ms: _Time
    """End of the first slot used, epoch ms."""
    trained_until_ms: _Time
    """End of the last slot used, epoch ms."""
    data_sha256: _Sha256
    """Of the rows trained on: float32, C order, in order of time within each DMA."""
    arrays_sha256: _Sha256
    """Of the bytes of arrays.npz."""
    code_version: str
    seed: int
    denominator: float
    """Trees times c(max_samples)."""
    settings: dict[str, int] = {}
    metrics: dict[str, float] = {}
    left_out: dict[str, int] = {}
    """Slots that were not trained on, by reason."""


@dataclass(frozen=True)
class Bundle:
    """A forest with what must be known of it before it may score."""

    manifest: Manifest
    forest: Forest

    @property
    def id(self) -> str:
        """The line of models this one belongs to."""
        return self.manifest.id

    @property
    def scope(self) -> str:
        """A DMA's id, or `*`."""
        return self.manifest.scope

    @property
    def version(self) -> str:
        """Which one of its line."""
        return self.manifest.version

    @property
    def sha256(self) -> str:
        """Hash of arrays.npz: two bundles with the same one score alike."""
        return self.manifest.arrays_sha256

    def to_files(self) -> dict[str, bytes]:
        """File name -> content."""
        manifest = msgspec.json.format(msgspec.json.encode(self.manifest), indent=2) + b"\n"
        return {ARRAYS: pack_arrays(self.forest), MANIFEST: manifest, CARD: card(self.manifest).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], features: tuple[str, ...] = FEATURES) -> Bundle:
        """The bundle of these files; `features` are those the engine computes.

        Raises ValueError, one line that says what was found and what was possible, for a missing or torn file, another
        schema version, other features, and arrays that no forest has. What it returns can be walked safely.
        """
        for name in (ARRAYS, MANIFEST):
            if name not in files:
                raise ValueError(f"bundle: {name} is missing; found: {', '.join(sorted(files)) or 'no files'}")
        manifest = _read_manifest(files[MANIFEST])
        if tuple(manifest.features) != features:
            raise ValueError(
                f"bundle: {MANIFEST}: trained on features {brief(', '.join(manifest.features))}; "
                f"possible: {', '.join(features)}, in this order"
            )
        found = hashlib.sha256(files[ARRAYS]).hexdigest()
        if found != manifest.arrays_sha256:
            raise ValueError(f"bundle: {ARRAYS}: sha256 is {found[:12]}…; {MANIFEST} says {manifest.arrays_sha256[:12]}…")
        arrays = _read_arrays(files[ARRAYS])
        forest = Forest(**arrays, features=len(features), denominator=manifest.denominator)
        try:
            check(forest)
        except ValueError as error:
            raise ValueError(f"bundle: {ARRAYS}: {error}") from None
        return cls(manifest, forest)


def pack_arrays(forest: Forest) -> bytes:
    """The bytes of arrays.npz: little-endian, not compressed, without the time of day."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, dtype in _DTYPES.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # or the bytes would tell Windows from the rest
            array = BytesIO()
            little = np.dtype(dtype).newbyteorder("<")
            npy.write_array(array, np.ascontiguousarray(getattr(forest, name), little), (1, 0), allow_pickle=False)
            archive.writestr(member, array.getvalue())
    return content.getvalue()


def card(manifest: Manifest) -> str:
    """The model's card: one page for people."""
    m = manifest
    rows = [
        ("Scope", "the whole site" if m.scope == "*" else f"DMA {m.scope}"),
        ("Version", m.version),
        ("Trained on", f"{_utc(m.trained_from_ms)} to {_utc(m.trained_until_ms)}"),
        ("Data sha256", m.data_sha256),
        ("Arrays sha256", m.arrays_sha256),
        ("Code", m.code_version),
        ("Seed", str(m.seed)),
        *((f"Setting {name}", str(value)) for name, value in m.settings.items()),
    ]
    lines = [
        f"# {m.id}, version {m.version}",
        "",
        "Isolation forest over the engine's scale-free features of one slot. It says how unlike this site's own past a slot",
        "is, not why; alone it raises no alert. Score in (0, 1], higher is stranger.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        f"Features: {', '.join(m.features)}.",
        "",
        "| metric of the training rows | |",
        "|---|---|",
        *(f"| {name} | {value:.6g} |" for name, value in m.metrics.items()),
        "",
        "| slots left out | |",
        "|---|---|",
        *(f"| {reason} | {count} |" for reason, count in m.left_out.items()),
    ]
    return "\n".join(lines) + "\n"


def _utc(epoch_ms: int) -> str:
    return f"{np.datetime64(epoch_ms // 1000, 's')}Z"


def _read_manifest(content: bytes) -> Manifest:
    try:
        version = msgspec.json.decode(content, type=dict[str, Any]).get("schemaVersion")
    except FOREIGN as error:
        raise ValueError(f"bundle: {MANIFEST}: not a JSON object: {brief(error)}") from None
    if str(version).split(".", maxsplit=1)[0] != SCHEMA_VERSION.split(".", maxsplit=1)[0]:
        raise ValueError(
            f"bundle: {MANIFEST}: schemaVersion is {shown(version)}; possible: {SCHEMA_VERSION!r} and later 1.x"
        )
    try:
        return msgspec.json.decode(content, type=Manifest)
    except FOREIGN as error:
        raise ValueError(f"bundle: {MANIFEST}: {brief(error)}") from None


def _read_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """The forest's arrays; sizes are held against the file before anything is allocated."""
    arrays = {}
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for name, dtype in _DTYPES.items():
                member = archive.getinfo(f"{name}.npy")
                if member.file_size > min(len(content), MAX_ARRAYS_BYTES):
                    raise ValueError(f"{name}.npy claims {member.file_size} bytes in a file of {len(content)}")
                arrays[name] = _read_array(archive.read(member), np.dtype(dtype))
    # Exception: on garbage, zipfile and numpy's header parser raise a dozen types that share no narrower one
    except Exception as error:
        raise ValueError(f"bundle: {ARRAYS}: {brief(error)}") from None
    return arrays


def _read_array(content: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    header = BytesIO(content)
    version = npy.read_magic(header)
    if version != (1, 0):
        raise ValueError(f"an array is in npy version {version}; possible: (1, 0)")
    shape, _, found = npy.read_array_header_1_0(header)
    body = len(content) - header.tell()
    if found != dtype.newbyteorder("<") or len(shape) != 1 or shape[0] * dtype.itemsize != body:
        raise ValueError(f"an array is {found} {shape} in {body} bytes; possible: {dtype}, one axis that fills them")
    return np.load(BytesIO(content), allow_pickle=False).astype(dtype)
