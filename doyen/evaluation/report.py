"""Questions, the arms' answers and the hits → one comparison as a dictionary, report.json and report.html.

Computes no metric itself (see scoring.py) and asks no model; the page loads nothing from the network.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from doyen.evaluation import outcome_charts
from doyen.evaluation.advice import advise
from doyen.evaluation.cost_sections import cost_html
from doyen.evaluation.curve_text import curve_html
from doyen.evaluation.further_sections import further_section
from doyen.evaluation.methods import won_back
from doyen.evaluation.page_table import row_of as _row_of
from doyen.evaluation.page_table import table as _table
from doyen.evaluation.pairs import PAIRED, arm_differences, resolution
from doyen.evaluation.question_origin import origin_figures, origin_html
from doyen.evaluation.retrieval_scores import score_hits, summarise_hits
from doyen.evaluation.scoring import FURTHER, Score, score_answer
from doyen.evaluation.statistics import RESAMPLES
from doyen.evaluation.strata import question_strata, strata_figures
from doyen.evaluation.strata_sections import strata_html
from doyen.evaluation.trained_on import TrainedOn
from doyen.evaluation.trainings import (
    MeanScore,
    Runs,
    arm_outcomes,
    runs_of_answers,
    scores_of_runs,
    summarise_arm,
    training_figures,
)
from doyen.records import KINDS, Answer, Hit, Question

FORMAT = 1
MOST_TAGS = 30
HTML_BYTES = 2_700_000
# Longest answer and quote shown in the page, tried in turn until it fits HTML_BYTES.
CUTS = ((4000, 300), (1200, 300), (600, 160), (300, 80), (160, 0))


# ------------------------------------------------------------------ the dictionary
def build_report(
    *,
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Answer | None]],
    hits: Sequence[Sequence[Hit]] | None,
    manifest: dict[str, Any],
    seed: int,
    methods: Sequence[Mapping[str, Any]] = (),
    origin: Mapping[str, Any] | None = None,
    trainings: Mapping[str, Mapping[str, Sequence[Answer | None]]] = MappingProxyType({}),
    score: Callable[[Question, Answer], Score] = score_answer,
    besides: Mapping[str, Any] = MappingProxyType({}),
    trained: TrainedOn | None = None,
    cost: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a comparison. `answers` (each arm's) and `hits` are aligned with `questions`.

    An extra arm has None for what it was not asked. `trainings` (arm → adapter → answers) replaces the answers of arms that
    were asked with several adapters. `score` scores one answer; `besides` goes into the report as it is.
    `trained` is what the adapter was trained on, for the strata; `cost` the figures of `costs.cost_figures`.

    Returns, all JSON-serialisable:
        format: 1
        manifest: as given (settings, model, hashes)
        seed, resamples: of the bootstrap
        questions: {total, answerable, unanswerable, scored, without_answers, without_gold, kinds: {kind: count}}
        arms: {arm: {metrics, by_kind: {kind: metrics}, by_tag: {tag: metrics}}}, metrics = {name: {value, low, high,
            n}} as `scoring.summarise_scores` defines them; by_tag holds the 30 commonest tags
        differences: [{a, b, metrics: {overall | answer_score | token_f1: as `pairs.pair_rows`}}], of b - a
        retrieval: {hit@1, hit@3, hit@5, hit@10, recall@10, mrr, ndcg@10: {value, low, high, n}} or null
        methods: as given, the ways of training that were tried on the same examples (methods.trained_methods)
        cost: as given, or null
        strata: {group: {stratum: {n, few, arms}}}, as `strata.strata_figures` defines them
        origin: who wrote the questions and how far generated ones can be trusted, with each arm's figures on both
            (question_origin.origin_figures); null where no question was generated
        curve: null; doyen.compare puts a learning curve there (learning_curve.measure_curve)
        advice: {arm, reasons, runner_up, measured}
        arms.ARM besides: shares, risk_coverage (`trainings.arm_outcomes`); of several adapters trainings
            (`trainings.training_figures`)
        rows: [{id, question, answers, kind, tags, answerable, gold: [{document, page}], retrieval: {hit@1, ...} |
            null, arms: {arm: {answer, answered, outcome, scores, citations, seconds, prompt_tokens,
            completion_tokens, refusal_probability}}}]; outcome is right | wrong | refused | refused rightly | unscored
        and what `besides` holds

    Raises:
        ValueError: the answers of an arm, or the hits, are not as many as the questions.
    """
    runs = runs_of_answers(answers, trainings)
    counted = [(arm, own) for arm, each in runs.items() for own in each.values()]
    for name, found in [*counted, *([("hits", hits)] if hits is not None else [])]:
        if len(found) != len(questions):
            raise ValueError(f"expected one entry of {name} a question, got {len(found)} for {len(questions)}")
    scores = {arm: scores_of_runs(questions, list(each.values()), score) for arm, each in runs.items()}
    retrieval = summarise_hits(questions, hits, seed=seed) if hits is not None else {}
    report: dict[str, Any] = {
        "format": FORMAT,
        "manifest": manifest,
        "seed": seed,
        "resamples": RESAMPLES,
        "questions": _counts(questions),
        "arms": {arm: _arm(questions, found, seed) for arm, found in scores.items()},
        "differences": arm_differences(scores, seed),
        "retrieval": {name: interval.as_dict() for name, interval in retrieval.items()} or None,
    }
    report["methods"] = [dict(row) for row in methods]
    report["curve"] = None
    report["origin"] = origin_figures(origin, questions, scores, seed)
    for arm, own_scores in scores.items():
        known, given = [s for s in own_scores if s is not None], [[a for a in own if a] for own in runs[arm].values()]
        report["arms"][arm] |= arm_outcomes(known, given, seed=seed)
        if len(runs[arm]) > 1:
            report["arms"][arm]["trainings"] = training_figures(list(runs[arm]), known)
    report |= besides
    groups = question_strata(questions, trained)
    report["cost"] = dict(cost) if cost else None
    report["strata"] = strata_figures(groups, scores, seed=seed)
    report["advice"] = advise(report).as_dict()
    report["rows"] = [_row(i, q, runs, scores, hits) for i, q in enumerate(questions)]
    for i, row in enumerate(report["rows"]):
        row["strata"] = {group: own[i] for group, own in groups.items() if own[i] is not None}
    return report


