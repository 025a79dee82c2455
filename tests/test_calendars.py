"""A site's holidays: by its country's rules, by its own file, and what nobody knows."""

from __future__ import annotations

from datetime import date

import pytest
from click.testing import CliRunner

from models.calendar import LAST_YEAR
from models.config import ConfigError
from nightline.calendars import rules_of
from nightline.check_config import check_config
from nightline.import_ import import_
from nightline.sites import load_site
from tests.synthetic import NETWORK_TOML, SITE_TOML


def make(folder, calendar="", own=None):
    (folder / "site.toml").write_text(SITE_TOML + calendar, encoding="utf-8")
    (folder / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    if own is not None:
        (folder / "holidays.csv").write_text(own, encoding="utf-8")
    return folder


def test_a_country_has_its_holidays_decades_ahead():
    """Oracle: Easter Mondays and fixed days from an almanac."""
    classes = rules_of("IT", None).classes
    for day in (date(2021, 4, 5), date(2022, 4, 18), date(2023, 12, 26), date(2050, 4, 11), date(LAST_YEAR, 12, 25)):
        assert classes[day] == "holiday"
    assert date(2021, 6, 1) not in classes


def test_a_subdivision_adds_its_own():
    assert date(2024, 6, 29) in rules_of("IT", "RM").classes  # Peter and Paul, of Rome
    assert date(2024, 6, 29) not in rules_of("IT", None).classes


def test_make_up_workdays_of_china_are_known_and_it_is_said_until_when():
    found = rules_of("CN", None)
    assert found.classes[date(2024, 10, 12)] == "workday"
    assert found.classes[date(2024, 10, 1)] == "holiday"
    assert "make-up workdays of CN are known to 20" in found.notes[0]


def test_dates_that_follow_the_moon_are_called_estimates():
    assert any("are estimates" in note for note in rules_of("TR", None).notes)


def test_the_sites_own_file_stands_over_the_rule(tmp_path):
    own = "date,name,class\n2026-06-02,worked here,workday\n2026-08-16,San Rocco,holiday\n"
    site = load_site(make(tmp_path, '[calendar]\ncountry = "IT"\n', own))
    assert site.classes[date(2026, 6, 2)] == "workday"
    assert site.classes[date(2026, 8, 16)] == "holiday"
    assert site.classes[date(2026, 12, 25)] == "holiday"


def test_an_unknown_country_is_a_warning_for_a_worker_and_a_fault_for_check_config(tmp_path):
    said = []
    site = load_site(make(tmp_path, '[calendar]\ncountry = "XX"\n'), said.append)
    assert site.classes == {}
    assert said[0].startswith("site.toml: [calendar]: key 'country': no calendar of 'XX'; possible: ")
    result = CliRunner().invoke(check_config, [str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.faults == tuple(said)


def test_an_unknown_subdivision_leaves_the_countrys_days(tmp_path):
    said = []
    site = load_site(make(tmp_path, '[calendar]\ncountry = "IT"\nsubdivision = "QQ"\n'), said.append)
    assert date(2026, 12, 25) in site.classes
    assert "IT has no 'QQ'" in said[0]


@pytest.mark.parametrize(
    ("calendar", "said"),
    [
        ('[calendar]\ncountry = "Italy"\n', "key 'country': found 'Italy'"),
        ('[calendar]\nsubdivision = "RM"\n', "key 'country' is missing"),
        ('[calendar]\nland = "IT"\n', "key 'land' is unknown"),
    ],
)
def test_a_faulty_table_is_named(tmp_path, calendar, said):
    with pytest.raises(ConfigError, match=r"site.toml: \[calendar\]") as error:
        load_site(make(tmp_path, calendar))
    assert said in str(error.value)


def test_faulty_lines_of_holidays_csv_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"holidays\.csv: line 2: date"):
        load_site(make(tmp_path, own="date,name,class\nsoon,x,holiday\n"))


def test_check_config_says_what_is_known_and_what_is_not(tmp_path):
    runner = CliRunner()
    text = runner.invoke(check_config, [str(make(tmp_path, '[calendar]\ncountry = "CN"\n'))]).output
    assert f"calendar: CN, 1990 to {LAST_YEAR}: " in text
    assert "note: make-up workdays of CN are known to" in text
    assert "calendar: no holidays; possible: " in runner.invoke(check_config, [str(make(tmp_path))]).output


def import_csv(folder, *options):
    source = folder / "flows.csv"
    source.write_text("timestamp,a_m3h\n" + "".join(f"2026-01-01 {h:02}:00:00,{h}\n" for h in range(24)), encoding="utf-8")
    arguments = ["csv", str(source), "--out", str(folder / "site"), "--timezone", "Europe/Rome", *options]
    return CliRunner().invoke(import_, arguments)


def test_an_import_writes_the_country_that_it_was_given(tmp_path):
    result = import_csv(tmp_path, "--country", "IT", "--subdivision", "RM")
    assert result.exit_code == 0, result.output
    site = load_site(tmp_path / "site")
    assert (site.country, site.subdivision) == ("IT", "RM")
    assert date(2026, 6, 29) in site.classes


def test_an_import_without_a_country_has_an_ordinary_calendar(tmp_path):
    assert import_csv(tmp_path).exit_code == 0
    assert load_site(tmp_path / "site").classes == {}


def test_an_import_refuses_a_country_that_nobody_knows_before_it_writes(tmp_path):
    result = import_csv(tmp_path, "--country", "XX")
    assert isinstance(result.exception, ConfigError)
    assert "no calendar of 'XX'" in str(result.exception)
    assert not (tmp_path / "site").exists()
