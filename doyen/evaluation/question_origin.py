"""Who wrote a comparison's questions, and how far generated ones can be trusted: figures and plain sentences.

Enters: the questions, their scores, the index, the documents that the adapter was trained on. Leaves: `origin` of a report,
and its text for the page, the wiki and the terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from doyen.evaluation.scoring import Score
from doyen.evaluation.statistics import bootstrap_mean
from doyen.evaluation.trainings import MeanScore
from doyen.index.store import Index
from doyen.records import GENERATED, Chunk, Question
from doyen.retrieval.terms import question_terms, stems_of

_WRITTEN_BY = {"rules": "rules", "model": "the expert's own model", "teacher": "a stronger model"}
_FEW_HUMAN = 30


def question_origin(
    questions: Sequence[Question], index: Index, trained: Collection[str] = ()
) -> dict[str, Any] | None:
    """Return who wrote the questions, None where all are a person's; `trained` are the documents an adapter stands on.

    Returns:
        human, generated: counts; writers: who → count; accepted, edited, not_reviewed: of the generated ones
        seen: generated ones about a document that was trained on
        wording: {generated, human: {value, low, high, n}}: the mean share of a question's telling words that stand in the
            one passage of its gold which has most of them; without questions that have gold, left out
    """
    made = [q for q in questions if GENERATED in q.tags]
    if not made:
        return None
    own = [q for q in questions if GENERATED not in q.tags]
    marks = Counter(mark for q in made for mark in ("accepted", "edited") if mark in q.tags)
    shared = {name: _wording(group, index) for name, group in (("generated", made), ("human", own))}
    return {
        "human": len(own),
        "generated": len(made),
        "writers": {w: n for w in _WRITTEN_BY if (n := sum(w in q.tags for q in made))},
        "accepted": marks["accepted"],
        "edited": marks["edited"],
        "not_reviewed": len(made) - marks.total(),
        "seen": sum(any(g.document in trained for g in q.gold) for q in made),
        "wording": {name: bootstrap_mean(found, seed=0).as_dict() for name, found in shared.items() if found},
    }


def _wording(questions: Sequence[Question], index: Index) -> list[float]:
    """Return each question's share of telling words in the passage of its gold that has most of them, whatever their form."""
    chunks: dict[str, list[tuple[Chunk, frozenset[str]]]] = {}
    for chunk in index.chunks_of(sorted({g.document for q in questions for g in q.gold})):
        text = chunk.indexed.replace("_", " ")  # names of columns
        chunks.setdefault(chunk.document, []).append((chunk, stems_of(text, chunk.language or "en")))
    found = []
    for q in questions:
        asked = question_terms(q.question).stems
        near = [
            len(asked & have) / len(asked)
            for g in q.gold
            for chunk, have in chunks.get(g.document, ())
            if asked and (g.page is None or g.page in chunk.pages)
        ]
        if near:
            found.append(max(near))
    return found


def origin_figures(
    origin: Mapping[str, Any] | None,
    questions: Sequence[Question],
    scores: Mapping[str, Sequence[Score | MeanScore | None]],
    seed: int,
) -> dict[str, Any] | None:
    """Return an origin with `arms`: each arm's overall score on the questions of people and on the generated ones; and
    `said`, its sentences.
    """
    if origin is None:
        return None
    arms: dict[str, dict[str, Any]] = {}
    for arm, found in scores.items():
        sides: dict[str, list[float]] = {"human": [], "generated": []}
        for q, score in zip(questions, found, strict=True):
            if score is not None and score.overall is not None:
                sides["generated" if GENERATED in q.tags else "human"].append(score.overall)
        arms[arm] = {side: bootstrap_mean(values, seed=seed).as_dict() for side, values in sides.items() if values}
    whole = {**origin, "arms": arms}
    return whole | {"said": origin_sentences(whole)}


def origin_sentences(origin: Mapping[str, Any]) -> list[str]:
    """Say in plain sentences who wrote the questions and how far they can be trusted."""
    made, own = origin["generated"], origin["human"]
    who = " and ".join(_WRITTEN_BY[w] for w in origin["writers"]) or "rules"
    first = f"{made} of the {made + own} questions" if own else f"All {made} questions"
    looked = origin["accepted"] + origin["edited"]
    reviewed = f"{looked} of them were looked through by a person" if looked else "no person has looked through them"
    found = [f"{first} were generated from the documents, by {who}; {reviewed}."]
    found += _flattery(origin)
    if origin["seen"]:
        found.append(
            f"Of the generated questions, {origin['seen']} stand on documents that the adapter was trained on: there, the "
            "fine-tuned arms may answer from memory."
        )
    if own:
        found += _side_by_side(origin)
    else:
        found.append(
            "They show which arm works at all and where it breaks. Before much depends on the choice, compare on questions "
            "that people have really asked."
        )
    return found


