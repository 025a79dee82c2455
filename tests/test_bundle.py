import io
import zipfile

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import ARRAYS, MANIFEST, Bundle, pack_arrays
from models.features import FEATURES
from models.forest import score
from training.card import card
from training.fit import ForestSettings, fit
from training.leave_out import DATA_MISSING, EVENT_OPEN, Rows


def make(seed=0, rows=300, **settings):
    rng = np.random.default_rng(7)
    ends_ms = np.linspace(1_000_000, 9_000_000, rows).astype(np.int64)
    x = rng.normal(size=(rows, len(FEATURES))).astype(np.float32)
    found = Rows(900_000, ends_ms, x, 30.0, "Africa/Tunis", {DATA_MISSING: 5, EVENT_OPEN: 3})
    forest = ForestSettings(**{"trees": 10, "max_samples": 64, **settings})
    return fit("testville", "*", {"A": found}, seed=seed, settings=forest).bundle


@pytest.fixture(scope="module")
def files():
    return make().to_files()


def changed(files, **manifest):
    """The files with other entries in the manifest; None removes one."""
    entries = msgspec.json.decode(files[MANIFEST])
    entries = {name: value for name, value in {**entries, **manifest}.items() if value is not None}
    return {**files, MANIFEST: msgspec.json.encode(entries)}


def with_arrays(files, content):
    """The files with another arrays.npz, and a manifest that vouches for it."""
    import hashlib  # noqa: PLC0415 - only here

    return changed({**files, ARRAYS: content}, arraysSha256=hashlib.sha256(content).hexdigest())


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def arrays_of(files):
    with np.load(io.BytesIO(files[ARRAYS]), allow_pickle=False) as loaded:
        return dict(loaded)


def test_a_bundle_survives_the_way_through_its_files(files):
    bundle = make()
    again = Bundle.from_files(files)
    assert again.manifest == bundle.manifest
    x = np.random.default_rng(1).normal(size=(99, len(FEATURES))).astype(np.float32)
    np.testing.assert_array_equal(score(again.forest, x), score(bundle.forest, x))
    assert again.to_files() == files


def test_the_same_data_and_seed_give_the_same_bytes_and_another_seed_does_not(files):
    assert make().to_files() == files
    other = make(seed=1)
    assert other.to_files()[ARRAYS] != files[ARRAYS]
    assert other.version != Bundle.from_files(files).version


def test_arrays_open_with_numpy_alone_and_hold_no_pickle(files):
    arrays = arrays_of(files)
    assert {name: array.dtype.kind for name, array in arrays.items()} == {
        "nodes": "i",
        "path": "f",
        "roots": "i",
        "depths": "i",
        "drift_edges": "f",
        "drift_counts": "i",
        "drift_levels": "f",
    }


def test_the_archive_knows_no_time_of_day(files):
    with zipfile.ZipFile(io.BytesIO(files[ARRAYS])) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_card_names_version_seed_and_features(files):
    manifest = Bundle.from_files(files).manifest
    text = card(manifest)
    assert manifest.version in text
    assert "| Seed | 0 |" in text
    assert "flow_z_slope_3h" in text
    assert "1970-01-01T00:16:40Z to 1970-01-01T02:30:00Z" in text
    assert "| data missing | 5 | 1 |" in text


def test_unknown_manifest_entries_of_a_later_minor_version_are_ignored(files):
    assert Bundle.from_files(changed(files, schemaVersion="1.7", threshold=0.6)).manifest.schema_version == "1.7"


