"""Passages → facts by rules alone: definitions, numbers, dates, names, reasons, statements, tables, headings. Needs no model."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from doyen.chunking import sentence_spans
from doyen.examples.generating import english
from doyen.examples.generating.facts import Fact, fact_of
from doyen.examples.generating.languages import LANGUAGES, Language
from doyen.examples.generating.phrasing import phrasings
from doyen.examples.generating.spans import AnswerSpan, answer_spans
from doyen.examples.generating.structure import heading_facts, rows_of, table_facts
from doyen.records import Chunk, Kind
from doyen.words import words

_SENTENCE_WORDS = (5, 45)
_DEFINITION_WORDS = (3, 30)
_TERM_WORDS = 5
_STATEMENT_WORDS = 22
_LETTERS = 0.6
_NUMBER_KINDS = ("number", "money", "share")
_BULLET = re.compile(r"^\s*(?:[-*•‣▪]|\d{1,2}[.)]|[a-z][.)])\s+")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_QUESTION_WORDS = frozenset(
    "how what why where who which whose top wie was warum comment pourquoi cómo come como hoe".split()
)
_SHORT_MEANING = 8  # words
_NO_TERM = re.compile(
    r"\d|_|\bthere\b|^(?:one|some|many|most|all|since|if|what|sometimes|in|on|at|as|\w+ing) ", re.IGNORECASE
)
_NO_MEANING = re.compile(r"when\b|the (?:\w+est|first|last|only|same|most|main|second|third|following)\b")
_CODE = re.compile(r"[{}<>\\=]|https?://|\w+\(\)")


class RuleGenerator:
    """Finds facts by rules. The same passages give the same facts."""

    name = "rules"

    def generate(self, passages: Sequence[Chunk], progress: Callable[[int], None] | None = None) -> list[Fact]:
        """Return the facts found; see `doyen.examples.generating.facts.Generator`."""
        found: list[Fact] = []
        small = small_words(passages)
        for chunk in passages:
            found += table_facts(chunk)
            found += heading_facts(chunk)
            for span in good_sentences(chunk):
                found += _of_sentence(chunk, span, small)
            if progress:
                progress(1)
        return found


def good_sentences(chunk: Chunk) -> Iterator[tuple[int, int]]:
    """Yield the spans of a chunk's whole sentences that can be understood alone, bullets cut off."""
    rows = rows_of(chunk.text)
    language = LANGUAGES.get(chunk.language or "en")
    low, high = _SENTENCE_WORDS
    for start, end in sentence_spans(chunk.text):
        if any(start < b and a < end for a, b in rows):
            continue
        bullet = _BULLET.match(chunk.text[start:end])
        start += bullet.end() if bullet else 0
        sentence = chunk.text[start:end]
        own = words(sentence)
        if not low <= len(own) <= high or not sentence.rstrip().endswith((".", "!")) or sentence.count("\n") > 3:
            continue
        if not (sentence[0].isupper() or sentence[0].isdigit() or sentence[0] in "\"“„«'"):
            continue
        letters = sum(c.isalpha() or c.isspace() for c in sentence) / len(sentence)
        if own[0] in _QUESTION_WORDS or letters < _LETTERS or _CODE.search(sentence) or "?" in sentence:
            continue
        if language and own[0] in language.pronouns:
            continue
        if sentence.count("(") != sentence.count(")"):
            continue
        yield start, end


def small_words(passages: Sequence[Chunk]) -> frozenset[str]:
    """Return the words that are written small in the passages, by which names are told from sentence starts."""
    small: Counter[str] = Counter()
    large: Counter[str] = Counter()
    for chunk in passages:
        small.update(re.findall(r"(?<![\w'’-])[a-zà-ÿ][\w'’-]*", chunk.text))
        large.update(word.casefold() for word in re.findall(r"(?<=[a-zà-ÿ,] )[A-ZÀ-ÖØ-Þ][\w'’-]*", chunk.text))
    return frozenset(word for word, count in small.items() if count > large[word])


def _joined(chunk: Chunk, span: tuple[int, int], small: frozenset[str]) -> str:
    """Return a sentence on one line, its first word small if that is how it is written elsewhere."""
    sentence = " ".join(chunk.text[slice(*span)].split())
    first = sentence.split()[0]
    follows = sentence.split()[1][:1]
    plain = (
        (first[1:].islower() or len(first) == 1)
        and not follows.isupper()
        and f"{first[0].lower()}{first[1:]}".rstrip(",") in small
    )
    plain = plain or (first.endswith("ing") and follows.islower())
    return f"{sentence[0].lower()}{sentence[1:]}" if plain and chunk.language != "de" else sentence


