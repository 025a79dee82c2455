"""What to check first when a leak is reported, by type and by what is known: the likeliest and the cheapest first."""

from __future__ import annotations

from models.events import BOUNDARY_VALVE, BURST_EVENT, CLEARED, CLOSED
from models.explain_why import boundary_meters
from models.leak_facts import LeakFacts, is_confirmed
from models.phrases import both, counted, ids, work_named
from models.schema import Sentence


def check_first(facts: LeakFacts) -> list[Sentence]:
    """What to do, in this order."""
    if facts.stuck:
        return [
            both(
                "See to flow meter {id}; it has an alert of its own.", "请检修流量计 {id}（该表另有报警）。", id=facts.stuck
            )
        ]
    if facts.change == CLEARED:
        return [
            both(
                "Close the alert with what was found. If nothing was repaired, look whether it comes back.",
                "请登记处理结果并关闭报警；若未经维修，请留意是否再次出现。",
            )
        ]
    if facts.change == CLOSED:
        return [
            both(
                "If the cause was never found, search on: no further alert will tell of this water.",
                "若原因一直未查明，请继续探漏：这部分水量今后不再报警。",
            )
        ]
    work = _planned(facts)
    if facts.kind == BOUNDARY_VALVE:
        return [*work, *_valve(facts)]
    return [*work, *(_burst(facts) if facts.kind == BURST_EVENT else _night_leak(facts))]


def _planned(facts: LeakFacts) -> list[Sentence]:
    if facts.work is None:
        return []
    return [
        both(
            "Ask the crew of the planned work ({what}) whether they are drawing this water.",
            "向计划作业（{what}）人员核实是否在用这部分水。",
            what=work_named(facts.work),
        )
    ]


def _burst(facts: LeakFacts) -> list[Sentence]:
    said = _pressure_or_meter(facts) if facts.pressure_word > 0 else []
    said.append(
        both(
            "Look for reports since {start} of water in the street, low pressure or brown water in {place}.",
            "核查热线记录：{start} 以来 {place} 有无报漏、路面冒水、水压低或水发黄。",
            start=facts.when("started_ms"),
            place=facts.place,
        )
    )
    if not is_confirmed(facts.night_score) and facts.work is None:
        said.append(
            both(
                "Ask large users and the fire service whether they are drawing water.",
                "向大用户和消防部门核实是否在大量用水。",
            )
        )
    if facts.is_pressure_unmoved:
        said += _pressure_or_meter(facts)
    said += _where(facts)
    if facts.fall is None:
        said.append(
            both(
                "If nothing shows above ground, search with correlators and by listening, or close valves step by step.",
                "若地面未见漏水迹象，用相关仪、听漏仪探漏，或分段关阀查找漏点。",
            )
        )
    said.append(
        both(
            "Get the valve plan ready: which valves isolate the place, and who would be without water.",
            "准备关阀止水方案：关哪些阀门、影响哪些用户，并报调度。",
        )
    )
    return said


def _night_leak(facts: LeakFacts) -> list[Sentence]:
    said = _pressure_or_meter(facts) if facts.pressure_word > 0 else []
    said.append(
        both(
            "Rule out large night users: irrigation, tanks that fill at night, night shifts.",
            "先排查夜间大用户：绿化浇灌、水箱（二次供水）夜间补水、夜班企业。",
        )
    )
    neighbours = facts.site.neighbours(facts.dma)
    if neighbours:
        said.append(
            both(
                "Compare the night flow of {ids}: if it fell by as much, check the boundary valves.",
                "核对相邻分区 {ids} 的夜间流量：若同步减少，检查边界阀门。",
                ids=ids(neighbours),
            )
        )
    said += _where(facts)
    said.append(
        both(
            "Then search at night: close valves step by step (step test), and listen along the mains (acoustic loggers).",
            "然后夜间探漏：先分段关阀缩小范围，再用噪声记录仪、听漏仪定位漏点。",
        )
    )
    return said


def _valve(facts: LeakFacts) -> list[Sentence]:
    listed = sum({facts.dma, facts.neighbour} == set(pair) for pair in facts.site.valves)
    between = {"dma": facts.dma, "neighbour": facts.neighbour}
    said = [
        both(
            "Ask the control room which valves were operated at about {start}.",
            "向调度核实 {start} 前后有无阀门操作。",
            start=facts.when("started_ms"),
        )
    ]
    if listed:
        said.append(
            both(
                "Check that the boundary {valves} between {dma} and {neighbour} {are} closed ({n} listed in network.toml).",
                "现场检查 {dma} 与 {neighbour} 之间的边界阀门是否关严（network.toml 中登记 {n} 个）。",
                **between,
                n=listed,
                valves="valve" if listed == 1 else "valves",
                are="is" if listed == 1 else "are",
            )
        )
    else:
        said.append(
            both(
                "Check the boundary valves between {dma} and {neighbour}: all should be closed.",
                "现场检查 {dma} 与 {neighbour} 之间的边界阀门是否关严。",
                **between,
            )
        )
    meters = boundary_meters(facts)
    if meters:
        said.append(
            both(
                "Compare the boundary {meters} {ids} with the display on site.",
                "到现场核对边界流量计 {ids} 的示数。",
                meters="meter" if len(meters) == 1 else "meters",
                ids=ids(meters),
            )
        )
    return said


def _pressure_or_meter(facts: LeakFacts) -> list[Sentence]:
    """Before anybody is sent out: what else moves a flow."""
    if facts.pressure_word > 0:
        return [
            both(
                "Pressure rose with the flow: check the set points of pressure-reducing valves, and the pumps.",
                "流量与压力同时上升：先查减压阀设定值和水泵运行情况。",
            )
        ]
    if facts.is_pressure_unmoved:
        return [
            both(
                "Pressure has hardly moved: compare {meters} {ids} with the display on site.",
                "压力基本没有变化：先核对流量计 {ids} 的现场示数。",
                meters="flow meter" if len(facts.flow_meters) == 1 else "the flow meters",
                ids=ids(facts.flow_meters),
            )
        ]
    return []


def _where(facts: LeakFacts) -> list[Sentence]:
    """Where to begin, as far as pressure loggers tell."""
    if facts.fall is not None:
        second: Sentence | str = ""
        if len(facts.fall.loggers) > 1:
            second = both("; then near {second}", "，其次 {second} 周边", second=facts.fall.loggers[1])
        return [
            both(
                "Begin the search near pressure logger {logger}, which fell most ({fall}){second}. Ask customers there.",
                "从压力测点 {logger} 周边查起（降幅最大，{fall}）{second}，并询问附近用户。",
                logger=facts.fall.loggers[0],
                fall=facts.fall.size,
                second=second,
            )
        ]
    if len(facts.loggers) > 1:
        return [
            both(
                "Compare the {loggers} ({ids}): begin near the one that fell most.",
                "比较区内 {n} 个压力测点（{ids}），从降幅最大的测点周边查起。",
                loggers=counted(len(facts.loggers), "pressure logger"),
                n=len(facts.loggers),
                ids=ids(facts.loggers, is_counted=True),
            )
        ]
    return []
