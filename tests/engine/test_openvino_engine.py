"""The OpenVINO engine on tiny real models: as transformers writes, alone and together, interrupted, with adapters."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny_models
import torch

from doyen.config import ModelSettings
from doyen.errors import EngineError, GateError, ModelError
from doyen.finetuning.gates import require_effect
from doyen.models.openvino_engine import OpenVINOEngine
from doyen.models.serving import engine_name, serving_engine
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import REFUSAL, closed_book_messages

QUESTIONS = ("Leave?", "How many days of leave does the guild grant?", "When does the Orrel lock open? " * 4)
PROMPTS = [closed_book_messages(q) for q in QUESTIONS]


def user(text):
    return [{"role": "user", "content": text}]


def engine_of(folder, **options):
    return OpenVINOEngine(folder, precision="f32", **options)


def texts(completions):
    return [c.text for c in completions]


@pytest.fixture(scope="module", params=["phi", "llama"])
def pair(request):
    folder = request.getfixturevalue(request.param)
    return engine_of(folder), TransformersEngine(folder, dtype=torch.float32)


@pytest.mark.parametrize("options", [{}, {"refusal": REFUSAL}, {"refusal": REFUSAL, "may_refuse": False}])
def test_it_answers_as_transformers_does(pair, options):
    ours, theirs = (engine.generate(PROMPTS, max_tokens=20, **options) for engine in pair)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.text, mine.prompt_tokens, mine.completion_tokens) == (
            other.text,
            other.prompt_tokens,
            other.completion_tokens,
        )
        assert mine.log_probability == pytest.approx(other.log_probability, rel=1e-3)
        if options:
            assert mine.refusal_probability == pytest.approx(other.refusal_probability, rel=1e-3)
        else:
            assert mine.refusal_probability is None
    assert len(set(texts(ours))) == len(PROMPTS)


def test_templates_and_logits_are_those_of_transformers(pair):
    ours, theirs = pair
    assert ours.template_hash() == theirs.template_hash()
    assert ours.count_tokens(PROMPTS[1]) == theirs.count_tokens(PROMPTS[1])
    np.testing.assert_allclose(
        ours.next_token_logits(PROMPTS[0]), theirs.next_token_logits(PROMPTS[0]).numpy(), atol=1e-3
    )


def test_losses_of_texts_are_those_of_transformers(pair):
    passages = ["The crane lifts 12 tonnes. " * 15, "27"]
    prompts = [user("What lifts?"), user("How many days?")]
    ours, theirs = ([*e.text_losses(passages), *e.text_losses(passages, prompts)] for e in pair)
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_batch_writes_what_each_prompt_alone_writes(phi):
    together = engine_of(phi).generate(PROMPTS, max_tokens=12)
    alone = [engine_of(phi).generate([p], max_tokens=12)[0] for p in PROMPTS]
    done = []
    in_turn = engine_of(phi, batch_tokens=1).generate(PROMPTS, max_tokens=12, progress=done.append)
    assert texts(together) == texts(alone) == texts(in_turn)
    assert done == [1, 1, 1]
    assert engine_of(phi).generate([], max_tokens=4) == []


def counted(engine):
    """Count the tokens that an engine's base network reads."""
    network, read = engine._load(None).network, []
    step = network.step

    def counting(pieces):
        read.append(sum(len(p.ids) for p in pieces))
        return step(pieces)

    network.step = counting
    return read


def test_what_was_read_is_not_read_again(phi):
    engine = engine_of(phi)
    passages = "The guild grants 27 days of leave. " * 20
    prompts = [user(f"{passages}\n\nQuestion: {q}") for q in ("How many days?", "Which guild?", "Leave?")]
    expected = [engine_of(phi).generate([p], max_tokens=4)[0].text for p in prompts]
    read, lengths = counted(engine), [engine.count_tokens(p) for p in prompts]
    assert texts(engine.generate(prompts, max_tokens=4)) == expected
    assert sum(read) < max(lengths) + 3 * (32 + 30)
    read.clear()
    assert texts(engine.generate(prompts, max_tokens=4)) == expected
    assert sum(read) <= 3 * (32 + 3)


