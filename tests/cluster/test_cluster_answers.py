"""`doyen ask|run|compare --on ray`: the engine of a cluster writes what that of this machine writes."""

import json
import shutil

import numpy as np
import pytest
import tiny_models
from crew_workers import KilledAtThird
from small_stores import make_expert, write_files

import doyen
from doyen.answer_cache import adapter_hash
from doyen.cli import main
from doyen.cluster.answering import AdapterAt, AnswerWorker, Loaded, engine_on, require_alike
from doyen.cluster.crew import Crew, Places
from doyen.config import ModelSettings, Settings
from doyen.errors import ClusterError, UsageError
from doyen.models.constraints import Choices
from doyen.models.serving import local_engine

PROMPTS = [[{"role": "user", "content": f"How many days does the barge take to berth {n}?"}] for n in range(9)]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, settings):
    return tiny_models.adapter_folder(tmp_path_factory.mktemp("adapters") / "own", settings.model.name, 1)


@pytest.fixture(scope="module")
def own(settings):
    return local_engine(settings.model)


@pytest.fixture(scope="module")
def engine(ray, settings):
    with engine_on("ray", settings) as found:
        yield found


def texts(completions):
    return [c.text for c in completions]


def test_answers_are_those_of_this_machine(engine, own, adapter):
    done = []
    options = {"max_tokens": 8, "refusal": "not in"}
    found = engine.generate(PROMPTS, progress=done.append, **options)
    here = own.generate(PROMPTS, **options)
    assert texts(found) == texts(here) and sum(done) == len(PROMPTS)
    assert [c.prompt_tokens for c in found] == [c.prompt_tokens for c in here]
    probabilities = [[c.refusal_probability for c in made] for made in (found, here)]
    assert np.allclose(*probabilities, atol=0.02)
    tuned = engine.generate(PROMPTS, adapter=adapter, **options)
    assert texts(tuned) == texts(own.generate(PROMPTS, adapter=adapter, **options)) != texts(found)
    assert engine.identity() == own.identity() and engine.kind == own.kind and engine.workers == 2
    assert engine.resident_gib() > 0


def test_each_prompt_keeps_its_own_constraint(engine):
    choices = [Choices((f"berth {n}", f"lock {n}")) for n in range(len(PROMPTS))]
    found = engine.generate(PROMPTS, max_tokens=12, constraints=choices)
    assert all(c.text in choice.options for c, choice in zip(found, choices, strict=True))
    with pytest.raises(UsageError, match="1 constraints for 9 prompts"):
        engine.generate(PROMPTS, max_tokens=12, constraints=choices[:1])


def test_losses_and_logits_are_those_of_this_machine(engine, own, adapter):
    answers = [f"{n} days" for n in range(len(PROMPTS))]
    assert np.allclose(
        engine.text_losses(answers, PROMPTS, adapter=adapter),
        own.text_losses(answers, PROMPTS, adapter=adapter),
        rtol=0.02,
    )
    apart = np.abs(engine.next_token_logits(PROMPTS[0]) - own.next_token_logits(PROMPTS[0])).max()
    assert apart < 0.1


def test_an_adapter_travels_to_a_machine_that_does_not_see_its_folder(
    engine, adapter, own, settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("DOYEN_CORES", "1")  # a worker sets it
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path / "cache"))
    there, elsewhere = engine._at(adapter), tmp_path / "elsewhere" / "own"

    def placed(parcel):
        return AnswerWorker(1, settings.model)._placed(AdapterAt(elsewhere, there.digest, parcel))

    with pytest.raises(ClusterError, match="does not see .*elsewhere.*too large to be sent") as caught:
        placed([])
    assert "mount" in caught.value.hint
    found = placed(there.parcel)
    assert found not in (adapter, elsewhere) and adapter_hash(found) == there.digest
    assert texts(own.generate(PROMPTS, max_tokens=8, adapter=found)) == texts(
        own.generate(PROMPTS, max_tokens=8, adapter=adapter)
    )
    assert placed([]) == found, "later workers find it"
    shutil.copytree(adapter, elsewhere)
    assert placed(there.parcel) == elsewhere
    for folder in (elsewhere, found):  # with another content, neither is taken for it
        (folder / "adapter_config.json").write_text("{}")
    assert placed(there.parcel) == found and adapter_hash(found) == there.digest


