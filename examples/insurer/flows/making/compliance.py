"""Rules with cases → the rule book and labelled documents: each holds a sentence of one case, or none that a rule is about."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from source.markup import Block, Document

SEED = 20261130
KINDS = ("advertisement", "web", "letter", "decision")
INTRODUCTION = (
    "For all who write to members or to the public. Each rule names cases and says what is done with a text in which one "
    "occurs: release, stop, or counsel. Counsel means that the secretary's counsel reads it first. A text to which no rule "
    "applies is released. The book comes out anew every spring."
)


@dataclass
class Rule:
    """A rule: the kinds of text it is met in, and its cases as (label, verdict)."""

    name: str
    kinds: tuple[str, ...]
    title: str
    cases: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class RuleFile:
    """What the file holds: rules, sentences as (split, rule, verdict, text), and fillers by kind and split."""

    rules: list[Rule] = field(default_factory=list)
    sentences: list[tuple[str, str, str, str]] = field(default_factory=list)
    fillers: dict[tuple[str, str], list[str]] = field(default_factory=dict)


def read_rules(path: Path) -> RuleFile:
    """Read the rules' file: '@' opens a rule, the texts without one (None) or a filler; '=' a case; 't', 'h' sentences."""
    found = RuleFile()
    head = [""]
    for line in path.read_text(encoding="utf-8").splitlines():
        mark, _, rest = line.partition(" ")
        split = {"t": "train", "h": "test"}.get(mark, "")
        if mark == "@":
            head = rest.split(" :: ")
            if len(head) == 3:
                found.rules.append(Rule(head[0], tuple(head[1].split()), head[2]))
        elif mark == "=":
            label, verdict = rest.split(" :: ")
            found.rules[-1].cases.append((label, verdict))
        elif split and head[0].startswith("filler."):
            found.fillers.setdefault((head[0].removeprefix("filler."), split), []).append(rest)
        elif split:
            verdict = "release" if head == ["None"] else found.rules[-1].cases[-1][1]
            found.sentences.append((split, head[0], verdict, rest))
        elif line.strip():
            raise ValueError(f"{path.name}: line not understood: {line}")
    return found


def rule_heading(name: str) -> str:
    """Return the heading of a rule in the rule book."""
    return f"Rule {name}"


def rule_book(rules: list[Rule]) -> Document:
    """Return the rule book: a page for each rule."""
    blocks = [Block("text", INTRODUCTION)]
    for rule in rules:
        lines = [f"{label}: {verdict}." for label, verdict in rule.cases]
        random.Random(rule.name).shuffle(lines)
        blocks += [Block("part", rule_heading(rule.name)), Block("text", f"{rule.title}.")]
        blocks += [Block("text", line) for line in lines]
    title, footer = "Rule book for communications", "Velmarrow Mutual, rule book for communications, spring 2026"
    return Document("communications-rule-book", title, "What may leave the house, spring 2026", footer, blocks)


def _document(
    kind: str, split: str, sentence: str, fillers: dict[tuple[str, str], list[str]], draw: random.Random
) -> str:
    around = draw.sample(fillers[kind, split], draw.randint(1, 3))
    if kind in ("letter", "decision"):  # greetings first, the desk last
        around.sort(key=lambda text: (not text.startswith("Dear"), text.startswith("Yours")))
        at = draw.randint(bool(around[0].startswith("Dear")), len(around) - around[-1].startswith("Yours"))
    else:
        at = draw.randint(0, len(around))
    return "\n".join([*around[:at], sentence, *around[at:]])


def make_documents(found: RuleFile, page_of_rule: dict[str, int]) -> list[dict[str, Any]]:
    """Return the rows, those for training first, each split in an order drawn by lot."""
    draw = random.Random(SEED)
    kinds = {rule.name: rule.kinds for rule in found.rules}
    rows = []
    for split in ("train", "test"):
        mine = [one for one in found.sentences if one[0] == split]
        for number, (_, name, verdict, sentence) in enumerate(draw.sample(mine, len(mine))):
            allowed = kinds.get(name, KINDS)
            kind = allowed[number % len(allowed)]
            text = _document(kind, split, sentence, found.fillers, draw)
            labels = {"expected.rule": name, "expected.finding": "" if name == "None" else verdict}
            row = {"item": f"T-26-{len(rows) + 1:03d}", "split": split, "kind": kind, "text": text}
            row |= labels | {"expected.decision": verdict, "sentence": sentence}
            book = "" if name == "None" else "desk/communications-rule-book.pdf"
            rows.append(row | {"document": book, "page": page_of_rule.get(name, "")})
    return rows
