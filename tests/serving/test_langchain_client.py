"""LangChain's ChatOpenAI and OpenAIEmbeddings, unchanged, against a running server."""

import pytest

pytestmark = pytest.mark.slow
QUESTION = "How many days of leave?"


@pytest.fixture
def langchain(served, monkeypatch):
    found = pytest.importorskip("langchain_openai", reason="pip install langchain-openai")
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.delenv(name, raising=False)
    return found, {"base_url": f"{served.url}/v1", "api_key": "none", "max_retries": 0}


def test_it_chats_and_streams_the_same(served, langchain):
    package, given = langchain
    chat = package.ChatOpenAI(model="doyen/rag", **given)
    whole = chat.invoke([("system", "Be short."), ("human", QUESTION)])
    assert whole.content == served.ask(arm="rag").json()["answer"]
    assert whole.usage_metadata["input_tokens"] > 0 and whole.response_metadata["finish_reason"] in ("stop", "length")
    pieces = list(chat.stream(QUESTION))
    assert "".join(piece.content for piece in pieces) == whole.content


def test_it_answers_in_a_batch(langchain):
    package, given = langchain
    chat = package.ChatOpenAI(model="doyen", max_tokens=8, **given)
    answers = chat.batch([QUESTION, "When does the lock open?", "What lifts the crane?"])
    assert len(answers) == 3 and all(isinstance(a.content, str) for a in answers)


def test_its_tools_and_its_forms(langchain):
    package, given = langchain
    schema = {"title": "Days", "type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    chat = package.ChatOpenAI(model="doyen/rag", **given)
    found = chat.with_structured_output(schema, method="json_schema").invoke(QUESTION)
    assert isinstance(found["days"], int)
    tool = {"type": "function", "function": {"name": "call", "parameters": {"type": "object", "properties": {}}}}
    assert not chat.bind_tools([tool]).invoke(QUESTION).tool_calls


def test_its_embeddings(served, langchain):
    package, given = langchain
    # By default it sends token numbers of OpenAI's own models, which mean nothing to others.
    embeddings = package.OpenAIEmbeddings(model="doyen/embedder", check_embedding_ctx_length=False, **given)
    own = served.service.desk.retriever.embedder.embed(["annual leave"], kind="passage")[0]
    assert embeddings.embed_query("annual leave") == pytest.approx(own.tolist(), abs=1e-6)


def test_a_wrong_model_is_its_not_found(langchain):
    import openai

    package, given = langchain
    with pytest.raises(openai.NotFoundError, match="doyen/rag"):
        package.ChatOpenAI(model="gpt-4o", **given).invoke(QUESTION)
