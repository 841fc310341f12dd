"""An English clause and the answer in it → questions: subject questions, inversion, do-support, indirect questions.

No parser: the finite verb is looked for among auxiliaries and the inflected forms of common verbs, and a clause whose verb
is not found, or not surely, is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from doyen.examples.generating.spans import AnswerSpan

AUXILIARIES = frozenset(
    "is are was were has have had can could will would may might must should shall cannot did does do".split()
)
_IRREGULAR = dict(
    pair.split("/")
    for pair in (
        "became/become began/begin broke/break brought/bring built/build bought/buy came/come chose/choose did/do drew/draw "
        "drove/drive fell/fall fought/fight found/find flew/fly forgot/forget gave/give went/go grew/grow held/hold kept/keep "
        "knew/know led/lead left/leave lent/lend lost/lose made/make meant/mean met/meet paid/pay ran/run rose/rise said/say "
        "saw/see sold/sell sent/send set/set shook/shake shot/shoot showed/show shut/shut sang/sing sat/sit spoke/speak "
        "spent/spend stood/stand swam/swim took/take taught/teach told/tell thought/think threw/throw understood/understand "
        "won/win wrote/write laid/lay bore/bear sought/seek struck/strike withdrew/withdraw overtook/overtake"
    ).split()
)
_VERBS = (
    "accept account achieve act add adopt affect agree aim allow announce appear apply appoint argue arrive ask attack "
    "attract base become begin believe belong boast bring build buy call cause change charge claim close collect combine "
    "come comprise connect consist contain continue control cost cover create cross decide declare define depend describe "
    "design destroy develop die differ discover divide elect employ enable encourage end enter establish estimate expand "
    "explain express extend fall feature fill find finish fit flow focus follow force form found gain get give go grant "
    "grow happen hold house identify include increase inform inherit inspect insure introduce invade involve issue join "
    "keep kill know lack last launch lay lead leave lend lie lift limit list live lose make manage mean measure meet move "
    "name need occur offer open operate organise originate own pay perform place play prefer prepare present prevent "
    "produce promise propose protect prove provide publish pump purchase put raise range rate reach receive recognise "
    "record reduce refer refuse reject release rely remain remove renew repair replace report represent require reside "
    "result return reveal rise rule run say see sell send serve set settle share show sign signal sit speak spend spread "
    "stand start state stay stop store suffer suggest supply support take teach tell term train travel treat turn use "
    "vary visit win work write"
).split()
_STOP = frozenset(
    "a an the of in on at by for with from to into and or but as that which who whom whose where when while than then "
    "if because so per each every is are was were be been being has have had can could will would may might must should "
    "did does do not also only just about over under between during after before since until against through within "
    "without up out off down".split()
)
_BARRED_IN_SUBJECT = frozenset("that which who whom whose where when while if because although though as whether".split())
_NO_SUBJECT_START = frozenset(
    "he she it they this that these those his her its their such here there in on at by for with from after before "
    "during since under according as if when while although though because despite to today another other both whoever anything "
    "everything nothing something how what why where who which until without within between among through once unless whenever wherever".split()
)
_APPROXIMATE = frozenset("about around nearly almost over approximately roughly only just exactly some more less than at least most up to".split())  # fmt: skip
_BOUND = re.compile(
    r"(?:^|\s)(?P<bound>no (?:later|more|less|fewer) than|(?:more|less|fewer|later|earlier) than|at least|at most|up to|about|around"
    r"|nearly|almost|over|approximately|roughly|only|just|exactly|some)$",
    re.IGNORECASE,
)
_FRONTED = frozenset("within for after before from at in with until since under above below".split())
_LABELS = frozenset(
    "no number section version page chapter between and all both first type class grade stage level phase article figure "
    "table step title clause part no. nr one".split()
)
_ADVERB = re.compile(r"\w+ly|also|only|then|now|still|already|often|always|never|just|even|both|first", re.IGNORECASE)
_LONGEST_SUBJECT = 9
_DEEPEST = 6  # words between the verb and a name that is asked for: further on, it mostly hangs on another word
_YEAR = re.compile(r"\b(?:1[0-9]|20)\d\d\b")
_TIME_UNITS = frozenset("day days week weeks month months year years hour hours minute minutes second seconds".split())
_CUES = frozenset(
    "university college school company bank street city river county state party church museum award prize act law bowl "
    "league club team island ocean sea lake mountain war battle empire dynasty kingdom republic treaty institute council "
    "committee commission court department ministry agency association society group station airport bridge park "
    "festival magazine newspaper album book show series channel network policy plan desk form".split()
)


def _third_person(verb: str) -> str:
    if re.search(r"(?:s|x|z|ch|sh|o)$", verb):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"


def _past(verb: str) -> str:
    if verb.endswith("e"):
        return f"{verb}d"
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ied"
    if verb in ("stop", "run", "set", "put", "sit", "ship", "refer", "occur", "plan", "fit", "win", "control", "prefer"):
        return f"{verb}{verb[-1]}ed"
    return f"{verb}ed"


_FORMS: dict[str, tuple[str, str]] = (
    {form: ("did", verb) for verb in _VERBS for form in (_past(verb),)}
    | {form: ("did", verb) for form, verb in _IRREGULAR.items()}
    | {form: ("does", verb) for verb in _VERBS for form in (_third_person(verb),)}
)
_PLAIN = frozenset(_VERBS)


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause cut at its finite verb: `subject`, `verb`, and the `rest`; `helper` and `base` undo its inflection."""

    subject: str
    verb: str
    rest: str
    helper: str
    base: str

    @property
    def has_auxiliary(self) -> bool:
        """Whether the verb itself goes before the subject in a question."""
        return not self.base