def test_room_for_more_is_made_when_a_prompt_needs_it(phi):
    engine = engine_of(phi, batch_tokens=16)
    long = user("leave " * 300)
    assert engine.generate([long], max_tokens=4)[0].text == engine_of(phi).generate([long], max_tokens=4)[0].text


def test_streamed_pieces_make_the_text(phi):
    pieces = {}
    found = engine_of(phi).generate(PROMPTS, max_tokens=12, stream=lambda i, t: pieces.setdefault(i, []).append(t))
    assert ["".join(pieces[i]) for i in range(len(PROMPTS))] == texts(found)
    assert max(map(len, pieces.values())) > 2


def test_an_interruption_gives_all_memory_back(phi):
    engine = engine_of(phi)
    expected = texts(engine.generate(PROMPTS, max_tokens=8))

    def interrupt(number, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(PROMPTS, max_tokens=8, stream=interrupt)
    pool = engine._load(None).network.pool
    assert not any(pool._users)
    assert texts(engine.generate(PROMPTS, max_tokens=8)) == expected


@pytest.mark.parametrize("mark", ["<|end|>", "<|endoftext|>"])
def test_an_answer_ends_at_the_turn_mark_and_at_the_end_of_text(mark, tmp_path):
    folder = tiny_models.successor_phi(tmp_path, ["Ċ", "A", "B", mark, "C", "D"])
    answer = engine_of(folder).generate([user("Which letters?")], max_tokens=8)[0]
    assert (answer.text, answer.completion_tokens) == ("AB", 2)


def test_writing_stops_where_the_text_is_finished(tmp_path):
    folder = tiny_models.successor_phi(tmp_path, ["Ċ", "A", "B", "Ċ"])
    options = {"finished": lambda text: text.endswith("B\n")}
    answer = engine_of(folder, **options).generate([user("Which?")], max_tokens=9)[0]
    assert (answer.text, answer.completion_tokens) == ("AB", 3)


def test_guessed_tokens_change_no_text_and_save_steps(tmp_path):
    cycle = ["Ċ", "A", "B", "X", "C", "D", "E", "A"]
    folder = tiny_models.successor_phi(tmp_path, cycle)
    engine = engine_of(folder)
    read = counted(engine)
    answer = engine.generate([user("Which letters?")], max_tokens=30)[0]
    assert answer.text == ("ABXCDE" * 6)[:30] and answer.completion_tokens == 30
    assert len(read) < 15


def test_a_prompt_that_leaves_no_room_for_the_answer_is_refused(phi):
    prompt = user("leave " * 40)
    length = engine_of(phi).count_tokens(prompt)
    assert engine_of(phi, context_tokens=length + 4).generate([prompt], max_tokens=4)
    with pytest.raises(EngineError, match=f"{length} tokens"):
        engine_of(phi, context_tokens=length + 3).generate([prompt], max_tokens=4)


def test_an_answer_that_crosses_the_longrope_switch_is_computed_anew(tmp_path):
    folder = tiny_models.longrope_phi_folder(tmp_path, switch=100)
    ours, theirs = engine_of(folder), TransformersEngine(folder, dtype=torch.float32)
    prompts = [user("A" * n) for n in (20, 70, 85, 110)]
    lengths = [ours.count_tokens(p) for p in prompts]
    assert min(lengths) + 24 < 100 < max(lengths) and any(n < 100 < n + 24 for n in lengths)
    assert texts(ours.generate(prompts, max_tokens=24)) == texts(theirs.generate(prompts, max_tokens=24))


# ---- adapters


def test_adapters_are_swapped_and_taken_off(phi, make_adapter):
    ours, theirs = engine_of(phi), TransformersEngine(phi, dtype=torch.float32)
    adapters = (None, make_adapter(phi, 1), make_adapter(phi, 2), None)
    found = [texts(ours.generate(PROMPTS, max_tokens=6, adapter=a)) for a in adapters]
    assert found == [texts(theirs.generate(PROMPTS, max_tokens=6, adapter=a)) for a in adapters]
    assert len({tuple(t) for t in found}) == 3


def test_the_gate_sees_whether_the_adapter_works_on_this_engine(phi, make_adapter):
    ours, theirs, adapter = engine_of(phi), TransformersEngine(phi, dtype=torch.float32), make_adapter(phi, 3)
    mine, other = (
        require_effect(e.next_token_logits(PROMPTS[0]), e.next_token_logits(PROMPTS[0], adapter=adapter))
        for e in (ours, theirs)
    )
    assert mine["largest_logit_difference"] == pytest.approx(other["largest_logit_difference"], abs=1e-2)


def test_a_model_trained_whole_is_served_from_its_own_folder(phi, tmp_path):
    other = tiny_models.phi_folder(tmp_path, seed=4)
    assert texts(engine_of(phi).generate(PROMPTS, max_tokens=6, adapter=other)) == texts(
        engine_of(other).generate(PROMPTS, max_tokens=6)
    )


def test_no_adapter_and_a_foreign_one_are_refused(phi, make_adapter, tmp_path):
    with pytest.raises(EngineError, match="no adapter"):
        engine_of(phi).generate(PROMPTS, max_tokens=2, adapter=tmp_path)
    wider = tiny_models.phi_folder(tmp_path, hidden_size=96)
    with pytest.raises(EngineError, match="another model"):
        engine_of(wider).generate(PROMPTS, max_tokens=2, adapter=make_adapter(phi, 1))
    adapter = shutil.copytree(make_adapter(phi, 1), tmp_path / "adapter")
    (adapter / "manifest.json").write_text(json.dumps({"model": "tiny", "model_fingerprint": "0" * 16}))
    with pytest.raises(EngineError, match="another model"):
        engine_of(phi).generate(PROMPTS, max_tokens=2, adapter=adapter)


# ---- the choice


def test_the_engine_is_chosen_by_the_model_and_the_settings(phi, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    assert engine_name(phi, "transformers") == "transformers"
    assert engine_name(phi, "openvino") == "openvino"
    assert engine_name(tmp_path) == "transformers"
    with pytest.raises(ModelError, match="gpt2"):
        engine_name(tmp_path, "openvino")
    made = serving_engine(ModelSettings(name=str(phi), engine="openvino", batch_tokens=512))
    assert isinstance(made, OpenVINOEngine) and made.batch_tokens == 512


def test_answers_need_neither_torch_nor_transformers(phi):
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'peft', 'accelerate'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from doyen.config import ModelSettings\n"
        "from doyen.models.serving import serving_engine\n"
        f"engine = serving_engine(ModelSettings(name={str(phi)!r}))\n"
        "print(engine.generate([[{'role': 'user', 'content': 'Leave?'}]], max_tokens=4)[0].completion_tokens)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4"


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
def test_dora_and_adapters_of_some_modules_are_served(targets, llama, tmp_path):
    from peft import LoraConfig, get_peft_model

    from doyen.models.engine import load_causal_model, quiet_peft

    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(5)
        options = {"r": 4, "target_modules": targets, "use_dora": True, "init_lora_weights": False}
        model = get_peft_model(
            load_causal_model(llama, dtype=torch.float32), LoraConfig(task_type="CAUSAL_LM", **options)
        )
        model.save_pretrained(str(tmp_path))
    ours, theirs = engine_of(llama), TransformersEngine(llama, dtype=torch.float32)
    mine, other = (e.next_token_logits(PROMPTS[1], adapter=tmp_path) for e in (ours, theirs))
    np.testing.assert_allclose(mine, other.numpy(), atol=1e-3)
    assert np.abs(mine - ours.next_token_logits(PROMPTS[1])).max() > 0.1


@pytest.mark.parametrize(("size", "works"), [(0.0, False), (1e-7, False), (1.0, True)])
def test_the_gate_tells_an_effect_from_rounding_also_where_answers_are_in_half_precision(
    size, works, phi, make_adapter, tmp_path
):
    from safetensors.torch import load_file, save_file

    adapter = shutil.copytree(make_adapter(phi, 8), tmp_path / "adapter")
    path = adapter / "adapter_model.safetensors"
    save_file({k: v * (size if ".lora_B." in k else 1) for k, v in load_file(str(path)).items()}, str(path))
    engine = OpenVINOEngine(phi)
    both = engine.next_token_logits(PROMPTS[0]), engine.next_token_logits(PROMPTS[0], adapter=adapter)
    if works:
        require_effect(*both)
        return
    with pytest.raises(GateError, match="no-op"):
        require_effect(*both)
