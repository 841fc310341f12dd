"""Adapters on a server that runs a real (tiny) model: the same answers as here, and gates that can fail."""

import json
import shutil

import pytest
import tiny_models
from chat_server import RealModel, Script, engine_of

from doyen.errors import EngineError
from doyen.models.served_adapters import largest_difference
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import REFUSAL, closed_book_messages

PROMPTS = [closed_book_messages(q) for q in ("How many days of leave?", "When does the lock open?")]


@pytest.fixture(scope="module")
def local(phi):
    import torch

    return TransformersEngine(phi, dtype=torch.float32)


@pytest.fixture
def real(local):
    return RealModel(local)


def serve(server, real, adapter):
    server.adapters[adapter.name] = str(adapter) + (".gguf" if server.kind == "llama.cpp" else "")
    real.adapters[adapter.name] = adapter


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_base_and_adapter_answer_as_they_do_here(make_server, real, local, adapter, phi, kind):
    server = make_server(real, kind=kind, model="phi")
    serve(server, real, adapter)
    engine = engine_of(server, model="phi", folder=phi, finished=lambda _: False)
    local._finished = lambda _: False
    for folder in (None, adapter):
        options = {"max_tokens": 12, "adapter": folder, "refusal": REFUSAL}
        here, there = local.generate(PROMPTS, **options), engine.generate(PROMPTS, **options)
        assert [c.text for c in there] == [c.text for c in here]
        assert [c.prompt_tokens for c in there] == [c.prompt_tokens for c in here]
        for a, b in zip(here, there, strict=True):
            assert b.log_probability == pytest.approx(a.log_probability, abs=1e-3)
            assert b.refusal_probability >= a.refusal_probability - 1e-4  # a bound, where it is not among the likeliest
    assert engine.adapters.effects["legal"] > 1
    if kind == "llama.cpp":  # an adapter that is not named would stay on, as the server was started
        assert server.chats[0]["lora"] == [{"id": 0, "scale": 0.0}]


def test_an_adapter_that_is_not_applied_is_refused(make_server, real, adapter, phi):
    server = make_server(real, model="phi")
    server.adapters["legal"] = "/elsewhere/legal"  # named, but the model knows nothing of it
    with pytest.raises(EngineError, match="changes no answer there: .* by 0 at most"):
        engine_of(server, model="phi", folder=phi).generate(PROMPTS, max_tokens=4, adapter=adapter)


def test_a_server_whose_numbers_waver_needs_a_clearer_effect(make_server, tmp_path):
    """An idle adapter must not pass because the server computes something else each time."""
    brain, asked = Script(), [0]

    def write(body, adapter, messages):
        asked[0] += 1
        brain.top = {"27 ": 0.5, "Not": [0.2, 0.23, 0.18][asked[0] % 3] * (9 if adapter == "real" else 1)}
        return Script.write(brain, body, adapter, messages)

    brain.write = write
    server = make_server(brain)
    for name in ("idle", "real"):
        server.adapters[name] = ""
        (tmp_path / name).mkdir()
    engine = engine_of(server)
    with pytest.raises(EngineError, match="'idle', but it changes no answer"):
        engine.generate(PROMPTS, max_tokens=4, adapter=tmp_path / "idle")
    assert engine.generate(PROMPTS, max_tokens=4, adapter=tmp_path / "real")


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_another_template_is_refused_by_golden_tokens(make_server, tmp_path, adapter, kind):
    import torch

    other = tiny_models.phi_folder(
        tmp_path / "other", template=tiny_models.PHI_TEMPLATE.replace("<|assistant|>\n", "<|assistant|>")
    )
    real = RealModel(TransformersEngine(other, dtype=torch.float32))
    server = make_server(real, kind=kind, model="phi")
    serve(server, real, adapter)
    with pytest.raises(
        EngineError, match="another tokenizer or chat template than .*'s (phi|legal) has now: of .* golden tokens"
    ):
        engine_of(server, model="phi").generate(PROMPTS, max_tokens=4, adapter=adapter)
    assert not server.chats