def split_clause(text: str) -> Clause | None:
    """Return a clause cut at its finite verb, or None where that is not surely found."""
    tokens = [(m.start(), m.end()) for m in re.finditer(r"\S+", text)]
    for i, (start, end) in enumerate(tokens[: _LONGEST_SUBJECT + 1]):
        word = text[start:end]
        if word.endswith((",", ";", ":")) and i < len(tokens) - 1 and not word[0].isupper():
            return None
        if i == 0 or not word.islower():
            continue
        before = text[tokens[i - 1][0] : tokens[i - 1][1]].casefold()
        if word in ("has", "have", "had") and not _is_participle(text[end:].split()):
            helper = {"has": "does", "have": "do", "had": "did"}[word]
            return _checked(Clause(text[: tokens[i - 1][1]], word, text[end:].strip(), helper, "have"))
        if word in AUXILIARIES:
            return _checked(Clause(text[: tokens[i - 1][1]], word, text[end:].strip(), "", ""))
        if word in _BARRED_IN_SUBJECT:
            return None
        if before in _STOP or _ADVERB.fullmatch(before) or _verb_follows(text[end:]):
            continue
        if word in _FORMS:
            helper, base = _FORMS[word]
            if i + 1 < len(tokens) and text[tokens[i + 1][0] : tokens[i + 1][1]] == "by" and helper == "did":
                return None  # a participle
            return _checked(Clause(text[: tokens[i - 1][1]], word, text[end:].strip(), helper, base))
        if word in _PLAIN and (before in ("we", "you", "i") or (before.endswith("s") and not before.endswith("ss"))):
            return _checked(Clause(text[: tokens[i - 1][1]], word, text[end:].strip(), "do", word))
    return None


def _is_participle(following: Sequence[str]) -> bool:
    """Whether what follows "has" makes it an auxiliary."""
    left = [w.strip(",.;") for w in following if not _ADVERB.fullmatch(w) and w not in ("not", "been")] or [""]
    return "been" in following[:3] or bool(re.search(r"(?:ed|en|wn|ne)$", left[0])) or left[0] in _IRREGULAR or left[0] in _PLAIN


def _verb_follows(rest: str) -> bool:
    """Whether an auxiliary follows within the same clause: then the word before it was a noun or a participle."""
    for word in rest.split():
        if word.casefold().strip(",") in _BARRED_IN_SUBJECT | {"and", "but", "or"} or word.endswith((",", ";", ":")):
            return False
        if word in AUXILIARIES:
            return True
    return False


def _checked(clause: Clause) -> Clause | None:
    words = clause.subject.split()
    first = words[0].casefold()
    barred = first in _NO_SUBJECT_START or any(w.casefold() in _BARRED_IN_SUBJECT for w in words)
    odd = "'" in words[0] or "’" in words[0] or any(mark in clause.subject for mark in '",;:()“”') or (len(words) == 1 and first in _STOP)
    return None if barred or odd or not clause.rest else clause


def lower_first(text: str) -> str:
    """Return a text with a small first letter where the first word is an article, a pronoun or the like."""
    first, _, rest = text.partition(" ")
    plain = first.casefold() in _STOP | {"we", "you", "each", "every", "all", "most", "some", "many", "any", "no", "one"}
    return f"{first[:1].lower()}{first[1:]} {rest}".strip() if plain else text


