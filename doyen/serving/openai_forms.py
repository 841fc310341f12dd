"""What OpenAI's chat and embeddings requests say, as far as it counts here; other fields are taken and not used."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from doyen.errors import UsageError
from doyen.models.constraints import Form, JsonSchema
from doyen.serving.body import Body
from doyen.serving.sessions import Turn

MOST_MESSAGES = 2000
_UNUSED = (
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "audio",
    "modalities",
)


class ContentPart(BaseModel):
    """A part of a message's content; only text is taken."""

    model_config = ConfigDict(extra="allow")
    type: str
    text: str = ""


class ChatMessage(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None

    def as_text(self) -> str:
        """Return the text. Raises UsageError for pictures and sounds."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        if strange := [p.type for p in self.content if p.type not in ("text", "input_text", "refusal")]:
            raise UsageError(f"a message holds {strange[0]}; only text is taken")
        return "\n".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """Whether a stream ends with its usage."""

    model_config = ConfigDict(extra="allow")
    include_usage: bool = False


class ChatRequest(Body):
    """A chat completion request."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "model": "doyen/rag",
                    "messages": [{"role": "user", "content": "How long is the notice period?"}],
                    "stream": True,
                }
            ]
        },
    )
    model: str = Field(default="", description="A name of /v1/models; `doyen` or empty: what `doyen ask` uses.")
    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=8192)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=8192)
    temperature: float | None = Field(default=None, ge=0, le=2)
    n: int | None = Field(default=1, ge=1, le=8)
    stop: str | list[str] | None = None
    seed: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None

    def question(self) -> str:
        """Return what is asked last. Raises UsageError where nothing is."""
        asked = [m for m in self.messages if m.role == "user"]
        if not asked:
            raise UsageError("no message is the user's", hint='{"role": "user", "content": "…"}')
        return asked[-1].as_text()

    def history(self) -> list[Turn]:
        """Return the questions before the last, each with what was answered."""
        turns: list[Turn] = []
        asked = ""
        for message in self.messages:
            if message.role == "user":
                asked = message.as_text()
            elif message.role == "assistant" and asked:
                turns.append(Turn(asked, message.as_text()))
                asked = ""
        return turns

    def stops(self) -> list[str]:
        """Return the texts that end an answer. Raises UsageError for more than sixteen."""
        found = [self.stop] if isinstance(self.stop, str) else list(self.stop or ())
        if len(found) > 16:
            raise UsageError(f"{len(found)} stop texts; at most 16 are taken")
        return [s for s in found if s]

    def constraint(self) -> Form | None:
        """Return what the answer has to be. Raises UsageError for an unknown form."""
        kind = (self.response_format or {"type": "text"}).get("type")
        if kind == "text":
            return None
        if kind == "json_object":
            return JsonSchema({"type": "object"})
        if kind == "json_schema":
            named = (self.response_format or {}).get("json_schema")
            schema = named.get("schema") if isinstance(named, dict) else None
            if not isinstance(schema, dict):
                raise UsageError(
                    "response_format has no schema",
                    hint='{"type": "json_schema", "json_schema": {"name": "…", "schema": {…}}}',
                )
            return JsonSchema(schema)
        raise UsageError(f"response_format of type {kind!r} is not known", hint="text, json_schema or json_object")

    def warnings(self) -> list[str]:
        """Return what of the request was not used, one sentence each."""
        found = []
        if self.tools or self.tool_choice not in (None, "none", "auto"):
            found.append("tools are ignored: an expert answers from its documents and calls nothing")
        if self.temperature:
            found.append("temperature is ignored: answers are greedy, so that the same question gets the same answer")
        if (self.n or 1) > 1:
            found.append(f"answers are greedy: the {self.n} choices are one and the same")
        if any(m.role in ("system", "developer") and m.as_text().strip() for m in self.messages):
            found.append("system messages are ignored: the expert has its own instruction, which it was trained with")
        extra = self.model_extra or {}
        if unused := [name for name in _UNUSED if extra.get(name) not in (None, False, 0, 1, {}, ["text"])]:
            found.append(f"ignored: {', '.join(unused)}")
        return found


class EmbeddingsRequest(Body):
    """An embeddings request; `input` is a text or a list of them."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"model": "doyen/embedder", "input": ["notice period"]}]}
    )
    model: str = ""
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    input_type: Literal["query", "passage"] = Field(
        default="passage", description="Whether the texts are searched, or asked (an extension)."
    )