def _counts(questions: Sequence[Question]) -> dict[str, Any]:
    answerable = sum(q.answerable for q in questions)
    kinds = Counter(q.kind for q in questions)
    return {
        "total": len(questions),
        "answerable": answerable,
        "unanswerable": len(questions) - answerable,
        "scored": sum(not q.answerable or bool(q.answers) for q in questions),
        "without_answers": sum(q.answerable and not q.answers for q in questions),
        "without_gold": sum(q.answerable and not q.gold for q in questions),
        "kinds": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
    }


def _arm(questions: Sequence[Question], scores: Sequence[Score | None], seed: int) -> dict[str, Any]:
    def metrics(keep: Callable[[Question], bool]) -> dict[str, Any]:
        kept = [s for q, s in zip(questions, scores, strict=True) if s is not None and keep(q)]
        return {name: interval.as_dict() for name, interval in summarise_arm(kept, seed=seed).items()}

    kinds = [kind for kind in KINDS if any(q.kind == kind for q in questions)]
    tags = [tag for tag, _ in Counter(tag for q in questions for tag in dict.fromkeys(q.tags)).most_common(MOST_TAGS)]
    return {
        "metrics": metrics(lambda q: True),
        "by_kind": {kind: metrics(lambda q, kind=kind: q.kind == kind) for kind in kinds},  # type: ignore[misc]
        "by_tag": {tag: metrics(lambda q, tag=tag: tag in q.tags) for tag in tags},  # type: ignore[misc]
    }


SCORE_FIELDS = ("answer_score", "token_f1", "exact_match", "containment", "rouge_l", "stale", "overall", *FURTHER)
COUNT_FIELDS = ("citation_given", "citation_correct", "gold_cited", "gold_total")