@pytest.mark.slow
def test_a_killed_worker_costs_no_answer(ray, settings, own):
    with Crew(KilledAtThird, (settings.model,), Places(2, 1), ("answer",)) as crew:
        crew.start()
        asked = [crew.submit("answer", "call", "generate", ([p],), None, {"max_tokens": 6}) for p in PROMPTS]
        found = [future.result(timeout=300)[0].text for future in asked]
    assert found == texts(own.generate(PROMPTS, max_tokens=6))


def test_workers_that_answer_otherwise_are_named():
    model = ("config", "weights", "template")
    require_alike([Loaded("a", ("openvino", "bf16", *model))] * 2, model, "phi")
    with pytest.raises(ClusterError, match="worker on b has weights or a chat template of phi") as caught:
        require_alike(
            [
                Loaded("a", ("openvino", "bf16", *model)),
                Loaded("b", ("openvino", "bf16", "config", "others", "template")),
            ],
            model,
            "phi",
        )
    assert "doyen models pull phi" in caught.value.hint
    with pytest.raises(ClusterError, match="b computes with openvino, f32, that on a with openvino, bf16"):
        require_alike(
            [Loaded("a", ("openvino", "bf16", *model)), Loaded("b", ("openvino", "f32", *model))], model, "phi"
        )


def test_a_served_model_is_not_shared_out():
    served = Settings(model=ModelSettings(name="m", engine="server", endpoint="http://127.0.0.1:9/v1"))
    with pytest.raises(UsageError, match="a server answers here"), engine_on("ray", served):
        pass


@pytest.mark.slow
def test_ask_run_and_compare_take_a_cluster(ray, settings, tmp_path, capsys, monkeypatch):
    expert = make_expert(tmp_path / "expert", settings)
    doyen.ingest(
        expert, [write_files(tmp_path / "files", {"leave.md": "# Leave\n\nThe guild grants 27 days of leave.\n"})]
    )
    rows = [{"id": str(n), "question": f"How many days of leave in year {n}?", "split": "test"} for n in range(5)]
    questions = tiny_models.write_jsonl(tmp_path / "q.jsonl", rows)
    flow = """name = "leave"
arm = "base"
[input]
columns = { text = "text" }
[steps.kind]
do = "classify"
instruction = "Many days, or few?"
input = "{text}"
choices = ["many", "few"]
"""
    write_files(tmp_path, {"flow.toml": flow, "rows.csv": "text\n" + "".join(f"{n} days\n" for n in range(5))})

    def answers(name, *on):
        out = tmp_path / name
        for command in (
            ["ask", "--questions", str(questions), "--out", str(out / "answers.jsonl"), "--arm", "rag", "--no-cache"],
            [
                "run",
                str(tmp_path / "flow.toml"),
                str(tmp_path / "rows.csv"),
                "-o",
                str(out / "table.csv"),
                "--arm",
                "base",
            ],
            ["compare", "--questions", str(questions), "--arms", "base,rag", "--out", str(out / "compared")],
        ):
            monkeypatch.setattr("sys.argv", ["doyen", *command, "--expert", str(expert), "--json", *on])
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code, capsys.readouterr().err
            json.loads(capsys.readouterr().out)
        report = json.loads((out / "compared" / "report.json").read_text())
        lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
        written = [(row["id"], row["answer"], row["citations"]) for row in lines]
        return (
            written,
            (out / "table.csv").read_text(),
            report["manifest"]["engine"],
        )

    (tmp_path / "here").mkdir(), (tmp_path / "there").mkdir()
    here, there = answers("here"), answers("there", "--on", "ray")
    assert here == there
