"""Two strings in, one figure out: the deterministic per-question metrics.

Knows nothing of questions, arms or refusals (see scoring.py). Definitions follow SQuAD's evaluation script
(normalise, exact match, token F1) and Lin 2004 (ROUGE-L), widened to other scripts and to figures in prose.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["yes", "no", "maybe"]

CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff]")
ARTICLES = {
    "en": frozenset(("a", "an", "the")),
    "es": frozenset(("el", "la", "los", "las", "un", "una", "unos", "unas")),
}
VERDICTS: dict[Verdict, frozenset[str]] = {
    "yes": frozenset("yes y yeah true correct sí si oui ja हाँ हां 是 対 对".split()),
    "no": frozenset("no n not false incorrect non nein नहीं 否 不".split()),
    "maybe": frozenset("maybe possibly unclear uncertain perhaps inconclusive".split()),
}


# ------------------------------------------------------------------ text
def normalise(text: str, language: str = "en") -> str:
    """Return the text in lower case NFC, without punctuation and articles, digits in ASCII, one blank between words.

    A decimal point inside a number and `%` stay; thousand commas go (1,577 → 1577).
    """
    text = "".join(_plain(c) for c in unicodedata.normalize("NFC", text).lower())
    text = re.sub(r"(?<=\d),(?=\d{3}(?:\D|$))", "", text)
    text = re.sub(r"(?<!\d)\.|\.(?!\d)|,", " ", text)
    articles = ARTICLES.get(language, frozenset())
    return " ".join(word for word in text.split() if word not in articles)


def _plain(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Cf":  # zero-width joiners, direction marks
        return ""
    if category[0] in "PSZC" and char not in ".,%":
        return " "
    return char


def tokenise(text: str, language: str = "en") -> list[str]:
    """Return the normalised words; Chinese and Japanese script gives one token a character."""
    return CJK.sub(lambda m: f" {m.group()} ", normalise(text, language)).split()


def exact_match(answer: str, gold: str, language: str = "en") -> float:
    """Return 1.0 where both normalise to the same tokens."""
    return float(tokenise(answer, language) == tokenise(gold, language))


def token_f1(answer: str, gold: str, language: str = "en") -> float:
    """Return the F1 of the tokens as bags, 0..1; symmetric."""
    a, g = tokenise(answer, language), tokenise(gold, language)
    if not a or not g:
        return float(a == g)
    return 2 * (Counter(a) & Counter(g)).total() / (len(a) + len(g))


def containment(answer: str, gold: str, language: str = "en") -> float:
    """Return 1.0 where the gold's tokens stand in a row inside the answer (cat is not in category)."""
    a, g = tokenise(answer, language), tokenise(gold, language)
    return float(bool(g) and any(a[i : i + len(g)] == g for i in range(len(a) - len(g) + 1)))


def rouge_l(answer: str, gold: str, language: str = "en") -> float:
    """Return the F1 of the longest common subsequence of tokens, 0..1 (bit-parallel: Hyyrö 2004)."""
    a, g = tokenise(answer, language), tokenise(gold, language)
    if not a or not g:
        return float(a == g)
    positions: dict[str, int] = {}
    for i, token in enumerate(a):
        positions[token] = positions.get(token, 0) | 1 << i
    every = (1 << len(a)) - 1
    unmatched = every
    for token in g:
        found = unmatched & positions.get(token, 0)
        unmatched = ((unmatched + found) | (unmatched - found)) & every
    return 2 * (len(a) - unmatched.bit_count()) / (len(a) + len(g))


def yesno_verdict(text: str, *, maybe: bool = True) -> Verdict | None:
    """Return the first verdict named in the text, or None; without `maybe` only yes and no are looked for."""
    for token in tokenise(text, language=""):
        for verdict, words in VERDICTS.items():
            if token in words and (maybe or verdict != "maybe"):
                return verdict
    return None


