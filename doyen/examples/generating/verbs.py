"""English verbs: which word of a clause is its finite verb, and what undoes its inflection. No parser, no dictionary.

The verb is looked for among auxiliaries and the inflected forms of common verbs; where it is not surely found, nothing is
returned. Written for this project.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

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
STOP = frozenset(
    "a an the of in on at by for with from to into and or but as that which who whom whose where when while than then "
    "if because so per each every is are was were be been being has have had can could will would may might must should "
    "did does do not also only just about over under between during after before since until against through within "
    "without up out off down".split()
)
BARRED = frozenset("that which who whom whose where when while if because although though as whether".split())
_NO_SUBJECT_START = frozenset(
    "he she it they this that these those his her its their such here there in on at by for with from after before "
    "during since under according as if when while although though because despite to today another other both whoever anything "
    "everything nothing something how what why where who which until without within between among through once unless whenever wherever".split()
)
_ADVERB = re.compile(r"\w+ly|also|only|then|now|still|already|often|always|never|just|even|both|first", re.IGNORECASE)
_LONGEST_SUBJECT = 9
_HAVING = {"has": "does", "have": "do", "had": "did"}
_DOUBLED = frozenset("stop refer occur fit control prefer travel".split())


def _third_person(verb: str) -> str:
    if re.search(r"(?:s|x|z|ch|sh|o)$", verb):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"


def _past(verb: str) -> str:
    if verb.endswith("e"):
        return f"{verb}d"
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ied"
    if verb in _DOUBLED:
        return f"{verb}{verb[-1]}ed"
    return f"{verb}ed"


FORMS: dict[str, tuple[str, str]] = (
    {form: ("did", verb) for verb in _VERBS for form in (_past(verb),)}
    | {form: ("did", verb) for form, verb in _IRREGULAR.items()}
    | {form: ("does", verb) for verb in _VERBS for form in (_third_person(verb),)}
)
PLAIN = frozenset(_VERBS)


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
        if word in AUXILIARIES:
            having = word in _HAVING and not _is_participle(text[end:].split())
            helper, base = (_HAVING[word], "have") if having else ("", "")
            return _checked(Clause(text[: tokens[i - 1][1]], word, text[end:].strip(), helper, base))
        if word in BARRED:
            return None
        if before in STOP or _ADVERB.fullmatch(before) or _verb_follows(text[end:]):
            continue
        if word in FORMS:
            helper, base = FORMS[word]
            if i + 1 < len(tokens) and text[tokens[i + 1][0] : tokens[i + 1][1]] == "by" and helper == "did":
                return None  # a participle
            return _checked(Clause(text[: tokens[i - 1][1]], word, text[end:].strip(), helper, base))
        if word in PLAIN and (before in ("we", "you", "i") or (before.endswith("s") and not before.endswith("ss"))):
            return _checked(Clause(text[: tokens[i - 1][1]], word, text[end:].strip(), "do", word))
    return None


def _is_participle(following: Sequence[str]) -> bool:
    """Whether what follows "has" makes it an auxiliary."""
    left = [w.strip(",.;") for w in following if not _ADVERB.fullmatch(w) and w not in ("not", "been")] or [""]
    return (
        "been" in following[:3]
        or bool(re.search(r"(?:ed|en|wn|ne)$", left[0]))
        or left[0] in _IRREGULAR
        or left[0] in PLAIN
    )


def _verb_follows(rest: str) -> bool:
    """Whether an auxiliary follows within the same clause: then the word before it was a noun or a participle."""
    for word in rest.split():
        if word.casefold().strip(",") in BARRED | {"and", "but", "or"} or word.endswith((",", ";", ":")):
            return False
        if word in AUXILIARIES:
            return True
    return False


def _checked(clause: Clause) -> Clause | None:
    words = clause.subject.split()
    first = words[0].casefold()
    barred = first in _NO_SUBJECT_START or any(w.casefold() in BARRED for w in words)
    odd = (
        "'" in words[0]
        or "’" in words[0]
        or any(mark in clause.subject for mark in '",;:()“”')
        or (len(words) == 1 and first in STOP)
    )
    return None if barred or odd or not clause.rest else clause