def _row(
    i: int,
    question: Question,
    runs: Runs,
    scores: Mapping[str, Sequence[Score | None]],
    hits: Sequence[Sequence[Hit]] | None,
) -> dict[str, Any]:
    arms = {}
    for arm, found in scores.items():
        score = found[i]
        if score is None:
            continue
        given = [(name, a) for name, own in runs[arm].items() if (a := own[i]) is not None]
        arms[arm] = _given(score, given[0][1])
        if isinstance(score, MeanScore):
            arms[arm]["trainings"] = [
                {"adapter": name, **_given(one, answer)} for (name, answer), one in zip(given, score.of, strict=True)
            ]
    return {
        "id": question.id,
        "question": question.question,
        "answers": list(question.answers),
        "kind": question.kind,
        "tags": list(question.tags),
        "answerable": question.answerable,
        "gold": [{"document": g.document, "page": g.page} for g in question.gold],
        "retrieval": score_hits(question, hits[i]) or None if hits is not None else None,
        "arms": arms,
    } | ({"former_answers": list(question.former_answers)} if question.former_answers else {})


def _given(score: Score, given: Answer) -> dict[str, Any]:
    """Return one answer with its scores as a row of the report has them."""
    answer = given.as_dict()
    values = {name: getattr(score, name) for name in SCORE_FIELDS if getattr(score, name) is not None}
    return {key: answer[key] for key in ("answer", "answered")} | {
        "outcome": score.outcome,
        "scores": {name: round(value, 4) for name, value in values.items()}
        | {name: getattr(score, name) for name in COUNT_FIELDS if score.gold_total},
        **({"judged": score.judged} if score.judged else {}),
        **{key: answer[key] for key in ("citations", "seconds", "prompt_tokens", "completion_tokens")},
        **{key: answer[key] for key in ("refusal_probability",) if key in answer},
    }