def counted(text: str, end: int) -> str:
    """Return what a number ending at `end` counts: the up to three words behind it before a function word."""
    found: list[str] = []
    for match in re.finditer(r"\S+", text[end:]):
        word = match.group()
        bare = word.rstrip(".,;:)")
        if bare.casefold() in _STOP or not re.fullmatch(r"[^\W\d_][\w'’-]*", bare) or bare in _FORMS and bare not in _TIME_UNITS:
            break
        found.append(bare)
        if bare != word or len(found) == 3:
            break
    return " ".join(found)


def questions_of(text: str, span: AnswerSpan) -> tuple[list[str], str]:
    """Return the questions for a span of a clause (several phrasings, best first) and the answer; ([], "") if none.

    `text` is a clause without introduction and subordinate ends; the span's offsets are in it.
    """
    clause = split_clause(text)
    if clause is None:
        return [], ""
    answer = text[span.start : span.end]
    noun = counted(text, span.end) if span.kind == "number" else ""
    in_subject = span.start < len(clause.subject)
    if in_subject:
        return _of_subject(clause, text, span, noun, answer)
    return _of_rest(clause, text, span, noun, answer)


def _of_subject(clause: Clause, text: str, span: AnswerSpan, noun: str, answer: str) -> tuple[list[str], str]:
    before, after = clause.subject[: span.start].split(), clause.subject[span.end :].strip()
    predicate = f"{clause.verb} {_first_of_two(clause.rest)}"
    if span.kind == "number" and noun and all(w.casefold() in _APPROXIMATE for w in before) and after.startswith(noun):
        asked = f"how many {after} {predicate}"
        answer = f"{answer} {noun}" if noun in _TIME_UNITS else answer
    elif span.kind == "name" and not after and answer.casefold() not in _CUES and all(w.casefold() == "the" for w in before):
        asked = f"{_which(answer, before)} {predicate}"
    elif span.kind in ("money", "share") and not after and all(w.casefold() in _APPROXIMATE for w in before):
        asked = f"{'how much' if span.kind == 'money' else 'what percentage'} {predicate}"
    else:
        return [], ""
    return [_ask(asked), f"Tell me {asked.rstrip('.')}."], answer


def _which(answer: str, before: Sequence[str], preposition: str = "") -> str:
    last = answer.split()[-1].casefold()
    if last in _CUES:
        return f"which {last}"
    if answer.split()[0].casefold() in _LABELS | {"most", "many", "some", "part", "all", "each", "every"}:
        return "what"
    person = len(answer.split()) in (2, 3) and not before and all(re.fullmatch(r"[A-Z][\w'’.-]+", w) for w in answer.split())
    if preposition in ("in", "at"):
        return "where"
    return "who" if person and preposition in ("", "by") else "what"


