"""`/v1`: what OpenAI's clients ask for. The answer's evidence is in the field `doyen`, which they hand through."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from doyen.errors import UsageError
from doyen.models.ticket import Ticket
from doyen.serving.access import Reader, run, service_of
from doyen.serving.desk import PREFIX, Answered, Asked, ModelName
from doyen.serving.events import EventStream, Growing, event, fault_event
from doyen.serving.evidence import evidence, noted
from doyen.serving.faults import STREAM, told
from doyen.serving.openai_forms import ChatRequest, EmbeddingsRequest
from doyen.serving.service import Service

router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])
EMBEDDER = f"{PREFIX}/embedder"
_MOST_TEXTS = 2048
_LONGEST_TEXT = 100_000


@router.get("/models", summary="The models: one for each arm and adapter, and the embedder")
def models(request: Request, principal: Reader) -> dict[str, Any]:
    """List them."""
    desk = service_of(request).desk
    names = [*map(str, desk.models(principal)), *([EMBEDDER] if desk.has_index else [])]
    return {"object": "list", "data": [_model(name) for name in names]}


@router.get("/models/{name:path}", summary="One model")
def model(name: str, request: Request, principal: Reader) -> dict[str, Any]:
    """Show it."""
    desk = service_of(request).desk
    return _model(EMBEDDER if name == EMBEDDER and desk.has_index else str(desk.model(name, principal)))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": PREFIX}


@router.post("/chat/completions", summary="Answer the last question of a conversation", responses=STREAM)
async def chat(body: ChatRequest, request: Request, principal: Reader) -> Any:
    """Answer it, streamed or whole. Earlier turns count for what a follow-up refers to."""
    service = service_of(request)
    name = await run(request, service.quick, lambda _: service.desk.model(body.model, principal))
    asked = Asked(
        body.question(),
        name,
        principal,
        history=body.history(),
        constraint=body.constraint(),
        max_tokens=body.max_completion_tokens or body.max_tokens or 0,
        stops=body.stops(),
    )
    form = _Form(body, name, service)
    if body.stream:
        growing = Growing(service.asks, service.metrics, lambda ticket, put: service.desk.ask(asked, ticket, put))
        return EventStream(_events(growing, form, request), growing.begun.ticket)

    def work(ticket: Ticket) -> Answered:
        return service.desk.ask(asked, ticket)

    found = await run(request, service.asks, work)
    noted(service, request, found)
    return form.whole(found)


async def _events(growing: Growing, form: _Form, request: Request) -> AsyncIterator[bytes]:
    yield event(form.chunk({"role": "assistant", "content": ""}))
    async for piece in growing.pieces():
        yield event(form.chunk({"content": piece})) if piece else b": at work\n\n"
    try:
        found = growing.result()
    except Exception as error:  # the edge of a request, whose status was sent: the error is an event
        yield fault_event(error)
        return
    noted(form.service, request, found)
    yield event(form.chunk({}, finish=form.finish(found), doyen=form.evidence(found)))
    if form.body.stream_options and form.body.stream_options.include_usage:
        yield event(form.frame("chat.completion.chunk") | {"choices": [], "usage": form.usage(found)})
    yield event("[DONE]")


class _Form:
    """The forms of one answer."""

    def __init__(self, body: ChatRequest, name: ModelName, service: Service) -> None:
        self.body, self.service, self._name = body, service, name
        self._id, self._created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    def frame(self, kind: str) -> dict[str, Any]:
        """Return what all forms have."""
        return {"id": self._id, "object": kind, "created": self._created, "model": str(self._name)}

    def whole(self, found: Answered) -> dict[str, Any]:
        """Return a completion."""
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": found.text, "refusal": None},
                "finish_reason": self.finish(found),
                "logprobs": None,
            }
            for i in range(self.body.n or 1)
        ]
        more = {"choices": choices, "usage": self.usage(found), "doyen": self.evidence(found)}
        return self.frame("chat.completion") | more

    def chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        """Return a chunk of a stream."""
        choices = [{"index": i, "delta": delta, "finish_reason": finish} for i in range(self.body.n or 1)]
        return self.frame("chat.completion.chunk") | {"choices": choices} | more

    def finish(self, found: Answered) -> str:
        """Return why the answer ended."""
        limit = self.service.desk.most_tokens(self.body.max_completion_tokens or self.body.max_tokens or 0)
        full = found.answer.completion_tokens >= limit or found.answer.shortened
        return "length" if full and found.text == found.answer.text else "stop"

    def usage(self, found: Answered) -> dict[str, int]:
        """Return the tokens of prompt and answer."""
        prompt, written = found.answer.prompt_tokens, found.answer.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}

    def evidence(self, found: Answered) -> dict[str, Any]:
        """Return what the answer stands on, and what of the request was not used."""
        return evidence(found) | {"warnings": self.body.warnings()}


@router.post("/embeddings", summary="Vectors of texts, by the expert's embedder", responses=told(502))
async def embeddings(body: EmbeddingsRequest, request: Request, principal: Reader) -> Any:
    """Embed them; a text's end beyond the embedder's longest input is not read."""
    service = service_of(request)
    embedder = await run(request, service.quick, lambda _: service.desk.retriever.embedder)
    if body.model not in ("", EMBEDDER, embedder.name):
        service.desk.model(body.model, principal)
        raise UsageError(f"'{body.model}' is no embedder", hint=f"the embedder is {EMBEDDER}")
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not texts or not all(isinstance(t, str) and t for t in texts):
        raise UsageError("input is a text or a list of texts, none of them empty; token numbers are not taken")
    if len(texts) > _MOST_TEXTS or max(map(len, texts)) > _LONGEST_TEXT:  # type: ignore[arg-type]
        raise UsageError(f"at most {_MOST_TEXTS} texts of {_LONGEST_TEXT:,} characters are taken at once")
    if body.dimensions not in (None, embedder.dim):
        raise UsageError(f"the vectors have {embedder.dim} dimensions", hint=f'"dimensions": {embedder.dim}')
    kept = [str(t) for t in texts]
    vectors = await run(request, service.quick, lambda _: embedder.embed(kept, kind=body.input_type))
    counted = await run(request, service.quick, lambda _: sum(map(embedder.counter.count, kept)))
    as_form: Callable[[Any], Any] = _base64 if body.encoding_format == "base64" else lambda v: v.tolist()
    rows = [{"object": "embedding", "index": i, "embedding": as_form(v)} for i, v in enumerate(vectors)]
    usage = {"prompt_tokens": counted, "total_tokens": counted}
    return {"object": "list", "data": rows, "model": EMBEDDER, "usage": usage}


def _base64(vector: Any) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
