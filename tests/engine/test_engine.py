"""The transformers engine on tiny real models: batching, stopping, adapters, LongRoPE."""

import hashlib
import json
import shutil

import pytest
import tiny_models
import torch
from safetensors.torch import load_file

from doyen.errors import EngineError, ModelError
from doyen.models.engine import load_causal_model, load_tokenizer, render, rope_switch, stop_token_ids, template_hash
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import REFUSAL, closed_book_messages

QUESTIONS = ("Leave?", "How many days of leave does the guild grant?", "When does the Orrel lock open? " * 4)
PROMPTS = [closed_book_messages(q) for q in QUESTIONS]


def user(text):
    return [{"role": "user", "content": text}]


def engine_of(folder, **options):
    return TransformersEngine(folder, dtype=torch.float32, **options)


def texts(completions):
    return [c.text for c in completions]


@pytest.mark.parametrize("name", ["phi", "llama"])
def test_a_batch_writes_what_each_prompt_alone_writes(name, request):
    engine = engine_of(request.getfixturevalue(name))
    together = engine.generate(PROMPTS, max_tokens=12, refusal=REFUSAL)
    alone = [engine.generate([p], max_tokens=12, refusal=REFUSAL)[0] for p in PROMPTS]
    assert texts(together) == texts(alone)
    assert [c.completion_tokens for c in together] == [c.completion_tokens for c in alone]
    assert [c.prompt_tokens for c in together] == [engine.count_tokens(p) for p in PROMPTS]
    for sign in ("refusal_probability", "log_probability"):
        assert [getattr(c, sign) for c in together] == pytest.approx([getattr(c, sign) for c in alone], rel=1e-3)
    assert len(set(texts(together))) == len(PROMPTS)


def test_greedy_text_equals_argmax_step_by_step(phi):
    engine = engine_of(phi)
    tokenizer, stops = load_tokenizer(phi), stop_token_ids(load_tokenizer(phi), phi)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(phi)).eval()
    ids = tokenizer.apply_chat_template(PROMPTS[1], add_generation_prompt=True, return_dict=True)["input_ids"]
    start = len(ids)
    with torch.inference_mode():
        while len(ids) < start + 10:
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in stops:
                break
    expected = tokenizer.decode([i for i in ids[start:] if i not in stops], skip_special_tokens=True).strip()
    assert engine.generate([PROMPTS[1]], max_tokens=10)[0].text == expected


def test_batches_of_few_tokens_give_the_same_texts_in_the_same_order(phi):
    one_batch = engine_of(phi).generate(PROMPTS, max_tokens=6)
    done = []
    many = engine_of(phi, batch_tokens=1).generate(PROMPTS, max_tokens=6, progress=done.append)
    assert texts(many) == texts(one_batch)
    assert done == [1, 1, 1]


def test_no_prompts_no_completions(phi):
    assert engine_of(phi).generate([], max_tokens=4) == []


@pytest.mark.parametrize("mark", ["<|end|>", "<|endoftext|>"])
def test_an_answer_ends_at_the_turn_mark_and_at_the_end_of_text(mark, tmp_path):
    folder = tiny_models.successor_phi(tmp_path, ["Ċ", "A", "B", mark, "C", "D"])
    answer = engine_of(folder).generate([user("Which letters?")], max_tokens=8)[0]
    assert (answer.text, answer.completion_tokens) == ("AB", 2)


def test_another_token_does_not_end_the_answer(tmp_path):
    folder = tiny_models.successor_phi(tmp_path, ["Ċ", "A", "B", "X", "C", "D"])
    assert engine_of(folder).generate([user("Which letters?")], max_tokens=5)[0].text == "ABXCD"


def test_the_stops_are_the_configured_one_and_the_turn_mark(phi):
    tokenizer = load_tokenizer(phi)
    assert set(tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer, phi))) == {"<|end|>", "<|endoftext|>"}


