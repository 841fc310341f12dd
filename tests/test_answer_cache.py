"""Cached answers: the same only for the same, bounded, and gone with the documents."""

import json
import os
import subprocess
import sys

import pytest
from small_stores import HashEmbedder, make_expert, write_files

from doyen.answer_cache import FILE_NAME, AnswerCache, CachedEngine, forget_answers
from doyen.erasing import remove_documents
from doyen.ingesting import ingest
from doyen.models.constraints import Choices, Regex
from doyen.models.engine import Completion


class CountingEngine:
    """A documented fake: repeats the last message, counts what it was asked, and is who it is told to be."""

    name, kind, context_tokens = "counting", "fake", 4096

    def __init__(self, who="a"):
        self.who, self.asked = who, []

    def identity(self):
        return [self.kind, self.who]

    def generate(self, prompts, *, stream=None, progress=None, **options):
        self.asked += [(p[-1]["content"], options) for p in prompts]
        for i, prompt in enumerate(prompts):
            if stream:
                stream(i, prompt[-1]["content"])
        return [Completion(p[-1]["content"], 10, 2, 1.5, 0.25, -0.5, (0.75, 0.25)) for p in prompts]

    def count_tokens(self, messages):
        return 10

    def template_hash(self):
        return "t"

    next_token_logits = text_losses = None


def prompt(text):
    return [{"role": "user", "content": text}]


@pytest.fixture
def engine():
    return CountingEngine()


@pytest.fixture
def cached(engine, tmp_path):
    return CachedEngine(engine, AnswerCache(tmp_path, 1))


def test_the_second_answer_is_the_first_and_marked_with_the_seconds_of_then(cached, engine):
    first, second = (cached.generate([prompt("a")], max_tokens=9)[0] for _ in range(2))
    assert len(engine.asked) == 1
    assert not first.cached and second.cached
    assert (second.text, second.seconds, second.choice_probabilities, second.log_probability) == (
        "a",
        1.5,
        (0.75, 0.25),
        -0.5,
    )


def test_only_what_is_missing_is_asked_and_all_come_in_order_and_are_streamed(cached, engine):
    cached.generate([prompt("b")], max_tokens=9)
    pieces, steps = [], []
    found = cached.generate(
        [prompt(t) for t in "abc"], max_tokens=9, stream=lambda i, t: pieces.append((i, t)), progress=steps.append
    )
    assert [c.text for c in found] == ["a", "b", "c"] and [c.cached for c in found] == [False, True, False]
    assert sorted(pieces) == [(0, "a"), (1, "b"), (2, "c")]
    assert [text for text, _ in engine.asked] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": 8}, {"refusal": "No."}, {"may_refuse": False}, {"constraints": [Regex("a")]},
        {"constraints": [Choices(("a", "b"))]}, {"adapter": "one"}, {"adapter": "two"},
    ],
)  # fmt: skip
def test_whatever_decides_the_answer_is_part_of_the_key(cached, engine, tmp_path, change):
    for name in ("one", "two"):
        write_files(tmp_path / name, {"adapter_config.json": "{}", "adapter_model.safetensors": _safetensors(name)})
    if "adapter" in change:
        change = {"adapter": tmp_path / change["adapter"]}
    cached.generate([prompt("a")], **{"max_tokens": 9})
    cached.generate([prompt("a")], **{"max_tokens": 9, "adapter": tmp_path / "one"}) if change.get(
        "adapter"
    ) == tmp_path / "two" else None
    assert not cached.generate([prompt("a")], **{"max_tokens": 9} | change)[0].cached
    assert cached.generate([prompt("a")], **{"max_tokens": 9} | change)[0].cached


def _safetensors(name):
    header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * 4


def test_another_model_has_other_answers(cached, tmp_path):
    cached.generate([prompt("a")], max_tokens=9)
    other = CachedEngine(CountingEngine("b"), AnswerCache(tmp_path, 1))
    assert not other.generate([prompt("a")], max_tokens=9)[0].cached


def test_the_longest_unused_go_when_there_is_no_room(cached, tmp_path):
    big = [prompt(f"{i}" * 200_000) for i in range(1, 9)]
    for p in big[:4]:
        cached.generate([p], max_tokens=9)
    cached.generate([big[0]], max_tokens=9)  # used again
    for p in big[4:6]:
        cached.generate([p], max_tokens=9)
    found = [cached.generate([p], max_tokens=9)[0].cached for p in (big[0], big[5])]
    assert found == [True, True]
    assert not cached.generate([big[1]], max_tokens=9)[0].cached
    assert (tmp_path / FILE_NAME).stat().st_size < 3 << 20


@pytest.mark.parametrize("content", [b"not a database" * 100, b""])
def test_a_broken_file_is_no_reason_not_to_answer(cached, engine, tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    assert [cached.generate([prompt("a")], max_tokens=9)[0].text for _ in range(2)] == ["a", "a"]


@pytest.mark.skipif(os.name == "nt", reason="folders without write permission")
def test_a_folder_that_cannot_be_written_keeps_nothing(engine, tmp_path):
    cached = CachedEngine(engine, AnswerCache(tmp_path / "missing", 1))
    assert [cached.generate([prompt("a")], max_tokens=9)[0].cached for _ in range(2)] == [False, False]


def test_several_processes_share_it(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_answer_cache import *\n"
        "from pathlib import Path\n"
        "c = CachedEngine(CountingEngine(), AnswerCache(Path(sys.argv[1]), 4))\n"
        "for i in range(60): c.generate([prompt(str(i))], max_tokens=9)\n"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path), os.path.dirname(__file__)]
    running = [subprocess.Popen(arguments) for _ in range(3)]
    assert [p.wait(120) for p in running] == [0, 0, 0]
    cached = CachedEngine(CountingEngine(), AnswerCache(tmp_path, 4))
    assert all(c.cached for c in cached.generate([prompt(str(i)) for i in range(60)], max_tokens=9))


def test_an_answer_made_while_documents_go_is_not_kept(cached, engine, tmp_path):
    cached.generate([prompt("b")], max_tokens=9)
    cached.generate([prompt("a")], max_tokens=9, stream=lambda i, t: forget_answers(tmp_path))
    assert not cached.generate([prompt("a")], max_tokens=9)[0].cached


def test_removed_and_changed_documents_take_the_answers_with_them(tmp_path):
    expert, embedder = make_expert(tmp_path / "expert"), HashEmbedder()
    source = write_files(tmp_path / "source", {"a.txt": "The code is quillmoor.", "b.txt": "Other."})
    ingest(expert, [source], embedder=embedder)
    cached = CachedEngine(CountingEngine(), AnswerCache(expert, 1))

    def kept():
        cached.generate([prompt("quillmoor")], max_tokens=9)
        return b"quillmoor" in (expert / FILE_NAME).read_bytes()

    assert kept()
    ingest(expert, [source], embedder=embedder)
    assert (expert / FILE_NAME).exists()  # nothing changed
    write_files(source, {"b.txt": "Another."})
    ingest(expert, [source], embedder=embedder)
    assert not (expert / FILE_NAME).exists()
    assert kept()
    remove_documents(expert, ["a.txt"])
    assert not (expert / FILE_NAME).exists()
