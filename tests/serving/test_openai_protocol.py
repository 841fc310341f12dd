"""What OpenAI's clients speak: the official client, unchanged; streams; forms; and what is refused, in their error form."""

import json

import openai
import pytest

import doyen

QUESTION = {"role": "user", "content": "How many days of leave does the guild grant?"}


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_there_is_a_model_for_each_arm_and_adapter(client):
    names = [m.id for m in client.models.list()]
    tuned = [f"doyen/{arm}{a}" for arm in ("finetuned", "rag+finetuned") for a in ("", ":first", ":second")]
    assert names == ["doyen/base", "doyen/rag", *tuned, "doyen/embedder"]
    assert client.models.retrieve("doyen/rag+finetuned:first").id == "doyen/rag+finetuned:first"


def test_a_completion_is_the_experts_answer(client, served):
    for model, options in [
        ("doyen/base", {"arm": "base"}),
        ("doyen/rag", {"arm": "rag"}),
        ("doyen/rag+finetuned:second", {"arm": "rag+finetuned", "adapter": "second"}),
        ("doyen/finetuned:first", {"arm": "finetuned", "adapter": "first"}),
    ]:
        made = client.chat.completions.create(model=model, messages=[QUESTION])
        own = doyen.Expert.open(served.expert, **options).ask(QUESTION["content"])
        assert made.choices[0].message.content == own.text
        assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (own.prompt_tokens, own.completion_tokens)
        said = made.model_extra["doyen"]
        assert (said["arm"], said["answered"]) == (own.arm, own.answered)
        assert [c["quote"] for c in said["citations"]] == [c.quote for c in own.citations]
        assert made.model == model and made.choices[0].finish_reason in ("stop", "length")


def test_adapters_answer_differently_in_one_server(client):
    names = ("doyen/base", "doyen/finetuned:first", "doyen/finetuned:second")
    raw = [
        client.chat.completions.create(
            model=n, messages=[QUESTION], response_format=schema({"type": "string", "maxLength": 12})
        )
        for n in names
    ]
    assert len({r.choices[0].message.content for r in raw}) == 3


def schema(content):
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": content}}


@pytest.mark.parametrize("model", ["doyen/base", "doyen/rag", "doyen/rag+finetuned"])
def test_a_stream_is_the_same_answer_in_pieces(client, model):
    whole = client.chat.completions.create(model=model, messages=[QUESTION])
    chunks = list(
        client.chat.completions.create(
            model=model, messages=[QUESTION], stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage and chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-2].model_extra["doyen"]["answered"] == whole.model_extra["doyen"]["answered"]


def test_json_of_a_schema_streamed_and_whole(client):
    form = schema({"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]})
    options = {"model": "doyen/rag", "messages": [QUESTION], "response_format": form, "max_tokens": 40}
    pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(**options, stream=True)]
    whole = client.chat.completions.create(**options).choices[0].message.content
    assert isinstance(json.loads(whole)["days"], int)
    assert "".join(pieces) == whole and sum(map(bool, pieces)) > 1


def test_the_clients_parse_reads_a_pydantic_model(client):
    from pydantic import BaseModel

    class Days(BaseModel):
        days: int

    found = client.chat.completions.parse(model="doyen/rag", messages=[QUESTION], response_format=Days)
    assert isinstance(found.choices[0].message.parsed.days, int)


def test_what_is_not_used_is_said(client):
    made = client.chat.completions.create(
        model="doyen/base",
        messages=[{"role": "system", "content": "Be a pirate."}, QUESTION],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        temperature=0.7,
        top_p=0.5,
        n=2,
    )
    said = " ".join(made.model_extra["doyen"]["warnings"])
    assert all(word in said for word in ("tools", "temperature", "system", "top_p", "greedy"))
    assert len(made.choices) == 2 and made.choices[0].message == made.choices[1].message
    assert not client.chat.completions.create(model="doyen/base", messages=[QUESTION]).model_extra["doyen"]["warnings"]


def test_stop_and_max_tokens(client):
    whole = client.chat.completions.create(model="doyen/base", messages=[QUESTION], max_tokens=6)
    assert whole.usage.completion_tokens <= 6
    form = schema({"type": "string", "minLength": 12, "maxLength": 30})
    raw = client.chat.completions.create(model="doyen/base", messages=[QUESTION], response_format=form)
    text = raw.choices[0].message.content
    stop = text[4:6]
    cut = client.chat.completions.create(model="doyen/base", messages=[QUESTION], response_format=form, stop=[stop])
    assert cut.choices[0].message.content == text[: text.index(stop)]
    pieces = client.chat.completions.create(
        model="doyen/base", messages=[QUESTION], response_format=form, stop=stop, stream=True
    )
    assert "".join(c.choices[0].delta.content or "" for c in pieces) == text[: text.index(stop)]


def test_embeddings_are_the_embedders(client, served):
    import numpy as np

    texts = ["annual leave", "the Orrel lock"]
    found = client.embeddings.create(model="doyen/embedder", input=texts)
    vectors = served.service.desk.retriever.embedder.embed(texts)
    assert np.allclose([d.embedding for d in found.data], vectors, atol=1e-6)  # the client asks for base64
    plain = client.embeddings.create(model="doyen/embedder", input=texts[0], encoding_format="float")
    assert np.allclose(plain.data[0].embedding, vectors[0], atol=1e-6) and plain.usage.total_tokens > 0
    with pytest.raises(openai.BadRequestError, match="no embedder"):
        client.embeddings.create(model="doyen/base", input="x")
    with pytest.raises(openai.BadRequestError, match="none of them empty"):
        client.embeddings.create(model="doyen/embedder", input=["a", ""])


def test_langchains_requests(served):
    """What `ChatOpenAI` sends (content parts, `max_completion_tokens`, unknown fields), and what it reads."""
    body = {
        "model": "doyen/rag",
        "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION["content"]}]}],
        "max_completion_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
        "parallel_tool_calls": False,
        "user": "somebody",
    }
    with served.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line[6:])["object"] == "chat.completion.chunk" for line in lines[:-1])


