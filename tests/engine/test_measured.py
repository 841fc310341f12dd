"""How fast engines answer here: measured in turn, remembered for this model, bits and machine, and used by `auto`."""

import time

import pytest

from doyen.config import ModelSettings
from doyen.models import measured, serving
from doyen.models.engine import Completion
from doyen.models.measured import PROMPT_TOKENS, Speed, fastest, measure, remember


class Slow:
    """An engine that takes `read` s for a prompt and `write` s for each token."""

    context_tokens = 2048

    def __init__(self, read, write):
        self.read, self.write, self.prompts = read, write, []

    def count_tokens(self, messages):
        return len(messages[0]["content"].split())

    def generate(self, prompts, *, max_tokens, **options):
        self.prompts += [p[0]["content"] for p in prompts]
        time.sleep(self.read + self.write * (max_tokens - 1))
        return [Completion("x", 1, max_tokens, 0.0)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path))
    return tmp_path


def test_the_faster_one_comes_first_with_its_rates():
    engines = {"one": Slow(0.03, 0.0005), "two": Slow(0.01, 0.0001)}
    told = []
    speeds = measure(engines, lambda *a: told.append(a))
    assert [s.engine for s in speeds] == ["two", "one"]
    assert speeds[1].first_token_s == pytest.approx(0.03, rel=0.5)
    assert speeds[1].write_tokens_per_s == pytest.approx(2000, rel=0.5)
    assert speeds[1].answer_s == pytest.approx(0.06, rel=0.5)
    assert told[-1] == ("two", 4, 4)


def test_prompts_are_distinct_and_nearly_full():
    engine = Slow(0, 0)
    measure({"one": engine})
    assert len(set(engine.prompts)) == len(engine.prompts) == 8
    assert all(0.95 * PROMPT_TOKENS < len(p.split()) <= PROMPT_TOKENS for p in engine.prompts)


def test_a_short_context_gets_short_prompts():
    engine = Slow(0, 0)
    engine.context_tokens = 300
    measure({"one": engine})
    assert max(len(p.split()) for p in engine.prompts) <= 240


def speed(name):
    return Speed(name, 1.0, 1.0, 1.0, 1.0)


def test_it_is_remembered_for_this_model_and_these_bits(tmp_path):
    remember(tmp_path / "a", 16, [speed("transformers"), speed("openvino")])
    remember(tmp_path / "a", 4, [speed("openvino")])
    assert fastest(tmp_path / "a", 16) == "transformers"
    assert fastest(tmp_path / "a", 4) == "openvino"
    assert fastest(tmp_path / "b", 16) is None


def test_another_version_of_a_package_is_another_machine(tmp_path, monkeypatch):
    remember(tmp_path, 16, [speed("transformers")])
    monkeypatch.setattr(measured.importlib.metadata, "version", lambda name: "99")
    assert fastest(tmp_path, 16) is None


@pytest.mark.parametrize("content", ["", "[]", '{"a": {}}', '{"a": 3}', '{"a": {"engines": []}}'])
def test_a_broken_file_is_as_none(content, cache):
    (cache / "engines.json").write_text(content)
    assert fastest(cache, 16) is None
    remember(cache, 16, [speed("openvino")])
    assert fastest(cache, 16) == "openvino"


def test_auto_takes_what_was_measured(phi, monkeypatch):
    monkeypatch.setattr(serving, "_torch_has_gpu", lambda: False)
    assert serving.engine_name(phi) == "openvino"
    remember(phi, 16, [speed("transformers"), speed("openvino")])
    assert serving.engine_name(phi) == "transformers"
    assert serving.engine_name(phi, "openvino") == "openvino"
    assert serving.engine_name(phi, "auto", 4) == "openvino"
    monkeypatch.setattr(serving, "_has_torch", lambda: False)
    assert serving.engine_name(phi) == "openvino"
    monkeypatch.setattr(serving, "_torch_has_gpu", lambda: True)
    remember(phi, 16, [speed("openvino"), speed("transformers")])
    assert serving.engine_name(phi) == "openvino"


def test_both_engines_are_measured_with_a_real_model(phi):
    engines = serving.engines_here(ModelSettings(name=str(phi)))
    assert set(engines) == {"openvino", "transformers"}
    speeds = measure(engines)
    assert all(s.answer_s >= s.first_token_s > 0 for s in speeds)
