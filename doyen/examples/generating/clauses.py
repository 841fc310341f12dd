"""A sentence → the main clause around an answer span, without introductions, asides and subordinate ends."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from doyen.examples.generating.spans import AnswerSpan

_CONNECTOR = re.compile(
    r"(?:However|Therefore|Thus|Hence|Moreover|Furthermore|Additionally|In addition|For example|For instance|Also|But|And"
    r"|So|As a result|In fact|Finally|Similarly|Instead|Meanwhile|Consequently|Today|Currently"
    r"|Außerdem|Daher|Zudem|Jedoch|Ferner|Aber|Und|De plus|En outre|Cependant|Toutefois|Además|Sin embargo|Por tanto"
    r"|Inoltre|Tuttavia|Quindi|Além disso|No entanto|Bovendien|Echter|Daarom),?\s+"
)
_INTRODUCTION = re.compile(
    r"(?:In|On|At|By|During|After|Before|Since|From|Under|Until|Between|Within|Throughout|For|Among"
    r"|Im|Am|Ab|Seit|Bis|Vor|Nach|Während|En|Au|Dès|Depuis|Pendant|Desde|Hasta|Durante|Nel|Nella|Dal|Em|No|Na|Op|Vanaf|Sinds)"
    r"\s[^,;:]{2,60},\s+"
)
_END = re.compile(
    r"\s*(?:;|:\s|\s[-–—]\s|,\s(?:which|who|whom|whose|where|when|while|whereas|although|though|but|so|as|with|making|causing"  # noqa: RUF001
    r"|leading|resulting|including|and (?:is|are|was|were|has|have|then|also|it|he|she|they|the|its|his|their|this|these|in)"
    r"|sondern|wobei|während|wenn|weil|obwohl|aber|und|der|die|das|qui|que|dont|où|mais|tandis|avec|et|cuando|donde|mientras"
    r"|pero|con|y|che|mentre|ma|dove|e|enquanto|mas|onde|terwijl|maar|waarbij|en)\b"
    r"|\s(?:while|whereas|although|though|but|who|which)\s|,\s(?:\w+ly\s)?\w+(?:ed|ing)\s)"
)
_ASIDE = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")


@dataclass(frozen=True, slots=True)
class Part:
    """The clause to ask about, the span in it, and an introduction ("in 1990") that can be put at its end."""

    text: str
    span: AnswerSpan
    introduction: str = ""
    in_introduction: bool = False


def main_clause(sentence: str, span: AnswerSpan) -> Part | None:
    """Return the main clause with its span; None where the span lies in another part of the sentence.

    Where the introduction itself holds the span ("In 1990, …"), `text` is what follows it.
    """
    text = sentence.rstrip()
    text = text[:-1] if text.endswith((".", "!")) else text
    if connector := _CONNECTOR.match(text):
        text, span = _cut_start(text, span, connector.end())
    text, span = _without_asides(text, span)
    if span.start < 0:
        return None
    introduction = ""
    if found := _INTRODUCTION.match(text):
        introduction = found.group().rstrip(" ,")
        rest = text[found.end() :]
        if span.start < found.end():
            end = _END.search(rest)
            whole = rest[: end.start()] if end else rest
            return Part(whole, span, introduction, in_introduction=True)
        text, span = _cut_start(text, span, found.end())
    for end in _END.finditer(text):
        if end.start() >= span.end:
            text = text[: end.start()]
            break
        if span.kind != "reason":
            return None
    if text.count('"') % 2 or text.count("“") != text.count("”"):
        return None
    return Part(text, span, f"{introduction[:1].lower()}{introduction[1:]}")


def _cut_start(text: str, span: AnswerSpan, end: int) -> tuple[str, AnswerSpan]:
    return text[end:], replace(span, start=span.start - end, end=span.end - end)


def _without_asides(text: str, span: AnswerSpan) -> tuple[str, AnswerSpan]:
    """Take out parentheses that do not hold the span; a span in one has no clause (start -1)."""
    while True:
        for aside in _ASIDE.finditer(text):
            if aside.start() <= span.start < aside.end():
                return text, replace(span, start=-1, end=-1)
            text = text[: aside.start()] + text[aside.end() :]
            if aside.end() <= span.start:
                length = aside.end() - aside.start()
                span = replace(span, start=span.start - length, end=span.end - length)
            break
        else:
            return text, span
