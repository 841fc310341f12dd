"""Questions × answers → scores a question, and their summary an arm.

A refusal scores 0 on an answerable question and is the only right answer to an unanswerable one. Knows neither
which arm answered nor how the report looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from doyen.evaluation.metrics import (
    Verdict,
    containment,
    exact_match,
    rouge_l,
    token_f1,
    yesno_verdict,
)
from doyen.evaluation.quantities import number_score
from doyen.evaluation.retrieval_scores import gold_grades, has_gold_pages
from doyen.evaluation.statistics import (
    Interval,
    bootstrap_balanced_accuracy,
    bootstrap_macro_f1,
    bootstrap_mean,
    bootstrap_median,
    bootstrap_ratio,
)
from doyen.records import Answer, Question

RIGHT_F1 = 0.5  # a span or long answer counts as right from here on, or where it contains a gold answer


@dataclass(frozen=True, slots=True)
class Score:
    """One answer against its question.

    `answer_score` and the text metrics are None where the question is unanswerable or has no known answers.
    Citations are counted as distinct (document, page) units, pages only where the gold has them, and only for
    questions with gold that were answered.
    """

    kind: str
    answerable: bool
    refused: bool
    answer_score: float | None = None
    exact_match: float | None = None
    token_f1: float | None = None
    containment: float | None = None
    rouge_l: float | None = None
    expected_verdict: Verdict | None = None
    given_verdict: Verdict | None = None
    stale: float | None = None
    """1 where the answer is a former one (see `_stale`), else 0; None where no former answer is known."""
    citation_given: int = 0
    citation_correct: int = 0
    gold_total: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    units_right: float | None = None
    # What `further.py` adds, None where it was not measured:
    embedding_similarity: float | None = None
    quote_support: float | None = None
    quotes_supported: float | None = None
    quotes_entailed: float | None = None
    terms_right: float | None = None
    forbidden_terms: float | None = None
    judged: str | None = None

    @property
    def gold_cited(self) -> int:
        """The gold units that were cited: as many as the right citations, both being distinct units."""
        return self.citation_correct

    @property
    def correct_refusal(self) -> bool:
        """Refused, and rightly so."""
        return self.refused and not self.answerable

    @property
    def false_refusal(self) -> bool:
        """Refused although the answer is known."""
        return self.refused and self.answerable

    @property
    def overall(self) -> float | None:
        """The answer's score, or for an unanswerable question 1.0 where it was refused and 0.0 where not."""
        return self.answer_score if self.answerable else float(self.refused)

    @property
    def outcome(self) -> str:
        """One of right, wrong, refused (wrongly), refused rightly, unscored."""
        if self.correct_refusal:
            return "refused rightly"
        if not self.answerable:
            return "wrong"
        if self.refused:
            return "refused"
        if self.answer_score is None:
            return "unscored"
        right = self.answer_score >= RIGHT_F1 or (self.kind in ("span", "long") and self.containment == 1.0)
        return "right" if right else "wrong"


# ------------------------------------------------------------------ per question
def score_answer(question: Question, answer: Answer) -> Score:
    """Score one answer; see `Score`."""
    given, correct, total = _citation_counts(question, answer)
    base = Score(
        kind=question.kind,
        answerable=question.answerable,
        refused=not answer.answered,
        citation_given=given,
        citation_correct=correct,
        gold_total=total,
        seconds=answer.seconds,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
    )
    text = answer.text if answer.answered else ""
    scored = _with_text_scores(base, question, text) if question.answerable and question.answers else base
    return replace(scored, stale=_stale(scored, question, text)) if question.former_answers else scored


def _stale(scored: Score, question: Question, text: str) -> float:
    """Return 1.0 where the text counts as right by a former answer, is nearer to it than to any of today's, and holds none."""
    if not text or scored.containment == 1.0:
        return 0.0
    before = replace(question, answers=question.former_answers, answerable=True)
    former = _with_text_scores(replace(scored, answerable=True), before, text)
    return float(former.outcome == "right" and (former.answer_score or 0.0) > (scored.answer_score or 0.0))


def _with_text_scores(base: Score, question: Question, text: str) -> Score:
    def best(metric: Callable[[str, str, str], float]) -> float:
        return max(metric(text, gold, question.language) for gold in question.answers) if text else 0.0

    f1 = best(token_f1)
    expected = given = units = None
    answer_score = f1
    if question.kind == "number":
        answer_score, units = number_score(text, question.answers) if text else (0.0, None)
    elif question.kind in ("yesno", "yesnomaybe"):
        expected = yesno_verdict(question.answers[0])
        given = yesno_verdict(text, maybe=question.kind == "yesnomaybe")
        answer_score = float(expected == given) if expected else best(exact_match)
    return replace(
        base,
        answer_score=answer_score,
        token_f1=f1,
        exact_match=best(exact_match),
        containment=best(containment),
        rouge_l=best(rouge_l),
        expected_verdict=expected,
        given_verdict=given,
        units_right=units,
    )


