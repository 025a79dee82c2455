import shutil

import pytest

from models.bundle import ARRAYS, MANIFEST
from models.config import ConfigError
from tests.test_bundle import changed, make
from training import registry


@pytest.fixture(scope="module")
def old():
    return make(seed=0)


@pytest.fixture(scope="module")
def new():
    return make(seed=1)


def one_line(error):
    return "\n" not in str(error.value) and len(error.value.faults) == 1


def test_a_saved_bundle_is_found_again_under_its_version(tmp_path, old):
    folder = registry.save(tmp_path, old)
    assert folder == tmp_path / "models" / "site" / old.version
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", "card.md", "manifest.json"]
    assert registry.load(tmp_path, "*", old.version).manifest == old.manifest
    assert registry.versions(tmp_path, "*") == [old.version]


def test_saving_the_same_bundle_again_changes_nothing(tmp_path, old):
    folder = registry.save(tmp_path, old)
    before = (folder / MANIFEST).stat().st_mtime_ns
    assert registry.save(tmp_path, old) == folder
    assert (folder / MANIFEST).stat().st_mtime_ns == before
    assert [path.name for path in folder.parent.iterdir()] == [old.version]


def test_a_version_is_never_overwritten_with_other_content(tmp_path, old):
    folder = registry.save(tmp_path, old)
    (folder / MANIFEST).write_text("edited")
    with pytest.raises(ConfigError, match="with other content") as error:
        registry.save(tmp_path, old)
    assert one_line(error)


def test_nobody_is_champion_before_a_promotion(tmp_path, old):
    assert registry.champion(tmp_path, "*") is None
    registry.save(tmp_path, old)
    assert registry.champion(tmp_path, "*") is None
    assert registry.champion(tmp_path, "A") is None


def test_promotion_changes_the_champion_and_promoting_an_older_version_rolls_back(tmp_path, old, new):
    for bundle in (old, new):
        registry.save(tmp_path, bundle)
        registry.promote(tmp_path, bundle.version)
        assert registry.champion(tmp_path, "*").version == bundle.version
    registry.promote(tmp_path, old.version)
    assert registry.champion(tmp_path, "*").version == old.version
    assert (tmp_path / "models" / "site" / "champion").read_text() == f"{old.version}\n"


def test_a_challenger_stands_beside_the_champion(tmp_path, old, new):
    for bundle, alias in ((old, "champion"), (new, "challenger")):
        registry.save(tmp_path, bundle)
        registry.promote(tmp_path, bundle.version, alias=alias)
    assert registry.champion(tmp_path, "*").version == old.version
    assert registry.aliased(tmp_path, "*", "challenger").version == new.version


def test_a_promotion_leaves_no_temporary_files(tmp_path, old):
    registry.save(tmp_path, old)
    registry.promote(tmp_path, old.version)
    assert sorted(p.name for p in (tmp_path / "models" / "site").iterdir()) == sorted([old.version, "champion"])


@pytest.mark.parametrize("version", ["nothing", "../site", "", "0123456789ab"])
def test_a_version_that_is_not_there_is_refused_with_what_is(tmp_path, old, version):
    registry.save(tmp_path, old)
    with pytest.raises(ConfigError, match=f"is not there; (nearest|possible): '?{old.version}") as error:
        registry.promote(tmp_path, version)
    assert one_line(error)
    assert registry.champion(tmp_path, "*") is None


def test_a_torn_version_cannot_be_promoted_and_the_champion_keeps_serving(tmp_path, old, new):
    registry.save(tmp_path, old)
    registry.promote(tmp_path, old.version)
    folder = registry.save(tmp_path, new)
    (folder / ARRAYS).write_bytes((folder / ARRAYS).read_bytes()[:-7])
    with pytest.raises(ConfigError, match="sha256") as error:
        registry.promote(tmp_path, new.version)
    assert one_line(error)
    assert registry.champion(tmp_path, "*").version == old.version


def test_a_torn_champion_is_an_error_that_names_the_alias_and_not_a_silent_start_without(tmp_path, old):
    folder = registry.save(tmp_path, old)
    registry.promote(tmp_path, old.version)
    (folder / MANIFEST).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"champion: .*manifest.json: not a JSON object") as error:
        registry.champion(tmp_path, "*")
    assert one_line(error)


def test_an_alias_that_leads_nowhere_is_an_error(tmp_path, old):
    folder = registry.save(tmp_path, old)
    registry.promote(tmp_path, old.version)
    shutil.rmtree(folder)
    with pytest.raises(ConfigError, match="is not there"):
        registry.champion(tmp_path, "*")


def test_a_folder_that_was_renamed_by_hand_is_noticed(tmp_path, old):
    folder = registry.save(tmp_path, old)
    folder.rename(folder.with_name("0" * 12))
    with pytest.raises(ConfigError, match=f"found version '{old.version}' of scope '\\*'"):
        registry.load(tmp_path, "*", "0" * 12)


def test_a_bundle_of_another_schema_is_refused(tmp_path, old):
    folder = registry.save(tmp_path, old)
    (folder / MANIFEST).write_bytes(changed(old.to_files(), schemaVersion="2.0")[MANIFEST])
    with pytest.raises(ConfigError, match=r"schemaVersion is '2\.0'"):
        registry.load(tmp_path, "*", old.version)


@pytest.mark.parametrize("scope", ["site", "..", ".", "*"])
def test_scopes_cannot_be_mistaken_for_each_other_nor_lead_out_of_the_registry(tmp_path, scope):
    folder = registry.scope_folder(tmp_path, scope)
    assert folder.parent == tmp_path / "models"
    assert folder.name == ("site" if scope == "*" else f"dma-{scope}")
    assert folder.resolve().parent == (tmp_path / "models").resolve()
