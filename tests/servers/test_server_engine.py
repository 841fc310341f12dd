"""The server engine against a local server that speaks the protocol, with a scripted model."""

import json
import threading
import time

import pytest
from chat_server import ASKED, Script, ask, engine_of

from doyen.config import ModelSettings
from doyen.errors import ConfigError, EndpointError, EngineError, ModelError
from doyen.models.constraints import Choices, JsonSchema, Regex
from doyen.models.endpoint import Endpoint
from doyen.models.server_engine import CONCURRENT
from doyen.models.serving import server_engine, serving_engine
from doyen.models.token_estimate import estimated_tokens
from doyen.prompts import REFUSAL

TOP = {"27": 0.5, "Not": 0.3, "No": 0.15}


def test_an_answer_with_its_probabilities_and_tokens(make_server):
    server = make_server(Script(top=TOP))
    done = ask(engine_of(server), refusal=REFUSAL)[0]
    assert (done.text, done.completion_tokens) == ("27 days [1]", 3)
    assert done.prompt_tokens == len(server.brain.tokens(ASKED, True))
    assert done.refusal_probability == pytest.approx(0.3)
    assert done.log_probability == pytest.approx((-0.10536 * 3) / 3, abs=1e-3)
    body = server.chats[0]
    assert (body["model"], body["messages"], body["max_tokens"]) == ("our-model", ASKED, 20)
    assert (body["temperature"], body["seed"], body["stream"], body["top_logprobs"]) == (0, 0, True, 20)


def test_a_refusal_that_is_not_listed_is_bounded(make_server):
    server = make_server(Script(top={"27": 0.7, "14": 0.2}))
    assert ask(engine_of(server), refusal=REFUSAL)[0].refusal_probability == pytest.approx(0.1)


def test_without_log_probabilities_nothing_is_claimed(make_server):
    server = make_server()
    server.gives_logprobs = False
    done = ask(engine_of(server), refusal=REFUSAL)[0]
    assert (done.text, done.refusal_probability, done.log_probability) == ("27 days [1]", None, 0.0)


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_a_refusal_ruled_out_is_gone_on_from_the_next_best_token(make_server, kind):
    def reply(body):
        return "days [1]" if body["messages"][-1]["role"] == "assistant" else "Not in the documents."

    server = make_server(Script(reply, {"Not ": 0.6, " not": 0.1, "27 ": 0.2}), kind=kind)
    done = ask(engine_of(server), refusal=REFUSAL, may_refuse=False)[0]
    assert (done.text, done.completion_tokens) == ("27 days [1]", 3)
    assert server.chats[1]["messages"][-1] == {"role": "assistant", "content": "27 "}
    assert server.chats[1].get("continue_final_message", False) == (kind == "vllm")
    first = done.log_probability * 3 + 2 * 0.10536
    assert first == pytest.approx(-0.405, abs=1e-2)  # .2 of what the ruled out leave: .3


def test_where_a_server_cannot_go_on_the_refusal_stands(make_server):
    server = make_server(Script(lambda body: REFUSAL), kind="other")
    assert ask(engine_of(server), refusal=REFUSAL, may_refuse=False)[0].text == REFUSAL
    assert len(server.chats) == 1


def test_pieces_join_to_the_text_in_the_callers_thread(make_server):
    server = make_server(Script(lambda body: "  27 days,\nthen 3 more.  "))
    heard = {0: [], 1: []}

    def stream(number, text):
        assert threading.current_thread() is threading.main_thread()
        heard[number].append(text)

    done = ask(engine_of(server), 2, stream=stream)
    assert ["".join(heard[i]) for i in (0, 1)] == [c.text for c in done] == ["27 days,\nthen 3 more."] * 2
    assert len(heard[0]) > 3


def test_a_finished_answer_ends_the_stream(make_server):
    server = make_server(Script(lambda body: "27 days [1]\n\n" + "Question: and " * 500))
    done = engine_of(server).generate([ASKED], max_tokens=1000)[0]
    assert done.text == "27 days [1]" and done.completion_tokens < 20
    assert server.disconnected.wait(2)  # the server is told, and can stop


def test_requests_are_in_flight_together_and_keep_their_order(make_server):
    running, most, lock = [0], [0], threading.Lock()

    def reply(body):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return f"answer {body['messages'][0]['content']}"

    server = make_server(Script(reply))
    seen = []
    done = engine_of(server).generate(
        [[{"role": "user", "content": str(i)}] for i in range(20)], max_tokens=20, progress=seen.append
    )
    assert [c.text for c in done] == [f"answer {i}" for i in range(20)]
    assert 1 < most[0] <= CONCURRENT and seen == [1] * 20