def test_the_stops_of_the_generation_configuration_count(phi, tmp_path):
    folder = shutil.copytree(phi, tmp_path / "phi")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    assert {7, 9} < set(stop_token_ids(load_tokenizer(folder), folder))


def test_a_prompt_that_leaves_no_room_for_the_answer_is_refused(phi):
    prompt = user("leave " * 40)
    length = engine_of(phi).count_tokens(prompt)
    assert engine_of(phi, context_tokens=length + 4).generate([prompt], max_tokens=4)
    with pytest.raises(EngineError, match=f"{length} tokens") as caught:
        engine_of(phi, context_tokens=length + 3).generate([prompt], max_tokens=4)
    assert "passages" in caught.value.hint


def test_the_context_is_the_models_own_by_default(tmp_path):
    folder = tiny_models.phi_folder(tmp_path, max_position_embeddings=64)
    with pytest.raises(EngineError, match="takes 60"):
        engine_of(folder).generate([user("leave " * 80)], max_tokens=4)


def test_refusal_probability_is_the_softmax_of_the_next_token_logits(phi):
    engine = engine_of(phi)
    token = engine.tokenizer(REFUSAL, add_special_tokens=False)["input_ids"][0]
    for prompt, completion in zip(PROMPTS, engine.generate(PROMPTS, max_tokens=3, refusal=REFUSAL), strict=True):
        expected = float(engine.next_token_logits(prompt).softmax(-1)[token])
        assert completion.refusal_probability == pytest.approx(expected, rel=1e-3)
        assert 0.0 <= completion.refusal_probability <= 1.0
    assert engine.generate(PROMPTS[:1], max_tokens=1)[0].refusal_probability is None


def test_no_answer_begins_with_a_refusal_that_is_ruled_out(phi):
    engine = engine_of(phi)
    best = [int(engine.next_token_logits(p).argmax()) for p in PROMPTS]
    likeliest = load_tokenizer(phi).decode([best[0]])
    free = engine.generate(PROMPTS[:1], max_tokens=1, refusal=likeliest)
    forced = engine.generate(PROMPTS[:1], max_tokens=1, refusal=likeliest, may_refuse=False)
    assert forced[0].text != free[0].text
    assert forced[0].refusal_probability == pytest.approx(free[0].refusal_probability)


def test_log_probability_is_that_of_the_written_tokens(phi):
    engine = engine_of(phi)
    for prompt in PROMPTS:
        completion = engine.generate([prompt], max_tokens=1)[0]
        expected = float(engine.next_token_logits(prompt).log_softmax(-1).max())
        assert completion.log_probability == pytest.approx(expected, rel=1e-3)
    ruled_out = engine.generate(PROMPTS[:1], max_tokens=1, refusal=REFUSAL, may_refuse=False)[0]
    logits = engine.next_token_logits(PROMPTS[0]).clone()
    for spelling in (REFUSAL, f" {REFUSAL}", REFUSAL.lower()[:1] + REFUSAL[1:], " n" + REFUSAL[1:]):
        logits[engine.tokenizer(spelling, add_special_tokens=False)["input_ids"][0]] = float("-inf")
    assert ruled_out.log_probability == pytest.approx(float(logits.log_softmax(-1).max()), rel=1e-3)


def test_what_comes_after_the_end_of_a_turn_does_not_count(phi):
    engine = engine_of(phi)
    whole = engine.generate(PROMPTS, max_tokens=24)
    longest = max(c.completion_tokens for c in whole)
    for prompt, completion in zip(PROMPTS, whole, strict=True):
        if completion.completion_tokens < longest:
            alone = engine.generate([prompt], max_tokens=24)[0]
            assert alone.log_probability == pytest.approx(completion.log_probability, rel=1e-3)


def test_noting_the_refusal_changes_no_text(phi):
    engine = engine_of(phi)
    assert texts(engine.generate(PROMPTS, max_tokens=6, refusal=REFUSAL)) == texts(
        engine.generate(PROMPTS, max_tokens=6)
    )


