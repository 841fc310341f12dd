"""What the page and report.md both say of a report: names, units, groups and settings, and figures in sentences.

Plain text; nothing here is escaped. Computes no figure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

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
_BEHAVIOUR = (
    *("seconds_p50", "tokens", "false_refusal_rate", "unanswerable_refused"),
    *("citation_precision", "citation_recall"),
)


def behaviour(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the figures of the table of behaviour: without time and tokens, where the table of costs has them."""
    return tuple(name for name in _BEHAVIOUR if not (report.get("cost") and name in ("seconds_p50", "tokens")))


# ------------------------------------------------------------------ figures
def scale(name: str) -> tuple[float, int, str]:
    """Return by what a figure is multiplied to be shown, its digits, and its unit."""
    if name.startswith("seconds"):
        return 1, 2, " s"
    return (1, 0, "") if name.endswith("tokens") else (100, 1, "%")


def percent(value: float) -> str:
    """`41.2%`."""
    return f"{100 * value:.1f}%"


def percent_with_interval(interval: Mapping[str, Any]) -> str:
    """`41.2% (35.0 to 47.1)`."""
    return f"{percent(interval['value'])} ({100 * interval['low']:.1f} to {100 * interval['high']:.1f})"


def points_with_interval(gain: Mapping[str, Any]) -> str:
    """`4.1 points (95% interval 1.0 to 7.2)`."""
    value, low, high = (100 * gain[key] for key in ("value", "low", "high"))
    return f"{value:.1f} points (95% interval {low:.1f} to {high:.1f})"


# ------------------------------------------------------------------ parts
def what_was_asked(report: Mapping[str, Any]) -> str:
    """`100 questions, of which 20 have no answer in the documents · 4 arms`."""
    counts = report["questions"]
    asked = f"{counts['total']} questions"
    if counts["unanswerable"]:
        asked += f", of which {counts['unanswerable']} have no answer in the documents"
    return f"{asked} · {len(report['arms'])} arms"


def group_rows(report: Mapping[str, Any], group: str) -> Iterator[tuple[str, int, str, list[Mapping[str, Any] | None]]]:
    """Yield of each kind or tag (`group`: by_kind, by_tag) its name, questions, metric, and the figures of the arms."""
    arms = report["arms"]
    for name in next(iter(arms.values()), {group: {}})[group]:
        found = [arm[group][name] for arm in arms.values()]
        metric = next((m for m in ("answer_score", "overall") if any(m in figures for figures in found)), None)
        if metric:
            shown = name if metric == "answer_score" else f"{name} (all unanswerable: share refused)"
            n = next(figures[metric]["n"] for figures in found if metric in figures)
            yield shown, n, metric, [figures.get(metric) for figures in found]


def settings_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the manifest's settings and versions, and the bootstrap's, as text."""
    rows = [*flat(report["manifest"]), ("bootstrap.seed", report["seed"]), ("bootstrap.resamples", report["resamples"])]
    return [(key, value_text(value)) for key, value in rows]


def flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a manifest's values with their paths, as `settings.model.name`."""
    for key, inner in value.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(inner, Mapping) and inner:
            yield from flat(inner, here)
        else:
            yield here, inner


def value_text(value: Any) -> str:
    """Return a setting's value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
