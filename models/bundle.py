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
from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.drift import COLUMNS, QUANTILES, Reference
from models.drift import check as check_reference
from models.features import FEATURES
from models.forest import Forest, check
from models.wire import FOREIGN, LAST_MS, brief, shown

SCHEMA_VERSION: Final = "1.0"
ARRAYS, MANIFEST, CARD = "arrays.npz", "manifest.json", "card.md"
MAX_ARRAYS_BYTES: Final = 64 << 20
"""A forest of 100 trees on 256 samples has 0.2 MB; far beyond this a file is not one of ours."""

_DTYPES: Final[dict[str, Any]] = {"nodes": np.int64, "path": np.float64, "roots": np.int32, "depths": np.int32}
_OF_REFERENCE: Final[dict[str, Any]] = {"drift_edges": np.float32, "drift_counts": np.int32, "drift_levels": np.float64}
"""Members of arrays.npz that are only there with a reference; flat, in C order. Since 2026-11-28."""
_Time = Annotated[int, msgspec.Meta(ge=0, le=LAST_MS)]
_Level = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
"""Of a statistic: none is negative, and with far more than any has the square would overflow."""
_Days = Annotated[int, msgspec.Meta(ge=0, le=10**6)]
_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class ReferenceFacts(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What `manifest.json` says of the reference in arrays.npz (`models.drift.Reference`); lists by row."""

    dmas: list[str]
    columns: list[str]
    quantiles: list[float]
    weeks: list[int]
    leak_alarms: list[int]
    judged_days: list[float]


class LeftOutWindow(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A known period that was not trained on."""

    dma: str
    from_ms: _Time
    until_ms: _Time | None
    """Recovery included; None: to the end."""
    reason: str
    what: str
    """The label's id, or what work was planned."""
    slots: int
    """Left out for it."""


class ScoreCalibration(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What later days of one DMA, which the forest was not fitted on, say of its score (`models.calibration`'s law)."""

    mean: _Level
    """Of the daily maxima of the isolation detector's statistic, over the period `calibrate`."""
    sd: _Level
    days: _Days
    return_days: float
    """Of the alert budget."""
    threshold: float
    """Passed once in `return_days`."""
    report_days: int = 0
    """Days of the period `report`, of which nothing was chosen."""
    report_alarms: int = 0
    """Of these, with a maximum above the threshold; report_days / return_days are expected."""


class DetectorCalibration(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What the days that labels leave say of one detector's statistic in one DMA (`models.calibration`'s law)."""

    mean: _Level
    """Of the daily maxima; the prior is in it and in `sd`, and fades."""
    sd: _Level
    days: _Days
    """Days and alarms learned."""
    return_days: float
    """Of the alert budget."""
    threshold: float
    """Passed once in `return_days`."""
    engine_threshold: float
    """What an engine that knows no label has learned of the same past."""
    days_excluded: int = 0
    """Left out, at least for the most part, as a label or planned work explains them."""
    alarms: int = 0
    """Learned as noise: of no label,"""
    alarms_normal: int = 0
    """and of one that calls it normal."""
    alarms_excluded: int = 0
    """Not learned: of leaks, planned work, meter faults, unknown outcomes."""

    @property
    def is_changed(self) -> bool:
        """True where labels have changed what was learned."""
        return self.threshold != self.engine_threshold


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
    """End of the last slot that anything was fitted to or chosen by, epoch ms: fit and calibration."""
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
    left_out_by_dma: dict[str, dict[str, int]] = {}
    """DMA -> reason -> slots. This and what follows since 2026-11-28."""
    left_out_hours: dict[str, dict[str, float]] = {}
    """The same as hours."""
    left_out_windows: list[LeftOutWindow] = []
    members: list[str] = []
    """DMAs whose slots the forest was fitted on: of a cluster more than the one it serves."""
    periods: dict[str, tuple[_Time, _Time]] = {}
    """`fit`, `calibrate`, `report`: ends of the first and the last slot used."""
    calibration: dict[str, ScoreCalibration] = {}
    """By DMA."""
    detectors: dict[str, dict[str, DetectorCalibration]] = {}
    """DMA -> detector's name -> what labels make of it; of those that have spoken, but the isolation forest's own."""
    search: dict[str, float] = {}
    """How the settings were found; empty where they were given."""
    reference: ReferenceFacts | None = None
    """What drift is measured against. Bundles before 2026-11-28 have none."""


@dataclass(frozen=True)
class Bundle:
    """A forest with what must be known of it before it may score."""

    manifest: Manifest
    forest: Forest
    reference: Reference | None = None
    """What drift is measured against; None of older bundles, and of those with other columns or quantiles than ours."""
    arrays: bytes | None = field(default=None, repr=False, compare=False)
    """The very arrays.npz that it was read from: what another version put there goes along where it is copied to."""

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
        """File name -> content: what workers check and score with. The card, for people, is training/card.py's."""
        manifest = msgspec.json.format(msgspec.json.encode(self.manifest), indent=2) + b"\n"
        return {ARRAYS: self.arrays or pack_arrays(self.forest, self.reference), MANIFEST: manifest}

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
        arrays = _read_arrays(files[ARRAYS], _DTYPES)
        forest = Forest(**arrays, features=len(features), denominator=manifest.denominator)
        try:
            check(forest)
        except ValueError as error:
            raise ValueError(f"bundle: {ARRAYS}: {error}") from None
        return cls(manifest, forest, _read_reference(manifest.reference, files[ARRAYS]), files[ARRAYS])


def facts_of(reference: Reference) -> ReferenceFacts:
    """What the manifest says of it."""
    return ReferenceFacts(
        dmas=list(reference.dmas), columns=list(COLUMNS), quantiles=list(QUANTILES), weeks=list(reference.weeks),
        leak_alarms=list(reference.leak_alarms), judged_days=list(reference.judged_days),
    )  # fmt: skip


def pack_arrays(forest: Forest, reference: Reference | None = None) -> bytes:
    """The bytes of arrays.npz: little-endian, not compressed, without the time of day."""
    content = BytesIO()
    members: dict[str, tuple[NDArray[Any], Any]] = {name: (getattr(forest, name), kind) for name, kind in _DTYPES.items()}
    if reference is not None:
        for name, kind in _OF_REFERENCE.items():
            members[name] = (getattr(reference, name.removeprefix("drift_")).ravel(), kind)
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, (values, dtype) in members.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # or the bytes would tell Windows from the rest
            array = BytesIO()
            little = np.dtype(dtype).newbyteorder("<")
            npy.write_array(array, np.ascontiguousarray(values, little), (1, 0), allow_pickle=False)
            archive.writestr(member, array.getvalue())
    return content.getvalue()


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


def _read_reference(facts: ReferenceFacts | None, content: bytes) -> Reference | None:
    """None where there is none, or one of another version. Raises ValueError for one that is torn."""
    if facts is None or tuple(facts.columns) != COLUMNS or tuple(facts.quantiles) != QUANTILES:
        return None
    arrays = _read_arrays(content, _OF_REFERENCE)
    rows, columns, edges = len(facts.dmas), len(COLUMNS), len(QUANTILES)
    shapes = {"drift_edges": (columns, edges), "drift_counts": (columns, edges + 1), "drift_levels": (2, columns)}
    for name, (high, wide) in shapes.items():
        if arrays[name].size != rows * high * wide:
            found = f"{name} has {arrays[name].size} numbers"
            raise ValueError(f"bundle: {ARRAYS}: {found}; possible: {rows * high * wide}, of {rows} DMAs")
        arrays[name] = arrays[name].reshape(rows, high, wide)
    reference = Reference(
        dmas=tuple(facts.dmas), edges=arrays["drift_edges"], counts=arrays["drift_counts"], levels=arrays["drift_levels"],
        weeks=tuple(facts.weeks), leak_alarms=tuple(facts.leak_alarms), judged_days=tuple(facts.judged_days),
    )  # fmt: skip
    try:
        check_reference(reference)
    except ValueError as error:
        raise ValueError(f"bundle: {ARRAYS}: {error}") from None
    return reference


def _read_arrays(content: bytes, dtypes: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """These arrays; sizes are held against the file before anything is allocated."""
    arrays = {}
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for name, dtype in dtypes.items():
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
