"""models/network.py and models/config.py: every fault is named, and every topology fact follows from the meters."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import toml
from models.config import ConfigError, Key, nearest, read_table
from models.network import DEFAULT_ALERTS_PER_DMA_WEEK, Site, longest_lateness_minutes, parse_site
from models.zones import utc_offsets_s

SITE = 'name = "town"\ntimezone = "Europe/Rome"\n'
#      trunk ── in ──> ALFA ── ab ──> BETA ── out ──> outside      GAMMA: its own inlet, a valve to BETA
NETWORK = """
[[dma]]
id = "ALFA"
name = "Old town"
slotMinutes = 5
[[dma]]
id = "BETA"
[[dma]]
id = "GAMMA"
[[dma]]
id = "DELTA"
[[meter]]
id = "in"
kind = "flow"
to = "ALFA"
[[meter]]
id = "ab"
kind = "flow"
from = "ALFA"
to = "BETA"
[[meter]]
id = "out"
kind = "flow"
from = "BETA"
[[meter]]
id = "g"
kind = "flow"
to = "GAMMA"
[[meter]]
id = "logger"
kind = "pressure"
dma = "BETA"
[[meter]]
id = "tank"
kind = "level"
dma = "GAMMA"
tankAreaM2 = 120
[[meter]]
id = "house"
kind = "flow"
dma = "ALFA"
[[meter]]
id = "d"
kind = "flow"
to = "DELTA"
[[valve]]
id = "V-7"
between = ["BETA", "GAMMA"]
"""
DMA = '[[dma]]\nid = "ALFA"\n'
INLET = '[[meter]]\nid = "in"\nkind = "flow"\nto = "ALFA"\n'


def town() -> Site:
    return parse_site(SITE, NETWORK)


def faults(site: str = SITE, network: str = DMA + INLET) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_site(site, network)
    return caught.value.faults


def test_defaults_are_filled_in():
    site = parse_site(SITE, DMA + INLET)
    assert (site.night_start_min, site.night_end_min) == (120, 240)
    assert (site.meters[0].lateness_minutes, site.accept_after_days, site.cost_per_m3) == (60, 60, None)
    assert site.alerts_per_week == pytest.approx(DEFAULT_ALERTS_PER_DMA_WEEK)
    assert (site.dmas[0].name, site.dmas[0].slot_minutes) == ("ALFA", 15)


def test_what_is_set_is_used():
    text = '[night]\nstart = "01:30"\nend = "05:00"\n[stream]\nlatenessMinutes = 0\n'
    text += "[alerts]\nbudgetPerWeek = 3\ncostPerM3 = 1.8\nacceptAfterDays = 14\n"
    site = parse_site(SITE + text, NETWORK)
    assert (site.night_start_min, site.night_end_min, site.shortest_lateness_minutes) == (90, 300, 0)
    assert (site.alerts_per_week, site.cost_per_m3, site.accept_after_days) == (3.0, 1.8, 14)
    assert (site.dmas[0].name, site.dmas[0].slot_minutes) == ("Old town", 5)


def test_roles_follow_from_the_ends():
    by_id = {meter.id: meter for meter in town().meters}
    assert [m.id for m in by_id.values() if m.is_network_flow] == ["in", "ab", "out", "g", "d"]
    assert [m.id for m in by_id.values() if m.is_customer] == ["house"]
    assert {name: by_id[name].home for name in by_id} == {
        "in": "ALFA",
        "ab": "BETA",
        "out": "BETA",
        "g": "GAMMA",
        "logger": "BETA",
        "tank": "GAMMA",
        "house": "ALFA",
        "d": "DELTA",
    }


def test_incidence_adds_what_enters_and_subtracts_what_leaves():
    site = town()
    expected = np.array(
        [
            #  in ab out g logger tank house d
            [1, -1, 0, 0, 0, 0, 0, 0],
            [0, 1, -1, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 1],
        ]
    )
    np.testing.assert_array_equal(site.incidence, expected)
    flow_m3h = np.array([10.0, 4.0, 1.0, 7.0, 300.0, 2.0, 0.5, 3.0])
    np.testing.assert_allclose(site.incidence @ flow_m3h, [6.0, 3.0, 7.0, 3.0])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda e: e[0] != e[1]), max_size=12))
def test_water_between_dmas_is_neither_made_nor_lost(edges: list[tuple[int, int]]):
    text = "".join(f'[[dma]]\nid = "{d}"\n[[meter]]\nid = "in{d}"\nkind = "flow"\nto = "{d}"\n' for d in range(5))
    text += "".join(f'[[meter]]\nid = "m{n}"\nkind = "flow"\nfrom = "{a}"\nto = "{b}"\n' for n, (a, b) in enumerate(edges))
    totals = parse_site(SITE, text).incidence.sum(axis=0)
    assert totals.tolist() == [1] * 5 + [0] * len(edges)


def test_neighbours_share_a_meter_or_a_valve():
    site = town()
    assert site.neighbours("ALFA") == ("BETA",)
    assert site.neighbours("BETA") == ("ALFA", "GAMMA")
    assert site.neighbours("GAMMA") == ("BETA",)
    assert site.neighbours("DELTA") == ()


def test_an_engine_reads_its_own_meters_and_its_neighbours_flows_and_levels():
    site = town()
    names = {dma.id: [site.meters[row].id for row in site.channels(dma.id)] for dma in site.dmas}
    assert names == {
        "ALFA": ["in", "ab", "out", "house"],
        "BETA": ["in", "ab", "out", "g", "logger", "tank"],
        "GAMMA": ["ab", "out", "g", "tank"],
        "DELTA": ["d"],
    }


def dmas_of(site):
    """For each meter row, the DMA rows that read it."""
    start, dma = site.subscribers()
    return [dma[begin:end].tolist() for begin, end in itertools.pairwise(start)]


def test_subscribers_are_the_channels_turned_around():
    site = town()
    pairs = {(meter, dma) for meter, dmas in enumerate(dmas_of(site)) for dma in dmas}
    assert pairs == {(meter, row) for row, dma in enumerate(site.dmas) for meter in site.channels(dma.id)}


METER_AT = st.one_of(
    st.tuples(st.just("flow"), st.sampled_from([("from", "to"), ("to",), ("from",), ("dma",)])),
    st.tuples(st.sampled_from(["pressure", "level"]), st.just(("dma",))),
)


@given(
    meters=st.lists(st.tuples(METER_AT, st.permutations("ABCD")), max_size=10),
    valves=st.lists(st.permutations("ABCD"), max_size=2),
)
def test_what_was_looked_up_once_is_what_the_definitions_say(meters, valves):
    """Meter by meter for each DMA, as channels and neighbours are defined: of a site of 1,000,000 meters it takes hours."""
    text = "".join(f'[[dma]]\nid = "{d}"\n[[meter]]\nid = "in{d}"\nkind = "flow"\nto = "{d}"\n' for d in "ABCD")
    for number, ((kind, ends), dmas) in enumerate(meters):
        text += f'[[meter]]\nid = "m{number}"\nkind = "{kind}"\n{"tankAreaM2 = 9" if kind == "level" else ""}\n'
        text += "".join(f'{end} = "{dma}"\n' for end, dma in zip(ends, dmas, strict=False))
    text += "".join(f'[[valve]]\nbetween = ["{a}", "{b}"]\n' for a, b, *_ in valves)
    site = parse_site(SITE, text)
    for dma in "ABCD":
        pairs = [*((m.from_dma, m.to_dma) for m in site.meters if m.from_dma and m.to_dma), *site.valves]
        near = {a if b == dma else b for a, b in pairs if dma in (a, b)}
        assert site.neighbours(dma) == tuple(d for d in "ABCD" if d in near)
        expected = []
        for row, meter in enumerate(site.meters):
            ends = {meter.dma, meter.from_dma, meter.to_dma}
            if dma in ends or ((meter.is_network_flow or meter.kind == "level") and ends & near):
                expected.append(row)
        assert site.channels(dma) == tuple(expected)
    assert [[d for d in range(4) if row in site.channels("ABCD"[d])] for row in range(len(site.meters))] == [
        list(dmas) for dmas in dmas_of(site)
    ]


def test_rows_are_the_order_of_the_file():
    site = town()
    assert [site.dma_row[dma.id] for dma in site.dmas] == list(range(4))
    assert [site.meter_row[meter.id] for meter in site.meters] == list(range(8))


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('name = "Old town"', 'name = "New town"', True),
        ('id = "V-7"', 'id = "V-8"', True),
        ("slotMinutes = 5", "slotMinutes = 15", False),
        ("tankAreaM2 = 120", "tankAreaM2 = 121", False),
        ('between = ["BETA", "GAMMA"]', 'between = ["ALFA", "GAMMA"]', False),
        ('id = "house"\nkind = "flow"\ndma = "ALFA"', 'id = "house"\nkind = "flow"\ndma = "BETA"', False),
    ],
)
def test_the_fingerprint_changes_with_what_saved_state_means(old: str, new: str, same: bool):
    assert old in NETWORK
    other = parse_site(SITE, NETWORK.replace(old, new))
    assert (
        [other.fingerprint(dma) for dma in town().dma_row] == [town().fingerprint(dma) for dma in town().dma_row]
    ) is same


def test_the_fingerprint_ignores_budgets_and_heeds_the_night():
    same = "[alerts]\nbudgetPerWeek = 9\n[stream]\nlatenessMinutes = 7\n"
    assert parse_site(SITE + same, NETWORK).fingerprint("BETA") == town().fingerprint("BETA")
    assert parse_site(SITE + '[night]\nstart = "01:00"\n', NETWORK).fingerprint("BETA") != town().fingerprint("BETA")


def test_a_fingerprint_heeds_only_what_its_dma_reads():
    more = NETWORK + '[[meter]]\nid = "d2"\nkind = "flow"\nto = "DELTA"\n'
    changed = {dma for dma in town().dma_row if parse_site(SITE, more).fingerprint(dma) != town().fingerprint(dma)}
    assert changed == {"DELTA"}


def test_lateness_is_the_meters_own_or_its_class_or_the_sites():
    stream = "[stream]\nlatenessMinutes = 90\npressureLatenessMinutes = 5\n"
    own = NETWORK.replace('id = "g"\nkind = "flow"', 'id = "g"\nkind = "flow"\nlatenessMinutes = 1440')
    site = parse_site(SITE + stream, own)
    got = {meter.id: meter.lateness_minutes for meter in site.meters}
    assert got == {"in": 90, "ab": 90, "out": 90, "g": 1440, "logger": 5, "tank": 90, "house": 2880, "d": 90}
    assert site.shortest_lateness_minutes == 5
    assert longest_lateness_minutes(site.meters) == 1440
    assert {m.id: m.lateness_minutes for m in parse_site(SITE, NETWORK).meters}["logger"] == 60


SITE_FAULTS = [
    ("x = ", "site.toml: not TOML: "),
    ('timezone = "UTC"', "site.toml: key 'name' is missing; possible: a short name of letters, digits"),
    ('name = "a b"\ntimezone = "UTC"', "site.toml: key 'name': found 'a b'; possible: a short name"),
    ('name = "x"\ntimezone = "Rome"', "site.toml: key 'timezone': found 'Rome'; possible: an IANA zone"),
    (SITE + "nihgt = 1", "site.toml: key 'nihgt' is unknown; nearest: 'night'"),
    (SITE + "night = 3", "site.toml: key 'night': found 3; possible: a table"),
    (SITE + '[night]\nstart = "2:00"', "site.toml: [night]: key 'start': found '2:00'; possible: 'HH:MM' local time"),
    (SITE + '[night]\nend = "02:30"', "site.toml: [night]: key 'end': found 02:00 to 02:30; possible: at least an hour"),
    (SITE + "[stream]\nlatenessMinutes = -1", "site.toml: [stream]: key 'latenessMinutes': found -1; possible: whole"),
    (SITE + "[stream]\nlatenessMinutes = true", "site.toml: [stream]: key 'latenessMinutes': found True; possible:"),
    (SITE + "[stream]\nlatenessMinutes = 1.5", "site.toml: [stream]: key 'latenessMinutes': found 1.5; possible:"),
    (SITE + "[alerts]\nbudgetPerWeek = 0", "site.toml: [alerts]: key 'budgetPerWeek': found 0; possible: a number above"),
    (
        SITE + "[alerts]\nbudgetPerWeek = inf",
        "site.toml: [alerts]: key 'budgetPerWeek': found inf; possible: a number above",
    ),
    (SITE + "[alerts]\nbudgetPerWeek = 1001", "site.toml: [alerts]: key 'budgetPerWeek': found 1001; possible: a number"),
    (SITE + "[alerts]\ncostPerM3 = nan", "site.toml: [alerts]: key 'costPerM3': found nan; possible: a finite number of"),
    (SITE + "[alerts]\ncostPerM3 = inf", "site.toml: [alerts]: key 'costPerM3': found inf; possible: a finite number of"),
    (SITE + "a = " + "[" * 3000 + "]" * 3000, "site.toml: not TOML: found lists or tables nested too deep; possible: a few"),
    (SITE + "a = " + "1" * 5000, "site.toml: not TOML: "),
    *(
        (f'name = "x"\ntimezone = "{zone}"', f"site.toml: key 'timezone': found '{zone}'; possible: an IANA zone")
        for zone in ("localtime", "Factory", "posix/Europe/Rome", "right/UTC", "posixrules")
    ),
    (SITE + "[alerts]\nacceptAfterDays = 0", "site.toml: [alerts]: key 'acceptAfterDays': found 0; possible: whole days"),
]


@pytest.mark.parametrize(("text", "fault"), SITE_FAULTS)
def test_a_fault_of_site_toml_is_named(text: str, fault: str):
    assert [found for found in faults(site=text) if found.startswith(fault)]


def meter(text: str) -> str:
    return DMA + INLET + f'[[meter]]\nid = "x"\n{text}\n'


NETWORK_FAULTS = [
    ("", "network.toml: key 'dma' is missing; possible: [[dma]] tables"),
    (DMA, "network.toml: key 'meter' is missing; possible: [[meter]] tables"),
    ("dma = []\n" + INLET, "network.toml: key 'dma': found []; possible: [[dma]] tables"),
    (DMA + DMA + INLET, "network.toml: [[dma]] 'ALFA': key 'id': 'ALFA' is there twice; possible: one table per DMA"),
    (DMA + "slotMinutes = 10\n" + INLET, "network.toml: [[dma]] 'ALFA': key 'slotMinutes': found 10; possible: 1, 5, 15"),
    (DMA + '[[dma]]\nname = "x"\n' + INLET, "network.toml: [[dma]] 2: key 'id' is missing; possible: letters"),
    (DMA + '[[dma]]\nid = "BETA"\n' + INLET, "network.toml: [[dma]] 'BETA': found no flow meter; possible: a [[meter]]"),
    (DMA + INLET + INLET, "network.toml: [[meter]] 'in': key 'id': 'in' is there twice; possible: one table per meter"),
    (meter('kind = "flow"\nto = "ALPHA"'), "network.toml: [[meter]] 'x': key 'to': found 'ALPHA'; nearest: 'ALFA'"),
    (meter('kind = "flow"\nto = "?"'), "network.toml: [[meter]] 'x': key 'to': found '?'; possible: ALFA"),
    (meter('kind = "heat"\nto = "ALFA"'), "network.toml: [[meter]] 'x': key 'kind': found 'heat'; possible: 'flow'"),
    (meter('kind = "flow"'), "network.toml: [[meter]] 'x': found none; possible: 'from' and/or 'to', or else 'dma'"),
    (meter('kind = "flow"\nto = "ALFA"\ndma = "ALFA"'), "network.toml: [[meter]] 'x': found both; possible:"),
    (meter('kind = "flow"\nto = "ALFA"\nfrom = "ALFA"'), "network.toml: [[meter]] 'x': key 'to': found the same DMA"),
    (meter('kind = "pressure"\nto = "ALFA"'), "network.toml: [[meter]] 'x': key 'kind': found 'pressure' with 'from'"),
    (meter('kind = "level"\ndma = "ALFA"'), "network.toml: [[meter]] 'x': key 'tankAreaM2' is missing; possible: the"),
    (meter('kind = "flow"\ntoo = "ALFA"'), "network.toml: [[meter]] 'x': key 'too' is unknown; nearest: 'to'"),
    (DMA + INLET + '[[valve]]\nbetween = ["ALFA"]', "network.toml: [[valve]] 1: key 'between': found ['ALFA']; possible"),
    (DMA + INLET + '[[valve]]\nbetween = ["ALFA", "ALF"]', "network.toml: [[valve]] 1: key 'between': found 'ALF'; nea"),
    (DMA + INLET + '[[valve]]\nbetween = [["A"], "B"]', "network.toml: [[valve]] 1: key 'between': found [['A'], 'B']; p"),
    (DMA + INLET + '[[valve]]\nbetween = ["A", "A"]', "network.toml: [[valve]] 1: key 'between': found ['A', 'A']; possi"),
    (meter('kind = "flow"\nto = "ALFA"\ntankAreaM2 = 5'), "network.toml: [[meter]] 'x': key 'tankAreaM2': found with ki"),
    (meter('kind = "level"\ndma = "ALFA"\ntankAreaM2 = inf'), "network.toml: [[meter]] 'x': key 'tankAreaM2': found inf"),
    ("dma = [3]\n" + INLET, "network.toml: dma: found 3; possible: a table"),
]


@pytest.mark.parametrize(("text", "fault"), NETWORK_FAULTS)
def test_a_fault_of_network_toml_is_named(text: str, fault: str):
    found = faults(network=text)
    assert [one for one in found if one.startswith(fault)], found
    assert all("\n" not in one for one in found)


def test_all_faults_are_named_not_only_the_first():
    found = faults(site='name = "a b"\n', network=meter('kind = "flow"\nto = "B"\nfrom = "C"'))
    assert len(found) == 4
    assert str(ConfigError(found)) == "; ".join(found)


@pytest.mark.parametrize(
    "text",
    [
        'kind = "flow"\nto = 5',
        'kind = "flow"\ndma = 5',
        'kind = "heat"\nto = "ALFA"',
        'kind = "level"\ndma = "ALFA"\ntankAreaM2 = inf',
    ],
)
def test_one_mistake_is_one_fault(text: str):
    assert len(faults(network=meter(text))) == 1


def test_nearest_falls_back_to_a_short_list():
    assert nearest("FM-9", ["FM-09", "PT-01"]) == "nearest: 'FM-09'"
    assert nearest("?", ["b", "a"]) == "possible: a, b"
    assert nearest("?", []) == "possible: none are defined"
    assert nearest("?", map(str, range(20)), limit=3) == "possible: 0, 1, 10, …"


def test_a_true_is_not_a_number():
    found: list[str] = []
    values = read_table({"n": True, "b": True}, {"n": Key(int, "whole", 5), "b": Key(bool, "true", False)}, "here", found)
    assert values == {"n": 5, "b": True}
    assert found == ["here: key 'n': found True; possible: whole"]


# Local time


@pytest.mark.parametrize("zone", ["Europe/Rome", "Asia/Shanghai", "Australia/Lord_Howe", "America/St_Johns", "UTC"])
def test_offsets_agree_with_the_zone_at_every_hour(zone: str):
    changes, offsets = utc_offsets_s(zone)
    for year in (1991, 2010, 2026):
        start_s = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
        hours_s = np.arange(start_s, start_s + 366 * 86400, 3600)
        got = offsets[np.searchsorted(changes, hours_s * 1000, side="right") - 1]
        shifts = (datetime.fromtimestamp(s, ZoneInfo(zone)).utcoffset() for s in hours_s.tolist())
        expected = [int(shift.total_seconds()) for shift in shifts if shift is not None]
        np.testing.assert_array_equal(got, expected)


def test_a_change_to_summer_time_is_exact_to_the_millisecond():
    changes, offsets = utc_offsets_s("Europe/Rome")
    at_ms = int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp()) * 1000
    place = changes.tolist().index(at_ms)
    assert offsets[place - 1 : place + 1].tolist() == [3600, 7200]


def test_days_of_23_and_25_hours_have_92_and_100_quarters():
    changes, offsets = utc_offsets_s("Europe/Rome")
    quarters_s = np.arange(int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), 1_798_761_600, 900)
    local_s = quarters_s + offsets[np.searchsorted(changes, quarters_s * 1000, side="right") - 1]
    days, counts = np.unique(local_s // 86400, return_counts=True)
    of = dict(zip(days.tolist(), counts.tolist(), strict=True))
    assert of[(datetime(2026, 3, 29, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days] == 92
    assert of[(datetime(2026, 10, 25, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days] == 100


def test_offsets_ascend_and_cover_all_time():
    changes, offsets = utc_offsets_s("Europe/Rome")
    assert (np.diff(changes) > 0).all()
    assert changes[0] < -(10**15)
    assert len(changes) == len(offsets)
    assert changes.dtype == offsets.dtype == np.int64


def large(meters: int, after: str = "") -> str:
    """A network of so many meters in the tables that the importers write, with valves behind them."""
    dmas = "".join(f'[[dma]]\nid = "{d}"\n[[meter]]\nid = "in{d}"\nkind = "flow"\nto = "{d}"\n' for d in "AB")
    text = "".join(f'[[meter]] # {n}\nid = "c{n}"\nkind = "flow"\ndma = "{"AB"[n % 2]}"\n' for n in range(meters))
    return dmas + text + '[[valve]]\nbetween = ["A", "B"]\n' + after


@pytest.mark.parametrize(
    ("after", "pieces"),
    [
        ("", 4),
        ('[[meter]]\nid = "late"\nkind = "level"\ndma = "A"\ntankAreaM2 = 3\n', 4),
        ('[[dma]]\nid = "C"\n[[meter]]\nid = "inC"\nkind = "flow"\nto = "C"\n', 1),
        ('[[meter]]\nid = "x"\nkind = """flow"""\ndma = "A"\n', 1),
        ('[[valve]]\nid = "v"\nbetween = [\n"A",\n"B"]\n', 4),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_network_read_in_pieces_is_the_network(after: str, pieces: int, line_end: str, monkeypatch):
    monkeypatch.setattr(toml, "PIECE", 100)
    text = large(320, after).replace("\n", line_end)
    assert len(list(toml.network_pieces(text))) == pieces
    monkeypatch.setattr(toml, "PIECE", 1 << 30)
    assert len(list(toml.network_pieces(text))) == 1
    whole = parse_site(SITE, text)
    monkeypatch.setattr(toml, "PIECE", 100)
    assert parse_site(SITE, text) == whole


@pytest.mark.parametrize(
    "after",
    [
        '[[meter]]\nid = "c7"\nkind = "flow"\ndma = "A"\n',
        '[[meter]]\nid = "x"\nkind = "flow"\ndma = "AA"\n[[meter]]\nid = 7\n',
        '[[meter]]\nkind = "flow"\ndma = "A"\n',
        '[[valve]]\nbetween = ["A", "Z"]\n',
        '[[meter]]\nid = "x\n',
        "[meter]\n",
        "[[hydrant]]\n",
        "[[meter.part]]\na = 1\n",
        "[valve]\n",
        '[[meter]]\nid = "x"\nid = "y"\n',
        "[[meter]]\nid = " + "[" * 3000,
        '[[meter]]\nid = "x"\nkind = "flow"\ndma = "A"\nb = [\n[[meter]]\n',
    ],
)
@pytest.mark.parametrize("before", ["", '[[valve]]\nbetween = ["A", "B"]\n', "valve = []\n", "meter = []\n"])
def test_the_faults_of_a_network_in_pieces_are_those_of_the_whole(before: str, after: str, monkeypatch):
    faults = []
    for piece in (100, 1 << 30):
        monkeypatch.setattr(toml, "PIECE", piece)
        with pytest.raises(ConfigError) as found:
            parse_site(SITE + 'nihgt = "x"\n', before + large(320, after))
        faults.append(found.value.faults)
    assert faults[0] == faults[1]
