"""Training questions + the product's own retriever → the training mix.

Three variants of a question teach three things: `passages` (find the answer among the retrieved passages and name
its number), `abstain` (the gold passage is not there: refuse) and `closed-book` (answer without passages). After RAFT
(arXiv 2403.10131), but with the distractors that this very retriever brings up.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from doyen.config import ExamplesSettings
from doyen.errors import ExamplesError
from doyen.prompts import REFUSAL, Message, answer_text, closed_book_messages, passages_messages, with_summaries
from doyen.records import FEEDBACK, GENERATED, Chunk, Example, GoldSource, Hit, Nearness, Question, SourceSpan
from doyen.retrieval.hybrid import Retriever
from doyen.retrieval.neighbours import hits_for
from doyen.words import holds, words

SEARCH_DEPTH = 20


@dataclass(slots=True)
class Mix:
    """The examples to train and to validate on, and what was left out on the way."""

    train: list[Example] = field(default_factory=list)
    validation: list[Example] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def build_mix(
    train: Sequence[Question],
    validation: Sequence[Question],
    retriever: Retriever,
    settings: ExamplesSettings,
    *,
    passages: int,
    document_summaries: bool = False,
) -> Mix:
    """Make examples of questions with `passages` passages each, in the order that the retriever gives.

    With `document_summaries` the passages say what their documents are about, as in serving with that setting.

    A validation question is shown the passages that search finds, gold among them or not ("missed"), and once more
    without its gold passage: refusal is calibrated on both.

    Raises:
        ExamplesError: no question has an answer, or none of the gold documents is in the index.
    """
    both = [*train, *validation]
    known = {d.id for d in retriever.index.documents()}
    wanted = {g.document for q in both for g in q.gold}
    if wanted and not wanted & known:
        raise ExamplesError(
            f"none of the {len(wanted)} gold documents is in the index (for example '{min(wanted)}')",
            hint="doyen ingest their folder; ids are paths below it, after NAME/ if it was ingested with --name",
        )
    if not any(q.answers for q in both):
        raise ExamplesError("no training question has an answer", hint='fill "answers" in the questions file')
    rng = random.Random(settings.seed)
    depth = max(SEARCH_DEPTH, hits_for(passages))
    hits = dict(zip([q.id for q in both], retriever.search_many([q.question for q in both], depth), strict=True))
    mix = Mix()

    def as_served(shown: Sequence[Hit]) -> Sequence[Hit]:
        summaries = retriever.index.summaries_of([h.chunk.document for h in shown]) if document_summaries else {}
        return with_summaries(shown, summaries)

    made = (retriever, settings, passages, rng, mix.left_out, as_served)
    for q in train:
        mix.train += _variants(q, hits[q.id], *made, validating=False)
    for q in validation:
        mix.validation += _variants(q, hits[q.id], *made, validating=True)
    rng.shuffle(mix.train)
    return mix


def _variants(
    q: Question,
    hits: Sequence[Hit],
    retriever: Retriever,
    settings: ExamplesSettings,
    passages: int,
    rng: random.Random,
    left_out: Counter[str],
    as_served: Callable[[Sequence[Hit]], Sequence[Hit]],
    *,
    validating: bool,
) -> list[Example]:
    # All draws are made for every question, so that one question's fate does not change the next one's.
    draw_passages, draw_abstain, draw_closed = rng.random(), rng.random(), rng.random()
    closed = draw_closed < settings.closed_book_share
    if not q.answerable:
        found = [_shown(q, as_served(retriever.passages(hits, passages)), REFUSAL, "abstain")] if hits else []
        return found + ([_example(q, closed_book_messages(q.question), REFUSAL, "closed-book")] if closed else [])
    if not q.answers:
        left_out["without an answer"] += 1
        return []
    found = []
    support: list[Hit] = []
    shown = _with_gold(q, hits, retriever, passages, rng)
    if validating and shown is not None:
        shown = retriever.passages(hits, passages)  # as served: what search misses is missing
    if shown is None:
        left_out["gold document not in the index" if q.gold else "without gold evidence"] += 1
    else:
        shown = list(as_served(shown))
        support = _supporting(q, [hit for hit in shown if _is_gold(q, hit.chunk)])
    if validating and shown and not support:
        found.append(_shown(q, shown, REFUSAL, "missed"))
    elif shown and support and draw_passages < settings.passages_share:
        cited = [n for n, hit in enumerate(shown, 1) if hit in support]
        target = answer_text(q.answers[0], cited[0]) + "".join(f"[{n}]" for n in cited[1:])
        found.append(_shown(q, shown, target, "passages", [h.chunk for h in support]))
    apart = [h for h in hits if not any(_is_near(h.chunk, g) or _matches(h.chunk, g) for g in q.gold)]
    beside = [h for h in apart if not _answers(q, h.chunk)]
    without = [h for h in retriever.passages(beside, passages) if not _answers(q, h.chunk)]
    if q.gold and without and (validating or draw_abstain < settings.abstain_share):
        found.append(_shown(q, as_served(without), REFUSAL, "abstain"))
    if closed:
        found.append(
            _example(q, closed_book_messages(q.question), q.answers[0], "closed-book", [h.chunk for h in support])
        )
    return found


def _with_gold(
    q: Question, hits: Sequence[Hit], retriever: Retriever, passages: int, rng: random.Random
) -> list[Hit] | None:
    """Return the first passages, with a gold one put in where retrieval missed it; None if there is no gold chunk."""
    shown = retriever.passages(hits, passages)
    for gold in q.gold:
        if any(_matches(h.chunk, gold) and (_answers(q, h.chunk) or len(q.gold) > 1) for h in shown):
            continue
        better = _gold_hit(q, gold, hits, retriever)
        if better is None:
            if not any(_is_gold(q, h.chunk) for h in shown):
                return None
        elif not any(_covers(h.chunk, better.chunk) for h in shown):
            free = [i for i, h in enumerate(shown) if not _is_gold(q, h.chunk)] or list(range(len(shown)))
            shown[rng.choice(free)] = better
    return shown if any(_is_gold(q, h.chunk) for h in shown) else None


def _gold_hit(q: Question, gold: GoldSource, hits: Sequence[Hit], retriever: Retriever) -> Hit | None:
    """Return the chunk of a gold source that answers best: found by retrieval if possible, else from the store."""
    found = [h for h in hits if _matches(h.chunk, gold)]
    if any(_answers(q, h.chunk) for h in found):
        candidates = found
    else:
        candidates = [
            *found,
            *(Hit(c, 0.0) for c in retriever.index.chunks_of([gold.document]) if _matches(c, gold)),
        ]
    return max(candidates, key=lambda h: (_answers(q, h.chunk), _overlap(q, h.chunk)), default=None)


def _supporting(q: Question, gold: Sequence[Hit]) -> list[Hit]:
    """Keep one passage a gold source: the one that holds the answer, else the one that shares most words."""
    kept = []
    for source in q.gold:
        of_source = [h for h in gold if _matches(h.chunk, source)]
        best = max(of_source, key=lambda h: (_answers(q, h.chunk), _overlap(q, h.chunk)), default=None)
        if best is not None and best not in kept:
            kept.append(best)
    return kept


def _is_near(chunk: Chunk, gold: GoldSource) -> bool:
    """Whether a chunk is of the gold document, and page if that is known."""
    return chunk.document == gold.document and (gold.page is None or gold.page in chunk.pages)


def _matches(chunk: Chunk, gold: GoldSource) -> bool:
    """Whether a chunk is near, and holds some of the evidence where its characters are known."""
    if gold.start is None or gold.end is None:
        return _is_near(chunk, gold)
    return chunk.document == gold.document and chunk.start < gold.end and gold.start < chunk.end


def _covers(passage: Chunk, chunk: Chunk) -> bool:
    return passage.document == chunk.document and passage.start <= chunk.start and chunk.end <= passage.end


def _is_gold(q: Question, chunk: Chunk) -> bool:
    return any(_matches(chunk, g) for g in q.gold)


def _answers(q: Question, chunk: Chunk) -> bool:
    """Whether the chunk holds one of the answers word for word (a yes or no never counts)."""
    if q.kind in ("yesno", "yesnomaybe"):
        return False
    return any(holds(chunk.text, a) for a in q.answers)


def _overlap(q: Question, chunk: Chunk) -> int:
    have = set(words(chunk.text))
    return sum(w in have for w in {*words(q.question), *words(q.answers[0] if q.answers else "")})


def _shown(q: Question, hits: Sequence[Hit], target: str, variant: str, support: Sequence[Chunk] = ()) -> Example:
    """Return an example with passages; it keeps how near they are, for calibrating refusal."""
    example = _example(q, passages_messages(q.question, hits), target, variant, support)
    near = Nearness.of(hits)
    return dataclasses.replace(example, similarity=near.similarity, lexical=near.lexical)


def _example(q: Question, prompt: list[Message], target: str, variant: str, support: Sequence[Chunk] = ()) -> Example:
    spans = tuple(_source(q, c) for c in support)
    return Example(
        messages=(*prompt, {"role": "assistant", "content": target}),
        source=spans,
        origin="generated" if GENERATED in q.tags else "feedback" if FEEDBACK in q.tags else "human",
        kind=q.kind,
        variant=variant,
        question_id=q.id,
    )


def _source(q: Question, chunk: Chunk) -> SourceSpan:
    """Return the evidence's characters where the gold names them, else the whole chunk's."""
    for gold in q.gold:
        if gold.start is not None and gold.end is not None and _matches(chunk, gold):
            return SourceSpan(chunk.document, chunk.sha256, chunk.page, gold.start, gold.end)
    return SourceSpan(chunk.document, chunk.sha256, chunk.page, chunk.start, chunk.end)
