"""Engines that many threads share: the answers are those of each alone, and nobody's end is another's."""

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from doyen.errors import EngineError, TimeLimitError, UsageError
from doyen.models.constraints import Choices, JsonSchema, Regex
from doyen.models.continuous import ContinuousEngine
from doyen.models.openvino_engine import OpenVINOEngine
from doyen.models.shared import InBatches, TicketEngine, shared_engine
from doyen.models.ticket import Ticket
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import REFUSAL, closed_book_messages

QUESTIONS = [f"{what} {n}?" for n in range(4) for what in ("Leave", "When does the Orrel lock open", "Tonnes of crane")]
PROMPTS = [closed_book_messages(q) for q in QUESTIONS]


def engine_of(folder, **options):
    return OpenVINOEngine(folder, precision="f32", **options)


@pytest.fixture
def shared(phi):
    made = ContinuousEngine(engine_of(phi))
    yield made
    made.close()


def answers_of(shared, prompts, **options):
    """Ask each prompt in a thread of its own."""
    with ThreadPoolExecutor(len(prompts)) as pool:
        futures = [pool.submit(shared.generate, [p], Ticket(60), **{"max_tokens": 12} | options) for p in prompts]
        return [f.result()[0] for f in futures]


def test_threads_get_what_each_prompt_alone_gets(shared, phi):
    alone = [engine_of(phi).generate([p], max_tokens=12, refusal=REFUSAL)[0] for p in PROMPTS[:4]]
    alone += engine_of(phi).generate(PROMPTS[4:], max_tokens=12, refusal=REFUSAL)
    found = answers_of(shared, PROMPTS, refusal=REFUSAL)
    assert [c.text for c in found] == [c.text for c in alone]
    assert [c.refusal_probability for c in found] == pytest.approx([c.refusal_probability for c in alone], rel=1e-3)


def test_a_text_that_comes_later_is_not_kept_waiting_for_a_long_one(shared):
    """The short answer of a later caller is there before the long one of an earlier caller."""
    done = []

    def ask(name, tokens):
        shared.generate(
            [PROMPTS[0]], Ticket(60), max_tokens=tokens, constraints=[Regex("[a-z ]{900,}")] if tokens > 20 else ()
        )
        done.append(name)

    long = threading.Thread(target=ask, args=("long", 1000))
    long.start()
    time.sleep(0.1)
    ask("short", 4)
    assert done == ["short"]
    long.join()


def test_pieces_are_the_whole_text(shared, phi):
    pieces = []
    whole = shared.generate([PROMPTS[1]], Ticket(60), max_tokens=20, stream=lambda n, text: pieces.append((n, text)))
    assert "".join(text for _, text in pieces) == whole[0].text and len(pieces) > 1
    assert {n for n, _ in pieces} == {0}


