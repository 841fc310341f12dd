"""What check steps find wrong with a value: its schema, citations, quotes and numbers without evidence, words, limits. Asks no model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from doyen.records import Hit
from doyen.words import words
from doyen.workflows.definition import Check
from doyen.workflows.expressions import resolve
from doyen.workflows.templates import as_text

_CITED = re.compile(r"\[(\d{1,2}(?:\s*,\s*\d{1,2})*)\]")
_NUMBER = re.compile(r"\d+(?:[.,'\u00a0\u202f ]\d{3})*(?:[.,]\d+)?(?!\w)|\d+")
_MOST_NAMED = 5


def faults_of_value(step: Check, values: Mapping[str, Any], shown: Sequence[Hit] | None) -> list[str]:
    """Return what is wrong with the value of `step.of`. `shown` are the passages of its prompt, None where it was shown none.

    Raises:
        RowFault: a limit cannot be computed.
    """
    value = values[step.of]
    text = value if isinstance(value, str) else as_text(value)
    found = list(_schema_faults(step, value))
    if step.citations and shown is not None:
        found += _citation_faults(text, len(shown))
    if shown is not None:
        found += _quote_faults(step, values, shown)
    if step.numbers_in:
        found += _number_faults(text, [values.get(name) for name in step.numbers_in])
    found += _word_faults(step, text)
    for limit in step.require:
        if limit.that.evaluate(values) is not True:
            found.append(limit.because or f"{limit.that.text} does not hold")
    return found


def _schema_faults(step: Check, value: Any) -> list[str]:
    if step.schema is None:
        return []
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(dict(step.schema)).iter_errors(value)
    return [f"not valid by the schema: {error.message[:200]}" for error in errors][:_MOST_NAMED]


def _citation_faults(text: str, passages: int) -> list[str]:
    numbers = [int(n) for mark in _CITED.findall(text) for n in mark.split(",")]
    if not numbers:
        return ["it names no passage"]
    wrong = sorted({n for n in numbers if not 1 <= n <= passages})
    return [f"it names passages that it was not shown: {', '.join(map(str, wrong))}"] if wrong else []


def _quote_faults(step: Check, values: Mapping[str, Any], shown: Sequence[Hit]) -> list[str]:
    """Name what stands in no single passage, word for word; white space and case do not count, nor what has a null in it.

    A text with an empty value in it is no quote.
    """
    if not step.quotes:
        return []
    there = [_flat(_as_evidence((hit,))) for hit in shown]
    found = []
    for template in step.quotes:
        parts = [resolve(path, values) for path in template.paths]
        if any(part is None for part in parts):
            continue
        text = _flat(template.fill(values))
        whole = re.compile(rf"(?<![\w.,]){re.escape(text)}(?!\w)")
        if not all(as_text(part).strip() for part in parts) or not any(whole.search(passage) for passage in there):
            found.append(f"'{text[:100]}' stands in no passage")
    return found


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())


def _number_faults(text: str, evidence: Sequence[Any]) -> list[str]:
    there: set[str] = set()
    for value in evidence:
        there |= set(numbers_of(_as_evidence(value)))
    missing = [n for n in numbers_of(_CITED.sub(" ", text)) if n not in there]
    named = list(dict.fromkeys(missing))[:_MOST_NAMED]
    return [f"numbers without evidence: {', '.join(named)}"] if named else []


def _as_evidence(value: Any) -> str:
    """Return a value's text; of passages without their numbers, which are no evidence."""
    if isinstance(value, tuple):
        return "\n".join(f"{hit.chunk.context}\n{hit.chunk.text}" for hit in value)
    return as_text(value)


def numbers_of(text: str) -> list[str]:
    """Return the numbers of a text in one spelling: `1,200.50`, `1.200,5` and `1200.5` are one."""
    return [_canonical(found) for found in _NUMBER.findall(text)]


def _canonical(number: str) -> str:
    bare = re.sub(r"['\u00a0\u202f ]", "", number)
    last = max(bare.rfind("."), bare.rfind(","))
    if last < 0:
        return bare.lstrip("0") or "0"
    sign, decimals = bare[last], bare[last + 1 :]
    whole = bare[:last]
    groups = (
        len(decimals) == 3
        and (bare.count(sign) > 1 or not set(".,") - {sign} & set(whole))
        and len(whole) <= 3 * bare.count(sign)
    )
    if groups:  # 1,200: the last mark parts thousands, too
        return re.sub(r"\D", "", bare).lstrip("0") or "0"
    digits = re.sub(r"\D", "", whole).lstrip("0") or "0"
    rest = decimals.rstrip("0")
    return f"{digits}.{rest}" if rest else digits


def _word_faults(step: Check, text: str) -> list[str]:
    count = len(words(text))
    found = []
    if step.least_words and count < step.least_words:
        found.append(f"{count} words, at least {step.least_words} are asked for")
    if step.most_words and count > step.most_words:
        found.append(f"{count} words, at most {step.most_words} are asked for")
    low = text.casefold()
    found += [f"'{part}' is missing" for part in step.contains if part.casefold() not in low]
    return found + [f"'{part}' stands in it" for part in step.never if part.casefold() in low]