def _of_rest(clause: Clause, text: str, span: AnswerSpan, noun: str, answer: str) -> tuple[list[str], str]:
    offset = text.index(clause.rest, len(clause.subject) + len(clause.verb)) if clause.rest else len(text)
    if span.start < offset:
        return [], ""
    before, after = clause.rest[: span.start - offset].rstrip(), clause.rest[span.end - offset :]
    after = _first_of_two(after)
    up_to = ""
    while span.kind in ("number", "money", "share") and (found := _BOUND.search(before)):
        up_to = "up to " if found["bound"].casefold() == "up to" else up_to
        before = before[: found.start()].rstrip()
    words = before.split()
    last = words[-1].casefold() if words else ""
    alternative = ""
    if _first_of_two(before) != before or answer.endswith(("'s", "’s")):
        return [], ""
    if span.kind == "name" and (
        len(words) > _DEEPEST or len(after.split()) > _DEEPEST or re.match(r"\s(?:of|named|\d)", after)
    ):
        return [], ""
    if last == "from" and re.match(r"\s(?:to|until|through)\b", after):
        return [], ""
    if span.kind in ("number", "share", "money") and any(w.endswith("ing") for w in words[:-1]) and len(words) > 3:
        return [], ""
    if span.kind in ("year", "date"):
        if span.kind == "year" and counted(text, span.end):
            return [], ""
        if _YEAR.search(clause.rest.replace(answer, "", 1)):
            return [], ""
        if span.kind == "year" and clause.verb in ("is", "are", "has", "have") and last in ("in", "on", "of", "around"):
            return [], ""
        if last not in ("in", "on", "since", "by", "until", "from", "of", "around", "before", "after"):
            return [], ""
        wh, alternative = ("when", "in what year") if span.kind == "year" else ("when", "on what date")
        if last in ("in", "on", "around"):
            words.pop()
        else:
            wh, alternative = f"{words.pop()} when" if last != "of" else "", ""
    elif span.kind == "time":
        if last not in ("at", "until", "from", "by", "before", "after"):
            return [], ""
        words.pop()
        wh = "at what time" if last == "at" else f"{last} what time"
    elif span.kind == "money":
        wh = "how much"
    elif span.kind == "share":
        of = re.match(rf"\s+of ((?:the )?[\w'’-]+(?: (?!(?:{'|'.join(_STOP)})\b)[\w'’-]+)?)", after)
        wh = f"what percentage of {of.group(1)}" if of else "what percentage"
        after = after[of.end() :] if of else after
    elif span.kind == "number":
        if not noun or "-" in answer or last in _LABELS or (answer in ("1", "one") and noun.split()[0] in _TIME_UNITS):
            return [], ""
        if words[-2:] == ["one", "of"]:
            return [], ""
        tail = re.match(rf"\s*{re.escape(noun)}", after)
        after = after[tail.end() :] if tail else after
        wh = f"how many {noun}"
        answer = f"{answer} {noun}" if noun.split()[0] in _TIME_UNITS else answer
    elif span.kind == "reason":
        wh, words = "why", words
    else:
        if last in ("a", "an") or answer.casefold() in _CUES:
            return [], ""
        preposition = last if last in ("in", "at", "by", "from", "to", "with", "for", "of", "on", "near", "as") else ""
        if last == "the" or (words and not preposition and last not in _FORMS and clause.rest and before and last not in AUXILIARIES):
            cue = _which(answer, ["the"])
            if not cue.startswith("which") and last != "the":
                return [], ""
            preposition = words[-2].casefold() if last == "the" and len(words) > 1 else preposition
            if last == "the":
                words.pop()
        wh = _which(answer, [] if last != "the" else ["the"], preposition)
        if wh == "where" and words and words[-1].casefold() in ("in", "at"):
            words.pop()
    if span.kind in ("number", "money", "share"):
        if words and last in _FRONTED:
            wh = f"{words.pop().casefold()} {up_to}{wh}"
        else:
            wh = f"{up_to}{wh}"
    if not wh or (words and words[-1].casefold().strip(",") in _BARRED_IN_SUBJECT | {"and", "or", "than"}):
        return [], ""
    left = _joined(words, after)
    inverted = f"{clause.verb} {lower_first(clause.subject)}" if clause.has_auxiliary else ""
    if inverted:
        direct = f"{wh} {inverted} {left}"
    else:
        direct = f"{wh} {clause.helper} {lower_first(clause.subject)} {clause.base} {left}"
    indirect = f"Tell me {wh} {lower_first(clause.subject)} {clause.verb} {left}"
    asked = [_ask(direct), f"{' '.join(indirect.split()).rstrip(' .,;')}."]
    if alternative:
        asked.insert(1, _ask(direct.replace(wh, alternative, 1)))
    return asked, answer


def _first_of_two(text: str) -> str:
    """Return a predicate up to an "and" that another verb follows."""
    for match in re.finditer(r",?\s+(?:and|but|or)\s", text):
        following = [w.strip(",.;") for w in text[match.end() :].split()[:4]]
        if any(w in AUXILIARIES or w in _FORMS or (i == 0 and w in _PLAIN) for i, w in enumerate(following)):
            return text[: match.start()]
    return text


def _joined(words: Sequence[str], after: str) -> str:
    left = f"{' '.join(words)} {after.strip()}" if after[:1].isspace() or not after.strip() else f"{' '.join(words)}{after}"
    return re.sub(r"\s+([,.;:])", r"\1", left).strip(" .,;:")


def _ask(text: str) -> str:
    text = re.sub(r"\s+([,.;:)])", r"\1", " ".join(text.split())).rstrip(" .,;:")
    return f"{text[:1].upper()}{text[1:]}?"


def verdict_question(text: str) -> str:
    """Return the yes-or-no question of a clause with an auxiliary or a known verb; '' if its verb is not found."""
    clause = split_clause(text)
    if clause is None or clause.verb == "cannot":
        return ""
    subject = lower_first(clause.subject)
    if clause.has_auxiliary:
        return _ask(f"{clause.verb} {subject} {clause.rest}")
    return _ask(f"{clause.helper} {subject} {clause.base} {clause.rest}")