# ------------------------------------------------------------------ numbers
TOLERANCE = 0.01  # relative to the gold number
SCALES = {
    **dict.fromkeys(("thousand", "thousands", "k"), 1e3),
    **dict.fromkeys(("million", "millions", "mm", "mn", "m", "mio"), 1e6),
    **dict.fromkeys(("billion", "billions", "bn", "b"), 1e9),
    **dict.fromkeys(("trillion", "trillions", "tn"), 1e12),
}
SPELLED_SCALES = ("thou", "mill", "bill", "tril")
MONTHS = frozenset(
    "January February March April May June July August September October November December "
    "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec".split()
)
LABELS = frozenset("page pages p pp note item table figure section chapter step exhibit".split())
NAMES = frozenset(("8K", "10K", "3M"))  # two SEC forms and a company
CITATION_MARK = re.compile(r"\[(?:\d+|[^\]]*:\d+)\]")
DIGITS = re.compile(r"[-\u2212]?\d[\d,]*\.?\d*")
NUMBER = re.compile(
    r"""(?P<open>\()?\s*
        (?P<sign>[-\u2212+])?\s*
        (?P<currency>US\$|[$\u20ac\u00a3\u00a5\u20b9])?\s*
        (?P<inner_sign>[-\u2212])?
        (?P<digits>\d{1,3}(?:,\d{2,3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
        (?P<exponent>[eE][-+]?\d+(?![A-Za-z]))?\s*
        (?P<percent>%|percent\b|per\ cent\b|pct\b)?\s*
        (?P<close>\))?\s*
        (?P<outer_percent>%)?[\s-]*
        (?P<word>[A-Za-z]+)?""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written: `value` times `scale`; `year` where it is bare and in 1900..2099."""

    value: float
    scale: float | None = None
    percent: bool = False
    year: bool = False

    def full(self) -> float:
        """Return the value with its scale applied."""
        return self.value * (self.scale or 1.0)


def read_numbers(text: str) -> list[Number]:
    """Return the quantities of a text in its order.

    Citation marks ([2], [d.pdf:3]), days of a month, page and note numbers and digits that are part of a name
    (FY2018, 6.2.3, 3-year, 10-K) are not quantities.
    """
    return [number for number, _ in find_numbers(text)[1]]


def find_numbers(text: str) -> tuple[str, list[tuple[Number, re.Match[str]]]]:
    """Return a text as `read_numbers` reads it, and its quantities with their places in that."""
    text = CITATION_MARK.sub(" ", unicodedata.normalize("NFKC", text))
    found = []
    position = 0
    while match := NUMBER.search(text, position):
        position = match.end("digits")
        if not _in_a_name(text, match) and not _day_or_label(text, match):
            found.append((_as_number(text, match), match))
    return text, found


def _in_a_name(text: str, match: re.Match[str]) -> bool:
    start, end = match.span("digits")
    before = text[start - 1] if start else " "
    if before.isalpha() or (before in "-_./" and start > 1 and text[start - 2].isalnum()):
        return True
    after = text[end : end + 2]
    word = (match["word"] or "").lower()
    if after[:1].isalpha() and word not in SCALES and not match["exponent"]:
        return True
    if after[:1] == "-" and after[1:].isalpha() and not word.startswith(SPELLED_SCALES):
        return True
    return not match["currency"] and match["digits"] + after[:1] in NAMES


def _day_or_label(text: str, match: re.Match[str]) -> bool:
    if match["currency"]:
        return False
    start = match.start("digits")
    before = re.search(r"([A-Za-z]+)\.?\s*$", text[max(0, start - 14) : start])
    word = before[1] if before else ""
    if word.lower() in LABELS:
        return True
    return float(match["digits"].replace(",", "")) <= 31 and (word in MONTHS or match["word"] in MONTHS)


def _as_number(text: str, match: re.Match[str]) -> Number:
    digits = match["digits"].replace(",", "")
    value = float(digits + (match["exponent"] or ""))
    at = match.start("sign")
    minus = match["sign"] in ("-", "\u2212") and (at == 0 or not text[at - 1].isalnum())  # 5-10 is a range
    if minus or match["inner_sign"] or (match["open"] and match["close"]):
        value = -value
    scale = SCALES.get((match["word"] or "").lower())
    percent = bool(match["percent"] or match["outer_percent"])
    bare = match["digits"].isdigit() and not (match["currency"] or percent or scale)
    return Number(value, scale, percent, year=bare and 1900 <= value <= 2099)


def _close(value: float, gold: float) -> bool:
    return abs(value - gold) <= TOLERANCE * max(abs(gold), 1e-12) + 1e-12


def same_number(given: Number, gold: Number) -> bool:
    """Say whether two numbers agree within 1% of the gold.

    Where one side alone names a scale or a percent sign, both readings are accepted: tables state "in millions" once.
    """
    if given.scale and gold.scale:
        return _close(given.full(), gold.full())
    if given.scale or gold.scale:
        if _close(given.value, gold.value) or _close(given.full(), gold.full()):
            return True
        if given.scale:
            return any(_close(given.full(), gold.value * k) for k in (1e3, 1e6, 1e9))
        return any(_close(given.value * k, gold.full()) for k in (1e3, 1e6, 1e9))
    if _close(given.value, gold.value):
        return True
    as_share = (given.value * (0.01 if given.percent else 1), gold.value * (0.01 if gold.percent else 1))
    return given.percent != gold.percent and _close(*as_share)


def number_match(answer: str, golds: Sequence[str]) -> float:
    """Return 1.0 where the first number of the answer is the first number of one of the golds, within 1%.

    Years are passed over unless a gold is a year. Golds without any digit are compared as text.
    """
    wanted = [number for gold in golds for number in (read_numbers(gold) or _bare_digits(gold))[:1]]
    if not wanted:
        return max((exact_match(answer, gold) for gold in golds), default=0.0)
    given = read_numbers(answer) or _bare_digits(answer, signed=False)
    if not any(number.year for number in wanted):
        given = [number for number in given if not number.year] or given
    return float(bool(given) and any(same_number(given[0], number) for number in wanted))


def _bare_digits(text: str, *, signed: bool = True) -> list[Number]:
    """Read digits that are part of a word (200ms, 16-bit), for want of a quantity."""
    found = DIGITS.findall(unicodedata.normalize("NFKC", text))
    values = [float(raw.replace(",", "").replace("\u2212", "-").rstrip(".")) for raw in found]
    return [Number(value if signed else abs(value)) for value in values]