def test_no_more_requests_than_a_server_has_slots(make_server):
    running, most, lock = [0], [0], threading.Lock()

    def reply(body):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        with lock:
            running[0] -= 1
        return "yes"

    server = make_server(Script(reply), kind="llama.cpp")
    server.slots = 2
    ask(engine_of(server), 12)
    assert most[0] == 2


def test_no_proxy_for_this_machine(make_server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert ask(engine_of(make_server()))[0].text == "27 days [1]"


def test_estimated_tokens_are_rather_too_many():
    texts = {"the lease ends": 5, "12,500.75": 9, "Größe": 7, "北京": 6}
    assert {text: estimated_tokens([{"role": "user", "content": text}]) - 16 for text in texts} == texts


def test_turn_marks_in_texts_are_split(make_server):
    server = make_server()
    engine_of(server).generate([[{"role": "user", "content": "<|im_end|> <b>x</b> </s>"}]], max_tokens=5)
    assert server.chats[0]["messages"][0]["content"] == "< |im_end|> <b>x</b> < /s>"


@pytest.mark.parametrize(
    ("unknown", "gone"),
    [
        (("stream_options",), {"stream_options"}),
        (("logprobs", "top_logprobs"), {"logprobs", "top_logprobs"}),
        (("temperature", "seed"), {"temperature", "seed"}),
    ],
)
def test_what_a_server_does_not_know_is_left_out_from_then_on(make_server, unknown, gone):
    server = make_server()
    server.unknown_fields = unknown
    engine = engine_of(server)
    assert ask(engine, refusal=REFUSAL)[0].text == "27 days [1]"
    before = len(server.chats)
    assert not gone & server.chats[-1].keys()
    ask(engine)
    assert len(server.chats) == before + 1


def test_the_longest_answer_by_its_other_name(make_server):
    server = make_server()
    server.faults = [
        (400, {}, json.dumps({"error": {"message": "'max_tokens' is not supported. Use 'max_completion_tokens'."}}))
    ]
    assert ask(engine_of(server))[0].text == "27 days [1]"
    assert (server.chats[0]["max_tokens"], server.chats[1]["max_completion_tokens"]) == (20, 20)


# ---- the context


@pytest.mark.parametrize(("kind", "context"), [("vllm", 4096), ("llama.cpp", 4096), ("ollama", 8192)])
def test_the_context_is_as_the_server_says(make_server, kind, context):
    assert engine_of(make_server(kind=kind)).context_tokens == context


def test_the_context_of_other_servers_is_set(make_server):
    server = make_server(kind="other")
    assert engine_of(server).context_tokens > 10**9
    engine = engine_of(server, context_tokens=50)
    with pytest.raises(EngineError, match="a prompt has .* tokens"):
        engine.generate([[{"role": "user", "content": "word " * 100}]], max_tokens=20)
    assert not server.chats


def test_a_prompt_that_only_the_server_finds_too_long(make_server):
    server = make_server(kind="other", context=30)
    with pytest.raises(EngineError, match="too long: .*maximum context length is 30") as caught:
        ask(engine_of(server))
    assert "passages" in caught.value.hint


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_tokens_are_counted_by_the_server(make_server, kind):
    server = make_server(kind=kind)
    assert engine_of(server).count_tokens(ASKED) == len(server.brain.tokens(ASKED, True))


# ---- constraints

SCHEMA = JsonSchema({"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]})
RULES = (Choices(("yes", "no")), Regex(r"\d{4}"), SCHEMA)


@pytest.mark.parametrize(
    ("kind", "version", "field"),
    [("vllm", "0.11.0", "structured_outputs"), ("vllm", "0.9.2", "guided_choice"), ("other", "", "response_format")],
)
def test_constraints_in_the_servers_own_words(make_server, kind, version, field):
    server = make_server(kind=kind, version=version)
    done = ask(engine_of(server), 3, constraints=RULES)
    assert [c.text for c in done[:2]] == ["no", "2031"] and json.loads(done[2].text) == {"days": 4}
    assert any(field in body for body in server.chats)
    assert done[0].choice_probabilities == (() if kind == "other" else pytest.approx((0.25, 0.75)))


def test_choices_have_probabilities(make_server):
    done = ask(engine_of(make_server()), refusal=REFUSAL, constraints=[RULES[0]])[0]
    assert done.choice_probabilities == pytest.approx((0.25, 0.75))


def test_an_objects_probability_is_that_of_all_its_tokens(make_server):
    made, free = ask(engine_of(make_server()), 2, constraints=[SCHEMA, None])
    assert made.total_log_probability < 0.0
    assert made.total_log_probability == pytest.approx(made.completion_tokens * made.log_probability)
    assert free.total_log_probability == 0.0 > free.log_probability


def test_a_server_that_ignores_constraints_is_told_in_words_then_refused(make_server):
    server = make_server(kind="other")
    server.keeps_constraints = False
    with pytest.raises(EngineError, match="does not keep to what it may be .*27 days"):
        ask(engine_of(server), constraints=[RULES[0]])
    assert len(server.chats) == 2 and '["yes", "no"]' in server.chats[1]["messages"][-1]["content"]

    def obeys(body):
        return "yes" if "one of these texts" in body["messages"][-1]["content"] else "Yes, certainly"

    server.brain = Script(obeys)
    assert ask(engine_of(server), constraints=[RULES[0]])[0].text == "yes"


def test_constraints_are_one_a_prompt(make_server):
    server = make_server()
    done = ask(engine_of(server), 2, constraints=[None, RULES[1]])
    assert [c.text for c in done] == ["27 days [1]", "2031"]


# ---- opening it by settings


def test_settings_name_a_server(make_server, monkeypatch):
    server = make_server(key="sk-test-123")
    monkeypatch.setenv("TEST_KEY", "sk-test-123")
    engine = serving_engine(ModelSettings(name="openai:our-model", endpoint=server.url, key_variable="TEST_KEY"))
    assert (engine.kind, engine.name, ask(engine)[0].text) == ("server", "openai:our-model", "27 days [1]")


def test_azure_has_its_own_address_and_header(make_server, monkeypatch):
    server = make_server(key="sk-test-123", model="ours")
    monkeypatch.setenv("TEST_KEY", "sk-test-123")
    settings = ModelSettings(
        name="azure:ours", endpoint=f"{server.root}?api-version=2025-01-01", key_variable="TEST_KEY"
    )
    assert ask(server_engine(settings))[0].text == "27 days [1]"
    path, body = server.requests[-1]
    assert path == "/openai/deployments/ours/chat/completions?api-version=2025-01-01"
    assert body["max_completion_tokens"] == 20


def test_a_key_goes_to_its_vendor_only(monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "secret")
    own = Endpoint("azure", url="https://ours.openai.azure.com", deployment="a b")
    assert own.variable == "AZURE_OPENAI_API_KEY"
    assert own.url == "https://ours.openai.azure.com/openai/deployments/a%20b"
    assert Endpoint("azure", url="https://ours.openai.azure.com/openai/v1").url.endswith("/openai/v1")
    for url in (
        "https://evil.example/x.openai.azure.com",
        "http://ours.openai.azure.com",
        "https://openai.azure.com.evil.example",
    ):
        assert Endpoint("azure", url=url).variable == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "server"}, "nothing says where the server is"),
        ({"name": "openai:gpt", "engine": "openvino"}, "behind an API"),
        ({"name": "jina:embeddings", "engine": "auto"}, "writes no answers"),
        ({"name": "azure:ours"}, "needs its endpoint"),
        ({"name": "openai:gpt", "endpoint": "http://u:p@host/v1"}, "without a name or password"),
        ({"name": "openai:gpt", "endpoint": "http://host/v1?key=abc"}, "without a name or password"),
    ],
)
def test_settings_that_name_no_server(settings, words):
    with pytest.raises((ConfigError, ModelError), match=words) as caught:
        serving_engine(ModelSettings(**settings))
    assert "abc" not in str(caught.value) and "u:p" not in str(caught.value)


def test_a_missing_key_is_said(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="OPENAI_API_KEY is not set"):
        serving_engine(ModelSettings(name="openai:gpt-4o-mini"))


def test_what_needs_weights_says_so(make_server):
    engine = engine_of(make_server())
    for call in (lambda: engine.next_token_logits(ASKED), lambda: engine.text_losses(["a"])):
        with pytest.raises(EngineError, match="needs the model's weights") as caught:
            call()
        assert "engine" in caught.value.hint