def _of_sentence(chunk: Chunk, span: tuple[int, int], small: frozenset[str]) -> list[Fact]:
    sentence = _joined(chunk, span, small)
    code = chunk.language or "en"
    found = _definitions(chunk, span, sentence, LANGUAGES.get(code))
    for answer in answer_spans(sentence, code):
        asked, text = phrasings(sentence, answer, code)
        if asked:
            kind: Kind = "number" if answer.kind in _NUMBER_KINDS else "span"
            found.append(fact_of(chunk, span, asked, text, kind=kind, rule=answer.kind))
    return found + _verdicts(chunk, span, sentence, LANGUAGES.get(code), code)


def _definitions(chunk: Chunk, span: tuple[int, int], sentence: str, language: Language | None) -> list[Fact]:
    """Return the definition that a sentence is ("X is a …", "X means …"), if it is one."""
    if language is None:
        return []
    for verb, forms in ((language.means, (language.mean,)), (language.copula, language.define)):
        match = re.match(rf"([^,;:.]{{2,60}}?) {verb}([^;]{{5,}}?)[.!]?$", sentence)
        if not match:
            continue
        term, meaning = match.group(1), re.split(r"; | [–—] |, (?:it|they|he|she|this|but|so) ", match.group(2))[0]  # noqa: RUF001
        if not _defines(term, meaning, language):
            continue
        in_english = language is LANGUAGES["en"]
        named = english.lower_first(term) if in_english else _article_small(term)
        asked = [re.sub(r"\bque (?=une? )", "qu'", form.format(x=named)) for form in forms]
        if in_english:
            asked = english.agreeing(asked, term, meaning, sentence.split(term, 1)[1].split()[0])
        kind: Kind = "span" if len(meaning.split()) <= _SHORT_MEANING else "long"
        return [fact_of(chunk, span, asked, meaning, kind=kind, rule="definition")]
    return []


def _defines(term: str, meaning: str, language: Language) -> bool:
    """Whether a term is a name for something, and what is said of it long enough and no mere remark."""
    low, high = _DEFINITION_WORDS
    return (
        len(term.split()) <= _TERM_WORDS
        and term.split()[0].casefold() not in language.pronouns
        and not _NO_TERM.search(term)
        and len(set(words(term))) == len(words(term))
        and low <= len(meaning.split()) <= high
        and not _NO_MEANING.match(meaning)
    )


def _article_small(term: str) -> str:
    first, _, rest = term.partition(" ")
    return f"{first.lower()} {rest}" if rest and len(first) <= 4 and first.isalpha() and not first.isupper() else term


def _verdicts(chunk: Chunk, span: tuple[int, int], sentence: str, language: Language | None, code: str) -> list[Fact]:
    """Return a statement to be confirmed, and the same with another figure to be denied; chosen by the sentence itself."""
    if language is None or len(sentence.split()) > _STATEMENT_WORDS or ";" in sentence:
        return []
    if code == "en":
        whole = english.verdict_question(sentence.rstrip(".! "))
    else:
        whole = language.true.format(sentence.rstrip(".! "))
    if not whole or (first := sentence.split()[0].casefold()) in language.pronouns or first in ("in", "on"):
        return []
    draw = random.Random(sentence)
    figures = [m for m in _FIGURE.finditer(whole) if not _is_year(m.group())]
    if figures and draw.random() < 0.5:
        figure = draw.choice(figures)
        wrong = f"{whole[: figure.start()]}{_other_figure(figure.group(), draw)}{whole[figure.end() :]}"
        return [fact_of(chunk, span, [wrong], "no", kind="yesno", rule="verdict")]
    return (
        [fact_of(chunk, span, [whole], "yes", kind="yesno", rule="verdict")] if figures or draw.random() < 0.3 else []
    )


def _is_year(figure: str) -> bool:
    return len(figure) == 4 and figure.isdigit() and figure[0] in "12"


def _other_figure(figure: str, draw: random.Random) -> str:
    """Return a figure of the same form and another value."""
    whole = re.match(r"\d+", figure)
    assert whole is not None
    value = int(whole.group())
    other = draw.choice([v for v in (value * 2, value + 1, value + 3, max(value // 2, 1), value + 10) if v != value])
    return f"{other}{figure[whole.end() :]}"


def sentence_and_span(chunk: Chunk) -> Iterator[tuple[tuple[int, int], str, AnswerSpan]]:
    """Yield (place in the chunk, sentence, answer span) of what a model may be asked to word a question for."""
    for span in good_sentences(chunk):
        sentence = " ".join(chunk.text[slice(*span)].split())
        for answer in answer_spans(sentence, chunk.language or "en"):
            yield span, sentence, answer