def _flattery(origin: Mapping[str, Any]) -> list[str]:
    """Say how much of the passages' wording the questions repeat."""
    wording = origin["wording"]
    if "generated" not in wording:
        return []
    share = f"{wording['generated']['value']:.0%} of a generated question's telling words stand in its passage"
    if "human" in wording:
        share += f" ({wording['human']['value']:.0%} of a person's)"
    reason = "Rules repeat the passages' wording" if "rules" in origin["writers"] else "They stay near the wording"
    return [f"{reason}: {share}. So they flatter retrieval, and the arms that read documents."]


def _side_by_side(origin: Mapping[str, Any]) -> list[str]:
    """Say whether both kinds of questions name the same arm."""
    values = {
        side: {arm: row[side]["value"] for arm, row in origin["arms"].items() if side in row}
        for side in ("human", "generated")
    }
    if not all(values.values()):
        return []
    best = {side: max(found, key=found.__getitem__) for side, found in values.items()}
    few = f" ({origin['human']} are few)" if origin["human"] < _FEW_HUMAN else ""
    if values["generated"].get(best["human"]) == values["generated"][best["generated"]]:
        return [f"On both, people's questions{few} and generated ones, {best['human']} scores highest."]
    return [
        f"On people's questions{few} {best['human']} scores highest, on generated ones {best['generated']}: trust the "
        "former."
    ]


# ------------------------------------------------------------------ text
def origin_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the sentences for the terminal, and both figures of each arm where people's questions are among them."""
    origin = report.get("origin")
    if not origin:
        return []
    lines = [f"questions: {origin['said'][0]}", *[f"  - {said}" for said in origin["said"][1:]]]
    return lines + [f"  {' · '.join([arm, *cells])}" for arm, cells in _cells(origin)]


def _cells(origin: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return each arm's two figures as text; nothing unless both kinds of questions were asked."""
    if not origin["human"]:
        return []
    names = {"human": "people's questions", "generated": "generated"}
    return [
        (arm, [f"{names[side]} {_figure(row[side])}" for side in names if side in row])
        for arm, row in origin["arms"].items()
    ]


def _figure(found: Mapping[str, Any]) -> str:
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f"{value:.1f}% ({low:.1f} to {high:.1f}, n = {found['n']})"


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "<td>–</td>"
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f'<td>{value:.1f}% <span class="interval">{low:.1f} to {high:.1f}</span></td>'


def origin_html(report: Mapping[str, Any]) -> str:
    """Return what the first screen of the page says of generated questions; nothing where there are none."""
    origin = report.get("origin")
    if not origin:
        return ""
    arms = "".join(
        f"<tr><th scope='row'>{escape(arm)}</th>"
        + "".join(_cell(row.get(side)) for side in ("human", "generated"))
        + "</tr>"
        for arm, row in (origin["arms"].items() if origin["human"] else ())
    )
    table = (
        "<table><caption>Overall score by who wrote the questions</caption><thead><tr><th scope='col'>Arm</th>"
        f"<th scope='col'>{origin['human']} of people</th><th scope='col'>{origin['generated']} generated</th></tr></thead>"
        f"<tbody>{arms}</tbody></table>"
        if arms
        else ""
    )
    return (
        '<aside class="origin" aria-label="Who wrote the questions"><p><strong>'
        f"{escape(origin['said'][0])}</strong> {escape(' '.join(origin['said'][1:]))}</p>{table}</aside>"
    )


def origin_markdown(report: Mapping[str, Any], escaped: Any, table: Any) -> str:
    """Return the same as Markdown; `escaped` and `table` are those of markdown_report.py."""
    origin = report.get("origin")
    if not origin:
        return ""
    text = f"**{escaped(origin['said'][0])}** {escaped(' '.join(origin['said'][1:]))}"
    if not origin["human"]:
        return text
    rows = [
        [escaped(arm), *(_figure(row[side]) if side in row else "–" for side in ("human", "generated"))]
        for arm, row in origin["arms"].items()
    ]
    return f"{text}\n\n{table(['Overall score', 'People’s questions', 'Generated'], rows)}"
