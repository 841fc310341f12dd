"""A sentence → the spans in it that can be an answer: numbers, dates, amounts, names, quoted terms. Knows no wording."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

SpanKind = Literal["year", "date", "time", "money", "share", "number", "name", "term", "reason"]

_MONTH = (
    r"(?:Jan(?:uary|uar)?|Feb(?:ruary|ruar)?|Mar(?:ch)?|März|Apr(?:il)?|May|Mai|June?|Juni|July?|Juli|Aug(?:ust)?"
    r"|Sept?(?:ember)?|Oct(?:ober)?|Okt(?:ober)?|Nov(?:ember)?|Dec(?:ember)?|Dez(?:ember)?"
    r"|janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre"
    r"|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre"
    r"|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre"
    r"|janeiro|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro"
    r"|januari|februari|maart|mei|augustus|oktober)\b"
)
_NUMBER = r"\d+(?:[.,   ]\d{3})*(?:[.,]\d+)?(?:[½¼¾]|\b)"
_SCALE = r"(?:\s(?:hundred|thousand|million|billion|trillion|Millionen|Milliarden|Million|millions?|milliards?|millones|milioni|milhões|miljoen))"
_CURRENCY = r"(?:US\$|[$€£¥]|EUR|USD|GBP|CHF)"
_MONEY_AFTER = r"[€£]|EUR\b|euros?\b|Euro\b|dollars?\b|pounds\b|crowns\b|francs?\b|Kronen\b"
_PATTERNS: tuple[tuple[SpanKind, re.Pattern[str]], ...] = (
    (
        "date",
        re.compile(
            rf"\b\d{{1,2}}\.?(?:\s(?:de|di))?\s{_MONTH}(?:(?:\sde|\sdel)?\s\d{{4}})?|\b{_MONTH}\s\d{{1,2}}(?:,\s\d{{4}})?(?!\d)|\b{_MONTH}\s\d{{4}}\b"
            r"|\b\d{4}-\d\d-\d\d\b|\b\d{1,2}\.\s?\d{1,2}\.\s?\d{4}\b",
        ),
    ),
    ("time", re.compile(r"\b\d{1,2}[:.]\d\d(?:\s?(?:Uhr|uur|[ap]\.?m\.?))?(?!\d|\s?%)|\b\d{1,2}\s(?:Uhr|[ap]\.m\.)")),
    ("money", re.compile(rf"{_CURRENCY}\s?{_NUMBER}{_SCALE}?|{_NUMBER}{_SCALE}?\s?(?:{_MONEY_AFTER})")),
    ("share", re.compile(rf"(?<![\d–-]){_NUMBER}(?:\s?%|\s(?:per ?cent|percent|Prozent|procent|pour cent|por ciento|per cento|por cento)\b)")),
    ("year", re.compile(r"(?<![\d.,-])(?:1[0-9]|20)\d\d(?![\d%–-]|[.,]\d|\s(?:and|to|und|bis)\s\d)")),
    ("number", re.compile(rf"(?<![\w.,/$€£–-]){_NUMBER}{_SCALE}?(?![\w%–-]|[.,:/]\d)")),
    ("term", re.compile(r"[“„«\"]([^“”„«»\"]{3,50})[”“»\"]")),
)  # fmt: skip
_WORDED = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|hundred"
    r"|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|zwölf|zwanzig|dreißig"
    r"|deux|trois|quatre|cinq|sept|huit|neuf|dix|douze|vingt|trente|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez"
    r"|twee|drie|vier|vijf|zes|zeven|negen|tien)\b"
)
_NAME = re.compile(
    r"(?<![\w'’-])[A-ZÀ-ÖØ-Þ][\w'’-]+(?:\s(?:(?:of|de|la|the|von|van|del|di|du)\s)?[A-ZÀ-ÖØ-Þ][\w'’-]*)*"
)
_REASON = re.compile(
    r"\b(?:because(?! of)|in order to|so that|weil|damit|parce que|afin de|porque|para que|perché|omdat)\b",
    re.IGNORECASE,
)
_NOUN_AFTER = re.compile(
    r"\s(?!(?:and|or|in|on|at|of|by|for|to|from|with|as|is|are|was|were|has|have|had|can|will|may|must|that|which|who|when"
    r"|where|while|after|before|during|since|until|but|und|oder|ist|war|hat|wird|et|est|a|y|e|es|fue|è|é|foi|en|de|der)\b)"
    r"[a-zà-ÿ]+(?!ed\b|s\b)\b(?<!ed)(?<!s)"
)
_GOES_ON = re.compile(r"(?:,|\s(?:and|or|of|on|for|&|und|oder|et|y|e|en))\s(?:the\s)?[A-ZÀ-ÖØ-Þ]|\s?[&/]|-")
_DAYS = re.compile(
    rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?|{_MONTH}|I|January|Montag|Dienstag|Mittwoch|Donnerstag|Freitag|Samstag|Sonntag"
)
_RANGE_AFTER = re.compile(r"\s?(?:to|or|and|und|bis|à|a|al|tot|-|–)\s[$€£]?(?:EUR\s)?\d")  # noqa: RUF001
_RANGE_BEFORE = re.compile(  # or the second half of a ratio
    r"\d\s?(?:%|per ?cent)?\s(?:to|or|and|und|bis|à|a|al|tot)\s$|\b(?:1|one|1 to \S+)\s(?:in|of(?: every)?|out of|per)\s(?:\S+\sto\s)?$"
)
_ARTICLE = re.compile(
    r"(?:Der|Die|Das|Dem|Den|Des|Eine?[nmrs]?|Im|Am|Zum|Zur|In|An|Auf|Bei|Mit|Nach|Vor|Seit|Für|Wir|Alle|Jede[rs]?|Le|La|Les|Une?"
    r"|El|Los|Las|Una|Il|Lo|Gli|Uno|Os?|As?|Uma?|De|Het|Een|En|Em|No|Na|Nel|Nella|Op|Nous|Chaque|Cada|Ogni)\s"
)
_LONGEST_NAME = 6  # words
_LONGEST_REASON = 25


@dataclass(frozen=True, slots=True)
class AnswerSpan:
    """Characters `[start, end)` of a sentence that can be asked for."""

    start: int
    end: int
    kind: SpanKind


def answer_spans(sentence: str, language: str) -> list[AnswerSpan]:
    """Return the spans of a sentence that can be asked for, not overlapping, in order.

    Where nouns are capitalised (German), only names of two words and more are told from other nouns.
    """
    found: list[AnswerSpan] = []
    for span in _candidates(sentence, language):
        if not any(span.start < other.end and other.start < span.end for other in found):
            found.append(span)
    return sorted(found, key=lambda s: s.start)


def _candidates(sentence: str, language: str) -> Iterator[AnswerSpan]:
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(sentence):
            group = 1 if kind == "term" else 0
            if kind not in ("number", "share", "money") or not _is_range(sentence, match.start(), match.end()):
                yield AnswerSpan(match.start(group), match.end(group), kind)
    for match in _WORDED.finditer(sentence):
        yield AnswerSpan(match.start(), match.end(), "number")
    if reason := _reason(sentence):
        yield reason
    for match in _NAME.finditer(sentence):
        if _is_name(sentence, match, language):
            yield AnswerSpan(match.start(), match.end(), "name")


def _is_range(sentence: str, start: int, end: int) -> bool:
    return bool(_RANGE_AFTER.match(sentence, end) or _RANGE_BEFORE.search(sentence[:start]))


def _reason(sentence: str) -> AnswerSpan | None:
    match = _REASON.search(sentence)
    end = len(sentence.rstrip(" .!;"))
    if match and match.start() > 0 and 3 <= len(sentence[match.start() : end].split()) <= _LONGEST_REASON:
        return AnswerSpan(match.start(), end, "reason")
    return None


def _is_name(sentence: str, match: re.Match[str], language: str) -> bool:
    """Whether capitalised words name something: not a weekday, no part of a longer name, no adjective of a noun."""
    count, first = len(match.group().split()), match.start() == 0
    if first and language != "en" and _ARTICLE.match(match.group()):
        return False
    if count > _LONGEST_NAME or (count == 1 and (first or language == "de")):
        return False
    goes_on = _GOES_ON.match(sentence, match.end()) or _NOUN_AFTER.match(sentence, match.end())  # "the German engineer"
    repeated = len(set(match.group().split())) < count  # a heading that ran into its sentence
    return not _DAYS.fullmatch(match.group()) and not goes_on and not repeated