@pytest.mark.parametrize("name", ["phi", "llama"])
def test_a_turn_mark_in_a_text_does_not_end_its_turn(name, request):
    tokenizer = load_tokenizer(request.getfixturevalue(name))
    marks = sorted(m for m in tokenizer.get_added_vocab() if m.startswith("<"))
    plain, hostile = render(tokenizer, user("Leave?")), render(tokenizer, user("Leave?" + "".join(marks)))
    ids = set(tokenizer.convert_tokens_to_ids(marks))
    assert len(marks) >= 3
    assert [i for i in hostile if i in ids] == [i for i in plain if i in ids]


def test_the_template_hash_follows_the_template(phi, tmp_path):
    before = template_hash(load_tokenizer(phi))
    assert engine_of(phi).template_hash() == before
    other = tiny_models.phi_folder(tmp_path, template=tiny_models.PHI_TEMPLATE.replace("<|end|>\n", "<|end|>"))
    assert template_hash(load_tokenizer(other)) != before


def test_a_folder_without_a_chat_template_is_refused(phi, tmp_path):
    folder = shutil.copytree(phi, tmp_path / "phi")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        engine_of(folder).count_tokens(PROMPTS[0])


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "phi3"}))
    with pytest.raises(ModelError, match="no usable tokenizer"):
        engine_of(tmp_path).count_tokens(PROMPTS[0])


# ---- adapters


@pytest.fixture(scope="module")
def two_adapters(phi, make_adapter):
    return make_adapter(phi, 1), make_adapter(phi, 2)