@pytest.mark.parametrize("missing", [ARRAYS, MANIFEST])
def test_a_missing_file_is_named(files, missing):
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        Bundle.from_files({name: content for name, content in files.items() if name != missing})


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ({"schemaVersion": "2.0"}, r"schemaVersion is '2.0'; possible: '1.0'"),
        ({"schemaVersion": None}, "schemaVersion is None"),
        ({"features": ["flow_z"]}, "trained on features flow_z; possible: flow_z, flow_z_mean_1h"),
        ({"features": list(reversed(FEATURES))}, "in this order"),
        ({"seed": "one"}, r"Expected `int`, got `str` - at `\$.seed`"),
        ({"version": None}, "missing required field `version`"),
        ({"arraysSha256": "0" * 64}, "sha256 is"),
        ({"arraysSha256": "zz"}, "arraysSha256"),
        ({"denominator": -1.0}, "denominator is -1.0"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(files, entries, fault):
    with pytest.raises(ValueError, match=fault) as error:
        Bundle.from_files(changed(files, **entries))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_no_json_object_is_refused(files, content):
    with pytest.raises(ValueError, match="not a JSON object"):
        Bundle.from_files({**files, MANIFEST: content})


@pytest.mark.parametrize("at", [0, 100, -1])
def test_one_flipped_bit_in_the_arrays_is_noticed(files, at):
    torn = bytearray(files[ARRAYS])
    torn[at] ^= 1
    with pytest.raises(ValueError, match="sha256"):
        Bundle.from_files({**files, ARRAYS: bytes(torn)})


def test_arrays_that_are_vouched_for_but_no_forest_are_refused(files):
    good = arrays_of(files)
    cyclic = good["nodes"].copy()
    cyclic[1] = 1 << 32  # its child is the root
    for content, fault in [
        (b"", "not a zip file"),
        (b"PK", "not a zip file"),
        (npz(**{name: array for name, array in good.items() if name != "path"}), "path.npy"),
        (npz(**{**good, "nodes": cyclic}), "does not come after it"),
        (npz(**{**good, "nodes": good["nodes"].astype(np.float64)}), "an array is float64"),
        (npz(**{**good, "path": good["path"].reshape(1, -1)}), "one axis"),
        (npz(**{**good, "depths": good["depths"] + 1}), "says depth"),
        (npz(**{**good, "roots": good["roots"][:-1]}), "must rise"),
        (npz(**{**good, "path": np.array([{}], dtype=object)}), "an array is object"),
    ]:
        with pytest.raises(ValueError, match=fault) as error:
            Bundle.from_files(with_arrays(files, content))
        assert str(error.value).startswith("bundle: arrays.npz: ")


def test_an_array_that_claims_more_than_its_file_holds_is_refused_before_it_is_allocated(files):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (1 << 50,)})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("nodes.npy", header.getvalue() + bytes(64))
    with pytest.raises(ValueError, match="in 64 bytes"):
        Bundle.from_files(with_arrays(files, content.getvalue()))


def test_an_archive_that_would_unpack_to_more_than_it_holds_is_refused(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("nodes.npy", bytes(50_000_000))
    with pytest.raises(ValueError, match="claims 50000000 bytes"):
        Bundle.from_files(with_arrays(files, content.getvalue()))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_corrupt_archive_is_refused_or_can_be_walked(files, data):
    content = bytearray(files[ARRAYS])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        bundle = Bundle.from_files(with_arrays(files, bytes(content)))
    except ValueError:
        return
    assert np.isfinite(score(bundle.forest, np.zeros((9, len(FEATURES)), np.float32))).all()


def test_packing_does_not_depend_on_the_arrays_memory_layout(files):
    bundle = Bundle.from_files(files)
    spread = np.repeat(bundle.forest.path, 2)[::2]
    assert pack_arrays(bundle.forest._replace(path=spread), bundle.reference) == files[ARRAYS]


@pytest.mark.parametrize(
    "manifest", [b"[" * 50_000, b'{"schemaVersion":"1.0","later":' + b"[" * 50_000 + b"]" * 50_000 + b"}"]
)
def test_a_manifest_nested_too_deeply_is_refused(files, manifest):
    with pytest.raises(ValueError, match=r"bundle: manifest\.json"):
        Bundle.from_files({**files, MANIFEST: manifest})


@pytest.mark.parametrize(
    "manifest",
    [{"features": ["a\nb\u2028"] * 999}, {"schemaVersion": "9\n" * 999}, {"seed": "a\nb" * 999}, {"arraysSha256": "a\n"}],
)
def test_the_reason_is_one_line_whatever_the_manifest_says(files, manifest):
    with pytest.raises(ValueError, match="bundle") as refused:
        Bundle.from_files(changed(files, **manifest))
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("time_ms", [-1, 2**62, 10**30])
def test_a_time_that_the_card_cannot_show_is_refused(files, time_ms):
    entries = msgspec.json.decode(files[MANIFEST]) | {"trainedFromMs": "TIME"}
    content = msgspec.json.encode(entries).replace(b'"TIME"', b"%d" % time_ms)
    with pytest.raises(ValueError, match=r"manifest\.json: .*trainedFromMs"):
        Bundle.from_files({**files, MANIFEST: content})
