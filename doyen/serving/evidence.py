"""An answer's evidence as the API shows it: citations, each with where its page can be seen; passages."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from doyen.records import Citation, Hit
from doyen.serving.desk import Answered
from doyen.serving.service import Service

_QUOTE = 300


def citation_row(citation: Citation) -> dict[str, Any]:
    """Return a citation, with the address of its page's picture where it has pages."""
    row = citation.as_dict()
    if citation.page is not None:
        place = {"document": citation.document, "page": citation.page, "version": citation.version}
        row["page_image"] = f"/api/page-image?{urlencode(place | {'quote': citation.quote[:_QUOTE]})}"
    return row


def hit_rows(hits: tuple[Hit, ...]) -> list[dict[str, Any]]:
    """Return passages as the model was shown them."""
    return [hit.as_dict() for hit in hits]


def evidence(found: Answered) -> dict[str, Any]:
    """Return what an answer stands on: the arm, its adapter, whether it was answered, citations."""
    answer = found.answer
    row: dict[str, Any] = {"arm": answer.arm, "adapter": found.adapter or None, "answered": answer.answered}
    row |= {"citations": [citation_row(c) for c in answer.citations], "question": found.question}
    row |= {"seconds": round(answer.seconds, 4), "cached": answer.cached}
    if answer.refusal_probability is not None:
        row["refusal_probability"] = round(answer.refusal_probability, 4)
    if answer.choice_probabilities:
        row["choice_probabilities"] = {o: round(p, 6) for o, p in answer.choice_probabilities.items()}
    if answer.passages_left_out:
        row["passages_left_out"] = answer.passages_left_out
    return row


def noted(service: Service, request: Request, found: Answered) -> None:
    """Count an answer, and add it to the request's log line: which documents were shown, but no text."""
    answer = found.answer
    service.metrics.answers.labels(answer.arm, str(answer.answered).lower()).inc()
    service.metrics.tokens.labels("prompt").inc(answer.prompt_tokens)
    service.metrics.tokens.labels("answer").inc(answer.completion_tokens)
    request.state.entry.audit["question"] = found.question
    named = [hit.chunk.document for hit in answer.hits] + [citation.document for citation in answer.citations]
    shown = list(dict.fromkeys(named))
    request.state.entry.fields |= {
        "arm": answer.arm,
        "adapter": found.adapter,
        "answered": answer.answered,
        "documents": shown,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