def test_constraints_hold_beside_free_answers(shared):
    schema = JsonSchema({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    kept = [schema, None, Choices(("yes", "no")), Regex("[0-9]{3}")]
    with ThreadPoolExecutor(4) as pool:
        futures = [
            pool.submit(shared.generate, [p], Ticket(60), max_tokens=40, constraints=[c])
            for p, c in zip(PROMPTS[:4], kept, strict=True)
        ]
        found = [f.result()[0] for f in futures]
    assert found[0].text.startswith("{") and found[2].text in ("yes", "no") and found[3].text.isdigit()
    assert len(found[2].choice_probabilities) == 2


def test_cancelling_one_frees_its_place_and_leaves_the_others(shared):
    ticket, seen = Ticket(60), []

    def stop(number, text):
        seen.append(text)
        ticket.cancel()

    with pytest.raises(CancelledError):
        shared.generate([PROMPTS[0]], ticket, max_tokens=500, stream=stop, constraints=[Regex("[a-z]{400,}")])
    assert len("".join(seen)) < 300
    assert answers_of(shared, PROMPTS[:3])[0].text
    lane = shared._lanes[None]
    deadline = time.monotonic() + 5
    while lane.busy and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not lane._work.running and not lane._work.waiting
    pool = lane._network.pool
    assert len(pool._free) + len(pool._idle) == pool.size


def test_the_time_limit_ends_an_answer(shared):
    started = time.monotonic()
    with pytest.raises(TimeLimitError, match="0.2 s"):
        shared.generate([PROMPTS[0]], Ticket(0.2), max_tokens=700, constraints=[Regex("[a-z]{500,}")])
    assert time.monotonic() - started < 3
    with pytest.raises(CancelledError):
        over = Ticket()
        over.cancel()
        shared.generate([PROMPTS[0]], over, max_tokens=5)


def test_adapters_change_places_while_others_write(phi, make_adapter):
    adapters = [make_adapter(phi, seed) for seed in (1, 2, 3)]
    alone = {a: engine_of(phi).generate(PROMPTS[:1], max_tokens=8, adapter=a)[0].text for a in [None, *adapters]}
    assert len(set(alone.values())) == 4
    shared = ContinuousEngine(engine_of(phi), most_adapters=2)
    order = [None, *adapters] * 3
    with ThreadPoolExecutor(len(order)) as pool:
        futures = [pool.submit(shared.generate, PROMPTS[:1], Ticket(60), max_tokens=8, adapter=a) for a in order]
        assert [f.result()[0].text for f in futures] == [alone[a] for a in order]
    assert sum(key is not None for key in shared._lanes) <= 2
    shared.close()


def test_faults_are_the_callers_own(shared, tmp_path):
    with pytest.raises(EngineError, match="there is no adapter"):
        shared.generate([PROMPTS[0]], Ticket(60), max_tokens=5, adapter=tmp_path)
    with pytest.raises(UsageError, match="stands twice"):
        shared.generate([PROMPTS[0]], Ticket(60), max_tokens=5, constraints=[Choices(("a", "a"))])
    with pytest.raises(EngineError, match="tokens"):
        shared.generate([[{"role": "user", "content": "leave " * 3000}]], Ticket(60), max_tokens=5)
    assert shared.generate([PROMPTS[0]], Ticket(60), max_tokens=5)[0].text


def test_a_step_that_fails_is_no_fault_of_who_comes_meanwhile(shared):
    alone = shared.generate([PROMPTS[1]], Ticket(60), max_tokens=5)[0].text
    lane, late = shared._lanes[None], []
    real = lane._decoder.advance
    with ThreadPoolExecutor(1) as pool:

        def fail_once(*arguments):
            if not lane._jobs:
                return real(*arguments)
            lane._decoder.advance = real
            late.append(pool.submit(shared.generate, [PROMPTS[1]], Ticket(30), max_tokens=5))
            while not lane.arrived:
                time.sleep(0.01)
            raise RuntimeError("a step failed")

        lane._decoder.advance = fail_once
        with pytest.raises(RuntimeError, match="a step failed"):
            shared.generate([PROMPTS[0]], Ticket(30), max_tokens=5)
        assert late[0].result()[0].text == alone


def test_a_text_longer_than_the_memory_gets_room(phi):
    shared = ContinuousEngine(engine_of(phi, batch_tokens=32))
    prompts = [[{"role": "user", "content": "leave " * n}] for n in (3, 200, 3)]
    found = answers_of(shared, prompts)
    assert [c.text for c in found] == [engine_of(phi).generate([p], max_tokens=12)[0].text for p in prompts]
    shared.close()


def test_closing_ends_what_is_at_work(phi):
    shared = ContinuousEngine(engine_of(phi))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            shared.generate, [PROMPTS[0]], Ticket(60), max_tokens=700, constraints=[Regex("[a-z]{500,}")]
        )
        while not any(lane._jobs for lane in list(shared._lanes.values())):
            time.sleep(0.01)
        shared.close()
        assert not shared._thread.is_alive()  # no network reads its weights any more
        with pytest.raises(CancelledError):
            future.result(timeout=10)
    with pytest.raises(CancelledError):
        shared.generate([PROMPTS[0]], Ticket(), max_tokens=5)


def test_batches_of_transformers(phi):
    inner = TransformersEngine(phi)
    alone = [c.text for c in inner.generate(PROMPTS[:5], max_tokens=8)]
    shared = shared_engine(inner)
    assert isinstance(shared, InBatches)
    assert [c.text for c in answers_of(shared, PROMPTS[:5], max_tokens=8)] == alone
    with ThreadPoolExecutor(3) as pool:  # one that does not fit is its own caller's fault
        texts = ["leave", "leave " * 3000, "crane"]
        futures = [
            pool.submit(shared.generate, [[{"role": "user", "content": t}]], Ticket(60), max_tokens=8) for t in texts
        ]
        assert futures[0].result() and futures[2].result()
        with pytest.raises(EngineError, match="tokens"):
            futures[1].result()
    shared.close()
    with pytest.raises(CancelledError):
        shared.generate(PROMPTS[:1], Ticket(), max_tokens=8)


def test_an_expert_sees_an_engine(shared):
    from doyen.expert import Expert

    answer = Expert(TicketEngine(shared, Ticket(60))).ask("How many days of leave?")
    assert answer.arm == "base" and answer.completion_tokens