def test_pickled_weights_are_not_read(tmp_path):
    folder = tiny_models.phi_folder(tmp_path)
    weights = load_file(str(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_causal_model(folder)


def test_adapters_are_swapped_and_taken_off(phi, two_adapters):
    engine = engine_of(phi)
    base = engine.generate(PROMPTS, max_tokens=6)
    by = {a: engine.generate(PROMPTS, max_tokens=6, adapter=a) for a in two_adapters}
    assert texts(engine.generate(PROMPTS, max_tokens=6)) == texts(base)
    assert texts(engine.generate(PROMPTS, max_tokens=6, adapter=two_adapters[0])) == texts(by[two_adapters[0]])
    assert len({tuple(texts(c)) for c in (base, *by.values())}) == 3
    fresh = engine_of(phi).generate(PROMPTS, max_tokens=6, adapter=two_adapters[1])
    assert texts(fresh) == texts(by[two_adapters[1]])


def test_logits_follow_the_adapter(phi, two_adapters):
    engine = engine_of(phi)
    base = engine.next_token_logits(PROMPTS[0])
    adapted = engine.next_token_logits(PROMPTS[0], adapter=two_adapters[0])
    assert base.shape == (len(engine.tokenizer),) and base.dtype == torch.float32
    assert not torch.allclose(base, adapted, atol=0.1)
    assert torch.equal(engine.next_token_logits(PROMPTS[0]), base)


def test_no_adapter_in_the_folder(phi, tmp_path):
    with pytest.raises(EngineError, match="no adapter"):
        engine_of(phi).generate(PROMPTS, max_tokens=2, adapter=tmp_path)


def write_manifest(folder, phi, **changes):
    fingerprint = hashlib.sha256((phi / "config.json").read_bytes()).hexdigest()[:16]
    content = {"model": "tiny", "model_fingerprint": fingerprint, "template_hash": engine_of(phi).template_hash()}
    (folder / "manifest.json").write_text(json.dumps(content | changes))


def test_an_adapter_of_another_template_is_refused(phi, two_adapters, tmp_path):
    adapter = shutil.copytree(two_adapters[0], tmp_path / "adapter")
    write_manifest(adapter, phi)
    assert engine_of(phi).generate(PROMPTS[:1], max_tokens=2, adapter=adapter)
    write_manifest(adapter, phi, template_hash="0" * 16)
    with pytest.raises(EngineError, match="another chat template"):
        engine_of(phi).generate(PROMPTS[:1], max_tokens=2, adapter=adapter)


def test_an_adapter_of_another_model_is_refused(phi, two_adapters, tmp_path):
    adapter = shutil.copytree(two_adapters[0], tmp_path / "adapter")
    wider = tiny_models.phi_folder(tmp_path, hidden_size=96)
    write_manifest(adapter, phi)
    with pytest.raises(EngineError, match="another model"):
        engine_of(wider).generate(PROMPTS[:1], max_tokens=2, adapter=adapter)


# ---- LongRoPE: the rotary frequencies change for a whole batch once its longest row is beyond the switch

SWITCH = 48


@pytest.fixture(scope="module")
def longrope(tmp_path_factory):
    return tiny_models.longrope_phi_folder(tmp_path_factory.mktemp("longrope"), switch=SWITCH)


def prompt_of(engine, tokens):
    """Return a prompt of exactly so many tokens."""
    empty = engine.count_tokens(user(""))
    prompt = user("A" * (tokens - empty))
    assert engine.count_tokens(prompt) == tokens
    return prompt


def test_the_switch_is_read_from_the_configuration(phi, longrope):
    assert rope_switch(engine_of(longrope)._load().config) == SWITCH
    assert rope_switch(engine_of(phi)._load().config) is None


def test_prompts_on_both_sides_of_the_longrope_switch_share_a_call(longrope):
    engine = engine_of(longrope)
    prompts = [
        prompt_of(engine, n)
        for n in (SWITCH - 20, SWITCH - 12, SWITCH - 4, SWITCH - 2, SWITCH, SWITCH + 1, SWITCH + 30)
    ]
    together = engine.generate(prompts, max_tokens=8)
    assert texts(together) == [engine.generate([p], max_tokens=8)[0].text for p in prompts]


def test_an_answer_that_crosses_the_switch_is_computed_anew(longrope):
    from transformers import AutoModelForCausalLM

    engine = engine_of(longrope)
    prompt = prompt_of(engine, SWITCH - 3)
    written = engine.generate([prompt], max_tokens=8)[0]
    model = AutoModelForCausalLM.from_pretrained(str(longrope)).eval()
    ids = engine.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    start, stops = len(ids), stop_token_ids(engine.tokenizer, longrope)
    with torch.inference_mode():
        while len(ids) < start + 8 and (len(ids) == start or ids[-1] not in stops):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    new = [i for i in ids[start:] if i not in stops]
    assert written.completion_tokens == len(new) > 4
    assert written.text == engine.tokenizer.decode(new, skip_special_tokens=True).strip()


def test_writing_stops_where_the_text_is_finished_and_its_neighbours_go_on(phi):
    free = engine_of(phi, finished=lambda text: False)
    whole = free.generate(PROMPTS, max_tokens=12)
    tokenizer = load_tokenizer(phi)

    def third_token_of_the_first(text):
        return text == tokenizer.decode(ids[:3])

    ids = tokenizer(whole[0].text, add_special_tokens=False)["input_ids"]
    stopping = engine_of(phi, finished=third_token_of_the_first)
    stopping._tokenizer = Breaking(tokenizer)
    stopping._stops = stop_token_ids(tokenizer, phi)
    found = stopping.generate(PROMPTS, max_tokens=12)
    assert whole[0].text.startswith(found[0].text) and found[0].completion_tokens < whole[0].completion_tokens
    assert texts(found[1:]) == texts(whole[1:])


class Breaking:
    """A tokenizer of which each token holds a line break, so that every step asks whether the text is finished."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def __call__(self, *arguments, **options):
        return self.tokenizer(*arguments, **options)

    def decode(self, ids):
        return "\n" if len(ids) == 1 else self.tokenizer.decode(ids)