def test_another_form_of_answered_turns_is_refused(make_server, tmp_path, adapter):
    """A template that differs only in how an earlier answer ends."""
    import torch

    template = tiny_models.PHI_TEMPLATE.replace(
        "'<|end|>\n' }}", "('<|end|>' if m['role'] == 'assistant' else '<|end|>\n') }}"
    )
    real = RealModel(
        TransformersEngine(tiny_models.phi_folder(tmp_path / "other", template=template), dtype=torch.float32)
    )
    server = make_server(real, model="phi")
    serve(server, real, adapter)
    with pytest.raises(EngineError, match="golden tokens"):
        engine_of(server, model="phi").generate(PROMPTS, max_tokens=4, adapter=adapter)


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp", "other"])
def test_an_adapter_that_is_not_there_is_said_with_those_that_are(make_server, adapter, kind):
    server = make_server(kind=kind)
    server.adapters["medical"] = "/adapters/medical.gguf"
    with pytest.raises(EngineError, match="does not serve the adapter 'legal' .*medical") as caught:
        engine_of(server).generate(PROMPTS, max_tokens=4, adapter=adapter)
    assert {"vllm": "--lora-modules", "llama.cpp": "--lora legal.gguf", "other": "merged"}[kind] in caught.value.hint


def test_an_adapter_of_another_base_there_is_refused(make_server, adapter):
    server = make_server()
    server.adapters["legal"] = "/adapters/legal"
    before = server.models
    server.models = lambda: {
        "data": [row | ({"parent": "gpt-9"} if row["id"] == "legal" else {}) for row in before()["data"]]
    }
    with pytest.raises(EngineError, match=r"on another base \(gpt-9\)"):
        engine_of(server).generate(PROMPTS, max_tokens=4, adapter=adapter)


def test_a_server_of_this_machine_loads_what_it_may(make_server, real, adapter, phi):
    server = make_server(real, model="phi")
    server.loads = True
    engine = engine_of(server, model="phi", folder=phi)
    assert engine.generate(PROMPTS, max_tokens=4, adapter=adapter)
    engine.generate(PROMPTS, max_tokens=4, adapter=adapter)
    loads = [body for path, body in server.requests if path == "/v1/load_lora_adapter"]
    assert loads == [{"lora_name": "legal", "lora_path": str(adapter.resolve())}]


def test_a_server_that_cannot_be_checked_is_used_with_a_remark(make_server, adapter):
    server = make_server(Script(), kind="other")
    server.gives_logprobs = False
    server.adapters["legal"] = ""
    engine = engine_of(server)
    assert engine.generate(PROMPTS, max_tokens=4, adapter=adapter)[0].text == "27 days [1]"
    assert server.chats[-1]["model"] == "legal"
    assert [r.rpartition(":")[2] for r in engine.remarks] == [
        " whether it has legal's template is unchecked",
        " whether it applies legal is unchecked",
    ]


def test_a_broken_manifest_is_said(make_server, adapter, tmp_path):
    broken = shutil.copytree(adapter, tmp_path / "legal")
    (broken / "manifest.json").write_text("{")
    server = make_server()
    server.adapters["legal"] = ""
    with pytest.raises(EngineError, match="manifest in .* is broken"):
        engine_of(server).generate(PROMPTS, max_tokens=4, adapter=broken)


def test_difference_of_two_lists_of_likeliest_tokens():
    assert largest_difference({"a": -1.0, "b": -2.0}, {"a": -1.25, "b": -2.0}) == 0.25
    assert largest_difference({"a": -1.0, "b": -2.0}, {"a": -1.0, "c": -3.0}) == 1.0  # b there is at most -3
    assert largest_difference({"a": -1.0, "b": -2.0}, {"a": -1.0, "c": -2.0}) == 0.0
    assert json.dumps(largest_difference({}, {})) == "0.0"