# ---- what is refused


def fault(answer, status):
    assert answer.status_code == status, answer.text
    found = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"} and found["message"]
    return found


def test_unknown_models_are_not_found(client):
    with pytest.raises(openai.NotFoundError, match="doyen/rag") as caught:
        client.chat.completions.create(model="gpt-4o", messages=[QUESTION])
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="doyen/rag+finetuned:../../etc", messages=[QUESTION])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "JSON"),
        (b"\xff\xfe\x00", ""),
        (b"[]", ""),
        (b"{}", "messages"),
        (b'{"messages": []}', "messages"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "unicode"),
        (b'{"messages": [{"role": "wizard", "content": "x"}]}', "role"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "no message is the user"),
        (b'{"messages": [{"role": "user", "content": "  "}]}', "empty"),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "image_url"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 9}', "n:"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "xml"}}', "xml"),
        (b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema"}}', "schema"),
    ],
)
def test_wrong_requests_say_what_is_wrong(served, body, said):
    answer = served.client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert said in fault(answer, 400)["message"]


def test_ten_thousand_messages_and_a_prompt_of_a_megabyte(served):
    many = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}] * 5000}
    assert "2000" in fault(served.client.post("/v1/chat/completions", json=many), 400)["message"]
    long = {"messages": [{"role": "user", "content": "leave " * 170_000}]}
    assert "characters" in fault(served.client.post("/v1/chat/completions", json=long), 400)["message"]
    filling = {"model": "doyen/base", "messages": [{"role": "user", "content": "leave " * 5000}]}
    assert "tokens" in fault(served.client.post("/v1/chat/completions", json=filling), 400)["message"]
    huge = b'{"messages": [{"role": "user", "content": "' + b"x" * (5 << 20) + b'"}]}'
    assert "4 MiB" in fault(served.client.post("/v1/chat/completions", content=huge), 413)["message"]
    pieces = (b"x" * 65536 for _ in range(100))
    fault(served.client.post("/v1/chat/completions", content=pieces), 413)
    assert served.client.post("/v1/chat/completions", json={"messages": [QUESTION]}).status_code == 200


def test_unknown_paths_and_methods_have_the_form_too(served):
    assert fault(served.client.get("/v1/nothing"), 404)["code"] == "not_found"
    assert fault(served.client.put("/v1/models"), 405)["code"] == "method_not_allowed"


def test_an_error_within_a_stream_is_an_event(served):
    body = {"model": "doyen/base", "stream": True, "messages": [{"role": "user", "content": "leave " * 5000}]}
    answer = served.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert "tokens" in events[-1]["error"]["message"]
