"""A sentence and the answer span in it → questions in the sentence's language, several phrasings each."""

from __future__ import annotations

import re

from doyen.examples.generating import english, verbs
from doyen.examples.generating.clauses import Part, main_clause
from doyen.examples.generating.languages import LANGUAGES, Language
from doyen.examples.generating.spans import AnswerSpan

_LONGEST = 24  # words of a question
_ARTICLES = frozenset(
    "le la les un une el los las una unos unas il lo i gli uno o a os as um uma der die das ein eine einen dem den im am zum "
    "de het een nous vous nos cada jede jeder jedes wir sie todos toutes tous ogni in en no na nel nella".split()
)
_YEAR_WORDS = frozenset("jahr jahre año anno ano année jaar".split())
_BEFORE_AMOUNT = frozenset("de a à di por von om per".split())
_FEMININE = {"cuántos": ("cuántas", "as"), "quanti": ("quante", "e"), "quantos": ("quantas", "as")}


def phrasings(sentence: str, span: AnswerSpan, code: str) -> tuple[list[str], str]:
    """Return the questions whose answer is the span, best first, and the answer as it stands in the sentence.

    ([], "") where the sentence cannot be turned into a question without breaking it. In languages that are not known
    here the span becomes a gap to be filled.
    """
    part = main_clause(sentence, span)
    if part is None or (part.in_introduction and span.kind not in ("year", "date")):
        return [], ""
    language = LANGUAGES.get(code)
    if language is None:
        text = f"{part.text[: part.span.start]}…{part.text[part.span.end :]}" if not part.in_introduction else ""
        found, answer = ([text], sentence[span.start : span.end]) if text else ([], "")
    elif code == "en":
        found, answer = _english(part, sentence[span.start : span.end])
    else:
        found, answer = _other(part, sentence[span.start : span.end], language)
    found = [q for q in dict.fromkeys(found) if 3 <= len(q.split()) <= _LONGEST]
    return (found, answer) if found else ([], "")


def _english(part: Part, answer: str) -> tuple[list[str], str]:
    if part.in_introduction:
        clause = verbs.split_clause(part.text)
        if clause is None:
            return [], ""
        wh = _of_introduction(part)
        asked = english.verdict_question(part.text)
        indirect = f"Tell me {wh} {english.lower_first(part.text)}."
        return [f"{wh[:1].upper()}{wh[1:]} {asked[:1].lower()}{asked[1:]}", indirect], answer
    text = part.text
    if part.introduction and part.span.kind not in ("year", "date"):
        text = f"{text} {part.introduction}"
    return english.questions_of(text, part.span)


def _of_introduction(part: Part) -> str:
    first = part.introduction.split()[0].casefold()
    wh = "in what year" if part.span.kind == "year" and first == "in" else "when"
    return wh if first in ("in", "on") else f"{first} when"


def _other(part: Part, answer: str, language: Language) -> tuple[list[str], str]:
    first = part.text.split()[0].casefold().strip(",")
    if first in language.pronouns:
        return [], ""
    if part.in_introduction:
        wh = language.year if part.span.kind == "year" else language.when
        rest = _small(part.text) if language.order == "front" else ""
        return (_asked(language, wh, rest), answer) if rest else ([], "")
    wh, before, after = _asked_for(part, language)
    if not wh:
        return [], ""
    if part.introduction and language.order == "front":
        after = f"{after.rstrip()} {part.introduction}"
    if not before.strip():
        return _asked(language, wh, after), answer
    if language.order == "second":
        return _second(language, wh, before, after), answer
    return _asked(language, wh, f"{_small(before.strip())} {after}"), answer


def _asked_for(part: Part, language: Language) -> tuple[str, str, str]:
    """Return the question word, and what stands before and after what it stands for."""
    before, after, kind = part.text[: part.span.start], part.text[part.span.end :], part.span.kind
    words = before.split()
    last = words[-1].casefold() if words else ""
    if kind in ("year", "date", "time"):
        before_dates = language.at | _YEAR_WORDS
        if last not in before_dates:
            return "", "", ""
        while words and words[-1].casefold() in before_dates:
            words.pop()
        return (language.year if kind == "year" else language.when), " ".join(words), after
    if kind == "money":
        return language.much, " ".join(words[:-1] if last in _BEFORE_AMOUNT else words), after
    if kind == "share":
        return language.share, before, after
    if kind == "number":
        noun = _noun(after)
        if not noun:
            return "", "", ""
        return _many(language, noun), before, after[after.index(noun) + len(noun) :]
    if kind == "name" and not before.strip():
        return (
            (language.who if len(part.text[part.span.start : part.span.end].split()) == 2 else language.what),
            before,
            after,
        )
    return "", "", ""


def _many(language: Language, noun: str) -> str:
    asked = language.many.format(noun)
    for masculine, (feminine, ending) in _FEMININE.items():
        if asked.startswith(f"{masculine} ") and noun.endswith(ending):
            asked = asked.replace(masculine, feminine, 1)
    return re.sub(r"\bde (?=[aeéèêiou])", "d'", asked) if asked.startswith("combien") else asked


def _noun(after: str) -> str:
    found = re.match(r"\s([^\W\d_][\w'’-]{2,})", after)
    return found.group(1) if found else ""


def _second(language: Language, wh: str, before: str, after: str) -> list[str]:
    """Put the question word first and the finite verb second; in place where no verb is known."""
    words = before.split()
    at = next((i for i, w in enumerate(words) if i and w in language.verbs), None)
    if at is None:
        return []
    subject = " ".join(words[:at])
    for joined in re.finditer(r",? (?:und|en) (\w+)", after):
        if joined.group(1) in language.verbs:
            after = after[: joined.start()]
            break
    return [language.ask.format(_capital(f"{wh} {words[at]} {_small(subject)} {' '.join(words[at + 1 :])}{after}"))]


def _asked(language: Language, wh: str, rest: str) -> list[str]:
    body = " ".join(f"{wh} {rest}".split()).rstrip(" .,;:")
    found = [language.ask.format(_capital(body))]
    if language.tell:
        found.append(language.tell.format(body))
    return found


def _small(text: str) -> str:
    """Write a first article or pronoun small."""
    first, _, rest = text.partition(" ")
    if first.casefold() in _ARTICLES:
        return f"{first.lower()} {rest}".strip()
    return f"{text[:1].lower()}{text[1:]}" if re.match(r"(?:L|D|Un|Dell|All|Nell)['’]", text) else text


def _capital(text: str) -> str:
    text = re.sub(r"\s+([,.;:?])", r"\1", " ".join(text.split())).rstrip(" .,;:")
    return f"{text[:1].upper()}{text[1:]}"
