"""Sentences in English and Chinese from the same facts: numbers, times and names are formatted once, for both.

`both` fills the same values into two texts, so the languages cannot say different numbers. Numbers are rounded to what is
known of them: a volume to three figures, a flow to a tenth.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from models.planned import PlannedWork
from models.schema import Explanation, Sentence

Language = Literal["en", "zh"]
LONGEST: Final = 500
"""Characters of a sentence at most, where ids and names are as long as can be; some 150 where they are not."""
PARTS: Final = {
    "observed": Sentence(en="Observed", zh="观测"),
    "expected": Sentence(en="Expected", zh="正常值"),
    "since": Sentence(en="Since", zh="起始"),
    "water": Sentence(en="Water", zh="水量"),
    "ended": Sentence(en="Ended", zh="结束"),
    "why": Sentence(en="Why", zh="判断依据"),
    "against": Sentence(en="Against it", zh="存疑之处"),
    "why_not": Sentence(en="Other causes", zh="其他可能"),
    "meters": Sentence(en="Rests on", zh="依据仪表"),
    "check_first": Sentence(en="Check first", zh="优先排查"),
}
"""What each part of an explanation is called, in the order in which it reads."""
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
_MOST_NAMED: Final = 4
_ROOM: Final = 90  # characters of the ids in a list: of longer ones fewer are named
_LONGEST_NAME: Final = 40

_BESIDE_WIDE: Final = re.compile(r"(?<=[），。：、；]) | (?=[（，。：、；])")


def both(en: str, zh: str, **values: object) -> Sentence:
    """Two templates of the same `{fields}`, filled with the same values; a Sentence gives each language its own text."""
    return Sentence(
        en=en.format(**{name: value.en if isinstance(value, Sentence) else value for name, value in values.items()}),
        zh=_BESIDE_WIDE.sub(
            "", zh.format(**{name: value.zh if isinstance(value, Sentence) else value for name, value in values.items()})
        ),
    )


def joined(*sentences: Sentence | None) -> Sentence:
    """One after the other, without those that are None."""
    there = [sentence for sentence in sentences if sentence is not None]
    return Sentence(en=" ".join(one.en for one in there), zh="".join(one.zh for one in there))


def told(explanation: Explanation, language: Language) -> Iterator[tuple[str, str]]:
    """The name and the text of every sentence of an explanation, part by part; a part's name stands at its first one."""
    for part, title in PARTS.items():
        found = getattr(explanation, part)
        sentences = found if isinstance(found, list) else [found] if found is not None else []
        for number, sentence in enumerate(sentences):
            yield ("" if number else getattr(title, language)), getattr(sentence, language)


def number(value: float) -> str:
    """As precise as a meter is: 123, 12.3, 1.2, 0.12."""
    size = abs(value)
    digits = 0 if size >= 100.0 else 1 if size >= 1.0 else 2 if size >= 0.1 else 3
    text = f"{value:,.{digits}f}"
    return text if any(digit in text for digit in "123456789") else "0"


def flow(value_m3h: float) -> str:
    """A rate, m³/h."""
    return f"{number(value_m3h)} m³/h"


def household(value_m3h: float) -> str:
    """A rate of a single house, L/h of m³/h."""
    return f"{number(1000.0 * value_m3h)} L/h"


def volume(value_m3: float) -> str:
    """A volume of three figures, m³."""
    size = abs(value_m3)
    if size >= 1000.0:
        step = 10.0 ** (math.floor(math.log10(size)) - 2)
        return f"{round(value_m3 / step) * step:,.0f} m³"
    return f"{value_m3:,.0f} m³" if size >= 10.0 else f"{number(value_m3)} m³"


def band(lower: str, upper: str) -> Sentence:
    """From one number to another, the unit with the second."""
    return both("{lower} to {upper}", "{lower}～{upper}", lower=lower, upper=upper)


def length(duration_ms: float) -> Sentence:
    """How long something lasted: minutes, hours or days."""
    if duration_ms < HOUR_MS:
        return both("{n} min", "{n} 分钟", n=max(1, round(duration_ms / 60_000)))
    hours = duration_ms / HOUR_MS
    if hours < 48.0:
        return both("{n} h", "{n} 小时", n=f"{hours:.1f}".removesuffix(".0") if hours < 10.0 else f"{hours:.0f}")
    days = hours / 24.0
    return both("{n} days", "{n} 天", n=f"{days:.1f}".removesuffix(".0") if days < 10.0 else f"{days:.0f}")


@functools.lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def moment(time_ms: int, timezone: str) -> str:
    """Local time with the zone's offset then: `2026-09-29 00:30 (UTC+2)`."""
    local = datetime.fromtimestamp(int(time_ms) / 1000, UTC).astimezone(_zone(timezone))
    offset = local.strftime("%z")
    hours, minutes = offset[:3].replace("+0", "+").replace("-0", "-"), offset[3:5]
    zone = "UTC" if offset in ("+0000", "-0000") else f"UTC{hours}" + (f":{minutes}" if minutes != "00" else "")
    return f"{local:%Y-%m-%d %H:%M} ({zone})"


def day(time_ms: int, timezone: str) -> str:
    """The local date."""
    return f"{datetime.fromtimestamp(int(time_ms) / 1000, UTC).astimezone(_zone(timezone)):%Y-%m-%d}"


def nights(begin_ms: int, end_ms: int, timezone: str, start_min: int, end_min: int) -> int:
    """How many night windows, by local minutes of the day, lie whole between two times."""
    begin, end = (datetime.fromtimestamp(int(ms) / 1000, UTC).astimezone(_zone(timezone)) for ms in (begin_ms, end_ms))
    first = begin.date().toordinal() + (begin.hour * 60 + begin.minute > start_min)
    last = end.date().toordinal() - (end.hour * 60 + end.minute < end_min)
    return max(0, last - first + 1)


def clock(minute: int) -> str:
    """HH:MM of a minute of the day."""
    return f"{minute // 60:02}:{minute % 60:02}"


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """`1 meter`, `2 meters`: for the English text, the Chinese has its own."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def named(identity: str, name: str) -> Sentence:
    """A DMA by its name and id, or by its id where it has no other name."""
    if name == identity:
        return Sentence(en=identity, zh=identity)
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return both("{name} ({id})", "{name}（{id}）", name=short, id=identity)


def work_named(work: PlannedWork) -> Sentence:
    """What is planned, without the stop that may end its text."""
    return Sentence(en=work.what.rstrip(" .。"), zh=work.what_zh.rstrip(" .。"))


def ids(names: Sequence[str], *, is_counted: bool = False) -> Sentence:
    """`A, B and C`; of many the first ones and how many there are in all, where the sentence has not counted them."""
    shown: list[str] = []
    for name in names[:_MOST_NAMED]:
        if shown and sum(map(len, shown)) + len(name) > _ROOM:
            break
        shown.append(name)
    if len(shown) == len(names) > 1:
        return Sentence(en=f"{', '.join(shown[:-1])} and {shown[-1]}", zh="、".join(shown))
    said = Sentence(en=", ".join(shown), zh="、".join(shown))
    if len(shown) < len(names) and is_counted:
        return both("{names} and others", "{names} 等", names=said)
    if len(shown) < len(names):
        return both("{names} ({n} in all)", "{names}（共 {n} 个）", names=said, n=len(names))
    return said


def english(sentences: Iterable[Sentence]) -> list[str]:
    """Of each the English text."""
    return [sentence.en for sentence in sentences]
