"""An injected leak beside the same leak in EPANET: water, pressure's pull on it, and how far the loggers fall."""

from __future__ import annotations

import pytest

from benchmarks.injection import FLOWS, SHARE, Twin, rows_of
from training.simulation import town


@pytest.fixture(scope="module")
def twin() -> Twin:
    return Twin()


@pytest.mark.parametrize(
    ("dma", "junction"), [("LAKE", "105"), ("LAKE", "261"), ("HARBOUR", "213"), ("HARBOUR", "253"), ("MIDTOWN", "179")]
)
def test_a_leak_in_epanet_draws_and_pulls_down_as_it_is_injected(twin: Twin, dma: str, junction: str) -> None:
    """Where in the DMA it is, the injection does not know: inflow within a quarter, as pressure differs by place."""
    found = twin.leak_at(dma, junction)
    real, ours = found.inflow_m3h
    assert ours == pytest.approx(SHARE * town.AREA[dma].mean_m3h, rel=0.05)
    assert real == pytest.approx(ours, rel=0.27)
    assert found.swing_m3h[1] > 0  # both follow the pressure
    for logger, (falls, added) in found.falls_kpa.items():
        if logger != "PL-207":  # at the far end of a thin main: what draws beside it counts
            assert added == pytest.approx(falls, rel=0.4), logger


def test_behind_another_dma_only_what_its_own_water_costs_counts(twin: Twin) -> None:
    """HARBOUR is fed through MIDTOWN, and both draw by the same hours: its own flow alone would explain twice the fall."""
    known = twin.injector.hydraulics("HARBOUR")
    assert len(known.resistance) == 3
    for found in known.resistance.values():
        assert set(found) == {"HARBOUR", "MIDTOWN"}
    recorded = twin.injector.recorded
    logger = next(iter(known.resistance))
    series = recorded.pressures[logger]
    own = recorded.through_flow("HARBOUR", series.times_ms)
    alone = -((own**2 - (own**2).mean()) @ (series.values - series.values.mean())) / ((own**2 - (own**2).mean()) ** 2).sum()
    assert alone > 1.7 * known.resistance[logger]["HARBOUR"]


def test_a_logger_beside_the_reservoir_hardly_falls(twin: Twin) -> None:
    found = twin.leak_at("NORTH", "145")
    beside, far, farther = found.falls_kpa.values()
    assert max(-beside[0], -beside[1]) < 1.0
    assert min(-far[0], -farther[0], -far[1], -farther[1]) > 5.0


def test_the_table_has_a_row_for_every_logger_of_a_dma(twin: Twin) -> None:
    rows = rows_of([twin.leak_at("LAKE", "105"), twin.leak_at("LAKE", "261")])
    assert [row[4] for row in rows[1:]] == ["PL-109", "PL-117", "PL-191"]
    assert all(row[1] == "2 junctions" for row in rows[1:])
    assert len(town.METER_IDS) == FLOWS + 12