# ------------------------------------------------------------------ files
def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write report.json and report.html into the folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_atomically(folder / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    _write_atomically(folder / "report.html", render_page(report))


def _write_atomically(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)  # mkstemp's 0600 would keep a shared report from its readers
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


# ------------------------------------------------------------------ the page
ARM_NAMES: dict[str, str] = {
    "base": "the model alone",
    "rag": "the model reading your documents",
    "finetuned": "the model trained on examples",
    "rag+finetuned": "the trained model reading your documents",
    "oracle": "the model given the passages that hold the answer",
    "oracle+finetuned": "the trained model given the passages that hold the answer",
    "reference": "a large model alone",
    "reference+rag": "a large model reading your documents",
}
LABELS: dict[str, str] = {
    "overall": "Overall score",
    "answer_score": "Answer score",
    "token_f1": "Token F1",
    "exact_match": "Exact match",
    "containment": "Contains a known answer",
    "rouge_l": "ROUGE-L",
    "embedding_similarity": "Similarity of long answers",
    "judged_correct": "Correct, by the judge",
    "number_accuracy": "Numbers right",
    "units_right": "Units named, of the right numbers",
    "yesno_accuracy": "Yes/no right",
    "yesno_balanced_accuracy": "Yes/no right, mean over the verdicts",
    "yesno_macro_f1": "Yes/no macro F1",
    "stale": "Former answers given, where facts changed",
    "refusal_rate": "Refused, of all",
    "false_refusal_rate": "Refused wrongly, of the answerable",
    "unanswerable_refused": "Refused rightly, of the unanswerable",
    "citation_precision": "Citations that are right",
    "citation_recall": "Known sources cited",
    "quote_support": "Words of an answer found in what it cites",
    "quotes_supported": "Sentences supported by what they cite",
    "quotes_entailed": "Sentences entailed by what they cite",
    "terms_right": "Expected terms used rightly",
    "forbidden_terms": "Answers with forbidden words",
    "seconds_p50": "Seconds an answer, median",
    "seconds_mean": "Seconds an answer, mean",
    "tokens": "Tokens an answer",
    "prompt_tokens": "Prompt tokens",
    "completion_tokens": "Completion tokens",
    "recall@10": "Share of the known sources in the first 10",
    "mrr": "Mean reciprocal rank (first 10)",
    "ndcg@10": "nDCG (first 10)",
}
SEEN = "Seen 4 times in 5"
COST = (
    *("seconds_p50", "tokens", "false_refusal_rate", "unanswerable_refused"),
    *("citation_precision", "citation_recall"),
)


def behaviour(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the figures of the table of behaviour: without time and tokens, where the table of costs has them."""
    return tuple(name for name in COST if not (report.get("cost") and name in ("seconds_p50", "tokens")))


def render_page(report: Mapping[str, Any]) -> str:
    """Return the report as one HTML page that needs no other file."""
    template = resources.files("doyen.evaluation").joinpath("report_template.html").read_text("utf-8")
    parts = {
        "verdict": _verdict(report),
        "chart": _chart(report),
        "cost": cost_html(report),
        "reasons": _further_reasons(report),
        "behaviour": _arms_table(report, behaviour(report), "How each arm behaves"),
        "strata": strata_html(report),
        "metrics": _arms_table(report, _all_metrics(report), "Every figure, with its 95% interval", intervals=True),
        "kinds": _groups_table(report, "by_kind", "Answer score by kind of question"),
        "tags": _groups_table(report, "by_tag", "Answer score by tag"),
        "differences": _differences_table(report),
        "outcomes": outcome_charts.shares_chart(report) + outcome_charts.curve_chart(report),
        "retrieval": _retrieval_table(report),
        "methods": _methods_table(report.get("methods", ())),
        "curve": curve_html(report),
        "further": further_section(report),
        "manifest": _settings(report),
        "filters": "".join(f'<option value="{escape(arm)}">{escape(arm)}</option>' for arm in report["arms"]),
        "kind_options": "".join(f"<option>{escape(k)}</option>" for k in report["questions"]["kinds"]),
    }
    fixed = sum(len(part.encode()) for part in parts.values()) + len(template.encode())
    for answer_length, quote_length in CUTS:
        data = _embedded_rows(report, answer_length, quote_length)
        if fixed + len(data.encode()) <= HTML_BYTES:
            break
    return re.sub(r"\{\{(\w+)\}\}", lambda m: (parts | {"data": data})[m[1]], template)


def _embedded_rows(report: Mapping[str, Any], answer_length: int, quote_length: int) -> str:
    """The rows as JSON that cannot end its script element, texts cut to the lengths given."""

    def cut(text: str, length: int) -> str:
        return text if len(text) <= length else text[:length].rstrip() + " …"

    def citation(c: Mapping[str, Any]) -> dict[str, Any]:
        shown = {"document": c["document"], "page": c["page"], "quote": cut(c["quote"], quote_length)}
        return shown | ({"attributed": True} if c.get("attributed") else {})

    def run(t: Mapping[str, Any]) -> dict[str, Any]:
        return {"adapter": t["adapter"], "answer": cut(t["answer"], answer_length // 2), "outcome": t["outcome"]}

    rows = []
    for row in report["rows"]:
        arms = {
            arm: {
                "answer": cut(a["answer"], answer_length),
                "outcome": a["outcome"],
                "score": a["scores"].get("overall"),
                "seconds": a["seconds"],
                "citations": [citation(c) for c in a["citations"]],
            }
            | ({"runs": [run(t) for t in a["trainings"]]} if "trainings" in a else {})
            for arm, a in row["arms"].items()
        }
        shown = {key: row[key] for key in ("id", "question", "kind", "tags", "answerable", "gold")}
        rows.append(shown | {"answers": [cut(gold, answer_length) for gold in row["answers"]], "arms": arms})
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


def _figure(name: str, value: float) -> str:
    if name.startswith("seconds"):
        return f"{value:.2f}"
    return f"{value:.0f}" if name.endswith("tokens") else f"{100 * value:.1f}"


def _with_interval(name: str, interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return '<td class="none">–</td>'
    low, high = (_figure(name, interval[key]) for key in ("low", "high"))
    return f'<td>{_figure(name, interval["value"])} <span class="interval">{low} to {high}</span></td>'


def _verdict(report: Mapping[str, Any]) -> str:
    advice, counts = report["advice"], report["questions"]
    arm = escape(advice["arm"])
    overall = report["arms"].get(advice["arm"], {}).get("metrics", {}).get("overall")
    scored = f" It scores {_share(overall['value'])} on {overall['n']} held-out questions." if overall else ""
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in advice["reasons"][:FIRST_REASONS])
    note = "" if advice["measured"] else "<p><strong>This is advice and not a measurement.</strong></p>"
    asked = f"{counts['total']} questions"
    if counts["unanswerable"]:
        asked += f", of which {counts['unanswerable']} have no answer in the documents"
    asked += f" · {len(report['arms'])} arms"
    return (
        f'<p class="asked">{escape(asked)}</p><h1>Use <em>{arm}</em>: {escape(ARM_NAMES.get(advice["arm"], ""))}.'
        f"<span>{scored}</span></h1>{origin_html(report)}{note}<h2>Why</h2><ul>{reasons}</ul>"
    )


FIRST_REASONS = 3  # on the first screen, beside the chart and the costs


def _further_reasons(report: Mapping[str, Any]) -> str:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report["advice"]["reasons"][FIRST_REASONS:])
    return f'<section class="reasons"><h2>Further reasons</h2><ul>{reasons}</ul></section>' if reasons else ""


_USE = ' ◂<tspan class="use"> use this</tspan>'
ROW_HEIGHT = 56


def _chart(report: Mapping[str, Any]) -> str:
    """Dots with 95% intervals. Places are in percent, so the drawing fits any width and its text keeps its size."""
    chosen, marks, said = report["advice"]["arm"], [], []
    arms = [
        (arm, found["metrics"]["overall"]) for arm, found in report["arms"].items() if "overall" in found["metrics"]
    ]
    if not arms:
        return ""
    height = ROW_HEIGHT * len(arms)
    for x in range(0, 101, 25):
        anchor = "start" if x == 0 else "end" if x == 100 else "middle"
        marks.append(f'<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="{height + 4}"/>')
        marks.append(f'<text class="tick" x="{x}%" y="{height + 20}" text-anchor="{anchor}">{x}%</text>')
    for i, (arm, o) in enumerate(arms):
        y = ROW_HEIGHT * i + 38
        value, low, high = (100 * o[key] for key in ("value", "low", "high"))
        said.append(f"{arm} {value:.1f}%, 95% interval {low:.1f} to {high:.1f}%")
        marks.append(
            f'<g class="{"chosen" if arm == chosen else "arm"}">'
            f'<text x="0" y="{y - 16}">{escape(arm)}{_USE if arm == chosen else _of(report, arm)}</text>'
            f'<text x="100%" y="{y - 16}" text-anchor="end">{value:.1f}% '
            f'<tspan class="tick">({low:.1f} to {high:.1f})</tspan></text>'
            f'<line class="track" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
            f'<line class="range" x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>'
            f'<circle cx="{value:.2f}%" cy="{y}" r="6"/></g>'
        )
    label = escape("Overall score of each arm: " + "; ".join(said))
    return (
        f'<svg role="img" aria-label="{label}" width="100%" height="{height + 28}"><title>{label}</title>'
        f"{''.join(marks)}</svg>"
    )


def _of(report: Mapping[str, Any], arm: str) -> str:
    """Say over how many questions an arm was measured, where that is not all."""
    asked, of = report["arms"][arm]["metrics"]["overall"]["n"], report["questions"]["scored"]
    return f' <tspan class="tick">· {asked} of {of}</tspan>' if asked != of else ""


def _all_metrics(report: Mapping[str, Any]) -> list[str]:
    return [name for name in LABELS if any(name in found["metrics"] for found in report["arms"].values())]


def _unit(name: str) -> str:
    return "" if name.startswith("seconds") or name.endswith("tokens") else " (%)"


def _arms_table(report: Mapping[str, Any], names: Sequence[str], caption: str, *, intervals: bool = False) -> str:
    """One row a figure and one column an arm where `intervals` is set, else the other way round."""
    arms = report["arms"]
    if intervals:
        rows = [
            _row_of(LABELS[name] + _unit(name), [_with_interval(name, a["metrics"].get(name)) for a in arms.values()])
            for name in names
        ]
        return _table(caption, ["Figure", *map(escape, arms)], rows)
    shown = ["overall", *(name for name in names if any(name in a["metrics"] for a in arms.values()))]
    rows = []
    for arm, found in arms.items():
        cells = []
        for name in shown:
            interval = found["metrics"].get(name)
            unit = "%" if _unit(name) else " s" if name.startswith("seconds") else ""
            cells.append(
                f"<td>{_figure(name, interval['value'])}{unit}</td>" if interval else '<td class="none">–</td>'
            )
        rows.append(_row_of(escape(arm), cells, ' class="chosen"' if arm == report["advice"]["arm"] else ""))
    return _table(caption, ["Arm", *(LABELS[name] for name in shown)], rows)


def _groups_table(report: Mapping[str, Any], group: str, caption: str) -> str:
    arms = report["arms"]
    names = list(next(iter(arms.values()), {group: {}})[group])
    rows = []
    for name in names:
        found = [a[group][name] for a in arms.values()]
        metric = next((m for m in ("answer_score", "overall") if any(m in f for f in found)), None)
        if metric:
            n = next(f[metric]["n"] for f in found if metric in f)
            cells = [f"<td>{n}</td>", *(_with_interval(metric, f.get(metric)) for f in found)]
            unanswerable = "" if metric == "answer_score" else " (all unanswerable: share refused)"
            rows.append(_row_of(escape(name + unanswerable), cells))
    head = [group.removeprefix("by_").capitalize(), "Questions", *map(escape, arms)]
    return _table(caption + " (%)", head, rows) if rows else ""


def _differences_table(report: Mapping[str, Any]) -> str:
    rows = []
    for pair in report["differences"]:
        cells = [_difference_cell(pair["metrics"].get(name)) for name in PAIRED]
        cells.append(_resolution_cell(pair["metrics"].get("overall")))
        rows.append(_row_of(f"{escape(pair['b'])} minus {escape(pair['a'])}", cells))
    caption = "Paired differences in points; bold where one arm beats the other, corrected for all pairs (Holm)"
    return _table(caption, ["Pair", *(LABELS[name] for name in PAIRED), SEEN], rows) if rows else ""


def _difference_cell(d: Mapping[str, Any] | None) -> str:
    if d is None:
        return '<td class="none">–</td>'
    value = f"{100 * d['value']:+.1f}"
    value = f"<strong>{value}</strong>" if d["beats"] else value
    p = "p &lt; 0.001" if d["p_holm"] < 0.001 else f"p = {d['p_holm']:.3f}"
    return f'<td>{value} <span class="interval">{100 * d["low"]:+.1f} to {100 * d["high"]:+.1f}, {p}</span></td>'


def _resolution_cell(d: Mapping[str, Any] | None) -> str:
    if d is None:
        return '<td class="none">–</td>'
    seen = f"{100 * d['detectable']:.1f}" if d["detectable"] else "–"
    return f'<td>{seen} <span class="interval">{resolution(d)}</span></td>'


def _retrieval_table(report: Mapping[str, Any]) -> str:
    if not report["retrieval"]:
        return "<p>No retrieval was measured.</p>"
    rows = [
        _row_of(escape(LABELS.get(name, name)), [_with_interval(name, found), f"<td>{found['n']}</td>"])
        for name, found in report["retrieval"].items()
    ]
    return _table("Retrieval: is a known source among the first hits (%)", ["Figure", "All arms with rag", "n"], rows)


def _methods_table(methods: Sequence[Mapping[str, Any]]) -> str:
    """Ways of training on the same examples, and what NF4 costs without training."""
    rows = []
    for m in methods:
        cells = [f"<td>{m['before']:.3f}</td>", f"<td>{m['after']:.3f}</td>", f"<td>{m['seconds'] / 60:.1f}</td>"]
        cells += [f"<td>{m['peak_memory_gib']:.2f}</td>", f"<td>{m['trained_parameters']:,}</td>"]
        rows.append(_row_of(escape(f"{m['method']} ({m['adapter']})"), cells))
    head = ["Method", "Held-out loss before training", "After", "Minutes", "Peak GiB", "Parameters trained"]
    back = won_back(methods)
    said = (
        "" if back is None else f"<p>Training wins back {min(back, 1):.0%} of what NF4 costs the untrained model.</p>"
    )
    return _table("Ways of training, on the same examples", head, rows) + said if rows else ""


def _settings(report: Mapping[str, Any]) -> str:
    def flat(value: Any, path: str) -> list[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            return [row for key, inner in value.items() for row in flat(inner, f"{path}.{key}" if path else str(key))]
        return [(path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]

    bootstrap = {"bootstrap.seed": str(report["seed"]), "bootstrap.resamples": str(report["resamples"])}
    rows = [*(flat(report["manifest"], "") if report["manifest"] else []), *bootstrap.items()]
    cells = [_row_of(escape(key), [f'<td class="text">{escape(value)}</td>']) for key, value in rows]
    return _table("Settings and versions", ["Setting", "Value"], cells)