def _citation_counts(question: Question, answer: Answer) -> tuple[int, int, int]:
    gold = gold_grades(question)
    if not gold or not answer.answered:
        return 0, 0, len(gold)
    paged = has_gold_pages(question)
    cited = {(c.document, c.page if paged else None) for c in answer.citations}
    return len(cited), len(cited & gold.keys()), len(gold)


# ------------------------------------------------------------------ summaries
def summarise(questions: Sequence[Question], answers: Sequence[Answer], *, seed: int = 0) -> dict[str, Interval]:
    """Score the answers and return an arm's figures with intervals; see `summarise_scores`."""
    return summarise_scores([score_answer(q, a) for q, a in zip(questions, answers, strict=True)], seed=seed)


def summarise_scores(scores: Sequence[Score], *, seed: int = 0) -> dict[str, Interval]:
    """Return the figures of one arm; a figure without questions is left out.

    overall: mean over all questions of `Score.overall`. answer_score, token_f1, exact_match, containment, rouge_l:
    over the answerable questions with known answers. number_accuracy, yesno_accuracy, yesno_macro_f1: their kinds
    alone. refusal_rate: all; false_refusal_rate: answerable; unanswerable_refused: unanswerable questions.
    yesno_balanced_accuracy: mean over the expected verdicts of the share right. units_right: right numbers whose known
    answer has a unit. embedding_similarity, quote_support, quotes_supported, quotes_entailed, terms_right,
    forbidden_terms, judged_correct: where `further.py` measured them.
    stale: questions with former answers.
    citation_precision: right citations / citations, pooled; citation_recall: mean share of the gold cited — both
    over answered questions with gold. seconds_p50, seconds_mean, tokens, prompt_tokens, completion_tokens: all.
    """
    found = {name: bootstrap_mean(values, seed=seed) for name, values in figures_by_question(scores).items() if values}
    cited = [s for s in scores if s.gold_total and not s.refused]
    if sum(s.citation_given for s in cited):
        given = [s.citation_given for s in cited]
        found["citation_precision"] = bootstrap_ratio([s.citation_correct for s in cited], given, seed=seed)
    verdicts = [(s.expected_verdict, s.given_verdict) for s in scores if s.expected_verdict]
    if verdicts:
        expected, given_verdicts = [str(e) for e, _ in verdicts], [g for _, g in verdicts]
        found["yesno_macro_f1"] = bootstrap_macro_f1(expected, given_verdicts, seed=seed)
        found["yesno_balanced_accuracy"] = bootstrap_balanced_accuracy(expected, given_verdicts, seed=seed)
    if scores:
        found["seconds_p50"] = bootstrap_median([s.seconds for s in scores], seed=seed)
    return {name: found[name] for name in METRICS if name in found}


METRICS = (
    *("overall", "answer_score", "token_f1", "exact_match", "containment", "rouge_l"),
    *("embedding_similarity", "judged_correct"),
    *("number_accuracy", "units_right", "yesno_accuracy", "yesno_balanced_accuracy", "yesno_macro_f1"),
    "stale",
    *("refusal_rate", "false_refusal_rate", "unanswerable_refused", "citation_precision", "citation_recall"),
    *("quote_support", "quotes_supported", "quotes_entailed", "terms_right", "forbidden_terms"),
    *("seconds_p50", "seconds_mean", "tokens", "prompt_tokens", "completion_tokens"),
)


FURTHER = (
    *("units_right", "embedding_similarity", "quote_support", "quotes_supported", "quotes_entailed"),
    *("terms_right", "forbidden_terms"),
)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def figures_by_question(scores: Sequence[Score]) -> dict[str, list[float]]:
    """Return the values of every figure that is a plain mean over some of the questions."""
    cited = [s for s in scores if s.gold_total and not s.refused]
    return {
        "overall": _known(s.overall for s in scores),
        "answer_score": _known(s.answer_score for s in scores),
        "token_f1": _known(s.token_f1 for s in scores),
        "exact_match": _known(s.exact_match for s in scores),
        "containment": _known(s.containment for s in scores),
        "rouge_l": _known(s.rouge_l for s in scores),
        **{name: _known(getattr(s, name) for s in scores) for name in FURTHER},
        "judged_correct": [float(s.judged == "correct") for s in scores if s.judged],
        "stale": _known(s.stale for s in scores),
        "number_accuracy": _known(s.answer_score for s in scores if s.kind == "number"),
        "yesno_accuracy": _known(s.answer_score for s in scores if s.kind in ("yesno", "yesnomaybe")),
        "refusal_rate": [float(s.refused) for s in scores],
        "false_refusal_rate": [float(s.refused) for s in scores if s.answerable],
        "unanswerable_refused": [float(s.refused) for s in scores if not s.answerable],
        "citation_recall": [s.gold_cited / s.gold_total for s in cited],
        "seconds_mean": [s.seconds for s in scores],
        "tokens": [float(s.prompt_tokens + s.completion_tokens) for s in scores],
        "prompt_tokens": [float(s.prompt_tokens) for s in scores],
        "completion_tokens": [float(s.completion_tokens) for s in scores],
    }
