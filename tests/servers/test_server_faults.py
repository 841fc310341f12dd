"""Servers that stall, cut, lie and refuse: each is tried again or said, and nothing that was answered is lost."""

import json
import threading
import time

import pytest
from chat_server import ASKED, ChatServer, Script, ask, engine_of

from doyen.errors import EndpointError, EngineError, ModelError
from doyen.models.endpoint import Endpoint
from doyen.models.server_engine import ServerEngine

MENDED = ("cut", "ends_early", "bad_chunk", "no_choices", "no_choices_whole", "html", "error_body", "error_in_stream")
KEY = "sk-test-0123456789"


@pytest.mark.parametrize("fault", MENDED)
def test_what_another_try_mends(make_server, fault):
    server = make_server()
    server.faults = [fault]
    heard = []
    done = ask(engine_of(server), stream=lambda _, text: heard.append(text))[0]
    assert done.text == "27 days [1]" == "".join(heard)  # what was shown of the first try is not shown twice
    assert len(server.chats) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cut", "peer closed connection|no connection"),
        ("ends_early", "a stream that is cut off"),
        ("bad_chunk", "a chunk that is not JSON: {'choices'"),
        ("no_choices", "a stream without choices"),
        ("no_choices_whole", "JSON without choices"),
        ("html", "what is no JSON: Bad gateway +Try again later"),
        ("error_body", "an error: the model is overloaded"),
        ("error_in_stream", "an error: CUDA out of memory"),
    ],
)
def test_what_no_try_mends_is_given_up_in_clear_words(make_server, fault, words):
    server = make_server()
    server.faults = [fault] * 3
    with pytest.raises(EndpointError, match=f"given up after 3 tries: .*({words})"):
        ask(engine_of(server))


@pytest.mark.parametrize("fault", ["stall", "stall_in_the_middle"])
def test_silence_ends_after_the_time_out(make_server, fault):
    server = make_server()
    server.faults = [fault] * 2
    begun = time.monotonic()
    with pytest.raises(EndpointError, match=r"given up after 2 tries: no answer within"):
        ask(engine_of(server, timeout_s=0.2, attempts=2))
    assert time.monotonic() - begun < 2


def test_signs_of_life_are_no_answer(make_server):
    server = make_server()
    server.faults = ["pings"]
    assert ask(engine_of(server, timeout_s=0.2))[0].text == "27 days [1]"


def test_another_text_after_what_was_shown_is_an_error(make_server):
    server = make_server(Script(lambda body: "Thirty days"))
    server.faults = ["cut"]
    with pytest.raises(EndpointError, match="cut off after its beginning was shown"):
        ask(engine_of(server), stream=lambda number, text: None)
    server.faults = ["cut"]
    assert ask(engine_of(server))[0].text == "Thirty days"  # nothing was shown


def test_a_busy_server_is_given_the_time_that_it_asks_for(make_server):
    server = make_server()
    server.faults = [(429, {"Retry-After": "0.3"}, '{"error": {"message": "slow down"}}')]
    begun = time.monotonic()
    assert ask(engine_of(server))[0].text == "27 days [1]"
    assert time.monotonic() - begun > 0.3


def test_a_wrong_key_is_refused_at_once_and_not_repeated(make_server, monkeypatch):
    server = make_server(key="another")
    monkeypatch.setenv("TEST_KEY", KEY)
    endpoint = Endpoint("openai", url=server.url, key_variable="TEST_KEY", table="model")
    with pytest.raises(EndpointError, match="refuses: 401") as caught:
        ask(ServerEngine(endpoint, "our-model"))
    assert KEY not in f"{caught.value} {caught.value.hint}" and "TEST_KEY" in caught.value.hint


@pytest.mark.parametrize("kind", ["vllm", "ollama", "other"])
def test_a_model_that_is_not_there(make_server, kind):
    server = make_server(kind=kind)
    with pytest.raises(ModelError, match="has no model 'gpt-9'; it has our-model"):
        ask(engine_of(server, model="gpt-9"))


def test_llama_cpp_has_one_model_under_any_name(make_server):
    assert ask(engine_of(make_server(kind="llama.cpp"), model="gpt-9"))[0].text == "27 days [1]"


def test_a_refusal_in_a_good_answer(make_server):
    server = make_server()
    server.faults = ["refusal_body"]
    with pytest.raises(EndpointError, match="refuses: 403: you may not"):
        ask(engine_of(server))


def test_filtered_and_empty_answers_are_counted(make_server):
    server = make_server()
    filtered = json.dumps(
        {"error": {"message": "The response was filtered: content management policy", "code": "content_filter"}}
    )
    server.faults = ["filtered", "thinks_too_long", (400, {}, filtered)]
    engine = engine_of(server, in_flight=1)
    assert [c.text for c in ask(engine, 4)] == ["", "", "", "27 days [1]"]
    assert len(engine.remarks) == 2 and engine.remarks[0].startswith("2 answers: withheld")


def test_an_answer_cut_at_its_longest_is_an_answer(make_server):
    server = make_server(Script(lambda body: "one two three four five"))
    done = engine_of(server).generate([ASKED], max_tokens=3)[0]
    assert (done.text, done.completion_tokens) == ("one two three", 3)


def test_a_constrained_answer_cut_at_its_longest_is_an_error(make_server):
    from doyen.models.constraints import Regex

    server = make_server(Script(lambda body: "one two three four five"))
    server.keeps_constraints = False
    with pytest.raises(EngineError, match="cut off at its longest"):
        engine_of(server).generate([ASKED], max_tokens=3, constraints=[Regex("[a-z ]+five")])


def test_a_server_that_does_not_stream(make_server):
    server = make_server()
    server.faults = ["whole"]
    heard = []
    done = ask(engine_of(server), stream=lambda _, text: heard.append(text))[0]
    assert (done.text, done.completion_tokens, heard) == ("27 days [1]", 3, ["27 days [1]"])


def test_only_the_protocols_line_ends_end_a_line(make_server):
    server = make_server()
    server.faults = ["separators"]
    assert ask(engine_of(server))[0].text == "a\u2028b\x85c d"


def test_nobody_there(make_server):
    server = make_server()
    server.close()
    with pytest.raises(EndpointError, match="no connection"):
        ask(engine_of(server, attempts=2))


def test_an_interruption_ends_at_once_and_the_server_is_told(make_server):
    server = make_server(Script(lambda body: "word " * 5000), context=10_000)
    slow = server.brain.write

    def write(*given):
        for token in slow(*given):
            time.sleep(0.01)
            yield token

    server.brain.write = write
    heard = []

    def stream(number, text):
        heard.append(number)
        if len(heard) == 5:
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine_of(server).generate([ASKED] * 3, max_tokens=5000, stream=stream)
    assert time.monotonic() - begun < 1 and server.disconnected.wait(2)


def test_one_that_fails_ends_the_others(make_server):
    server = make_server()
    server.faults = [(403, {}, "{}")]
    with pytest.raises(EndpointError, match="403"):
        engine_of(server, in_flight=1).generate([ASKED] * 50, max_tokens=5)
    time.sleep(0.1)
    assert len(server.chats) < 10
    assert threading.active_count() < 50


def test_the_pace_counts_answers_too():
    server = ChatServer()
    try:
        from doyen.models.pace import Pace

        endpoint = Endpoint("openai", url=server.url, table="model", pace=Pace(2, minute_s=0.4))
        begun = time.monotonic()
        ServerEngine(endpoint, "our-model").generate([ASKED] * 3, max_tokens=5)
        assert time.monotonic() - begun > 0.35
    finally:
        server.close()
