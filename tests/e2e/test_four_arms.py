"""The true path at toy size, through the command line, with real weights: documents → examples → adapter → four arms.

The company is invented: the language model cannot know its facts, and each citation must be found in the source.
"""

import json
import sys
from pathlib import Path

import pytest
from tiny_models import write_jsonl

from doyen.records import ARMS

pytestmark = pytest.mark.e2e

TOPICS = {
    "staff/leave.md": (
        "# Leave at Quillmoor Ferries\n\n",
        [
            (
                "Annual leave",
                "Deck crew receive 31 days of annual leave.",
                "How many days of annual leave do deck crew receive?",
                "31 days",
            ),
            (
                "Shore staff",
                "Shore staff receive 26 days of annual leave.",
                "How much annual leave do shore staff receive?",
                "26 days",
            ),
            (
                "Study",
                "Each employee may take 4 days of study leave.",
                "How many days of study leave may an employee take?",
                "4 days",
            ),
            ("Carry over", "Unused leave expires on 15 May.", "When does unused leave expire?", "15 May"),
            ("Approval", "Leave is approved by the rota desk.", "Who approves leave?", "the rota desk"),
        ],
    ),
    "fleet/vessels.md": (
        "# The fleet of Quillmoor Ferries\n\n",
        [
            (
                "Brindle Star",
                "The Brindle Star carries 412 passengers.",
                "How many passengers does the Brindle Star carry?",
                "412 passengers",
            ),
            (
                "Osprey Vane",
                "The Osprey Vane has a top speed of 23 knots.",
                "What is the top speed of the Osprey Vane?",
                "23 knots",
            ),
            ("Tallow Queen", "The Tallow Queen was built in 1987.", "When was the Tallow Queen built?", "1987"),
            ("Marlpit", "The Marlpit is moored at Pier 6.", "Where is the Marlpit moored?", "Pier 6"),
            ("Engines", "The Brindle Star burns methanol.", "What fuel does the Brindle Star burn?", "methanol"),
        ],
    ),
    "tickets.txt": (
        "Fares of Quillmoor Ferries\n\n",
        [
            ("", "A day ticket costs 18 florins.", "What does a day ticket cost?", "18 florins"),
            ("", "A bicycle costs 3 florins extra.", "How much extra does a bicycle cost?", "3 florins"),
            ("", "Children under 7 travel free.", "Under which age do children travel free?", "7"),
            ("", "Refunds are paid within 9 days.", "Within how many days are refunds paid?", "9 days"),
            ("", "Season tickets are sold at the Harl kiosk.", "Where are season tickets sold?", "the Harl kiosk"),
        ],
    ),
    "safety.txt": (
        "Safety rules of Quillmoor Ferries\n\n",
        [
            (
                "",
                "Lifeboat drills take place every 14 days.",
                "How often do lifeboat drills take place?",
                "every 14 days",
            ),
            ("", "The muster station is on deck 3.", "On which deck is the muster station?", "deck 3"),
            ("", "The safety officer is Imke Dorran.", "Who is the safety officer?", "Imke Dorran"),
            ("", "Fire hoses are tested each October.", "In which month are fire hoses tested?", "October"),
            ("", "Sailing stops at wind force 9.", "At which wind force does sailing stop?", "wind force 9"),
        ],
    ),
    "harbour.md": (
        "# Harbour of Quillmoor\n\n",
        [
            ("Lights", "The harbour light flashes green.", "Which colour does the harbour light flash?", "green"),
            ("Depth", "The channel is 8 metres deep.", "How deep is the channel?", "8 metres"),
            (
                "Radio",
                "The harbour listens on channel 67.",
                "On which radio channel does the harbour listen?",
                "channel 67",
            ),
            ("Master", "The harbour master is Toller Finch.", "Who is the harbour master?", "Toller Finch"),
            ("Closing", "The gate closes at 21:40.", "When does the gate close?", "21:40"),
        ],
    ),
}
HELD_OUT = "harbour.md"


def document_text(name):
    heading, facts = TOPICS[name]
    return heading + "\n\n".join(f"## {section}\n\n{fact}" if section else fact for section, fact, _, _ in facts) + "\n"


def question_rows():
    rows = []
    for name, (_, facts) in TOPICS.items():
        split = "test" if name == HELD_OUT else "train"
        for i, (_, _, question, answer) in enumerate(facts):
            row = {"id": f"{name}-{i}", "question": question, "answers": [answer], "kind": "span", "split": split}
            rows.append(row | {"gold": [{"document": name}]})
    return rows


@pytest.fixture(scope="module")
def doyen_command(tmp_path_factory):
    """Run a command of `doyen` in this process, as the console script does; return its JSON."""
    import contextlib
    import io

    from doyen.cli import main

    def run(*arguments, code=0):
        out, before = io.StringIO(), sys.argv
        sys.argv = ["doyen", *map(str, arguments), "--json"]
        try:
            with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as done:
                main()
        finally:
            sys.argv = before
        assert (done.value.code or 0) == code, out.getvalue()
        return json.loads(out.getvalue()) if code == 0 else None

    return run


@pytest.fixture(scope="module")
def expert(doyen_command, tmp_path_factory):
    """An ingested, fine-tuned expert."""
    from doyen.models.catalogue import find_entry
    from doyen.models.fetching import pull

    for name in ("smollm2-135m-instruct", "all-minilm-l6-v2"):
        pull(find_entry(name))
    root = tmp_path_factory.mktemp("quillmoor")
    for name in TOPICS:
        path = root / "documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document_text(name), encoding="utf-8")
    folder = root / "expert"
    doyen_command("init", folder)
    toml = "[chunking]\nmax_tokens = 48\n[model]\nmax_answer_tokens = 12\n[answer]\npassages = 2\n"
    toml += "[finetune]\nbatch_size = 4\nepochs = 1.0\nvalidation_share = 0.0\n[examples]\nclosed_book_share = 0.3\n"
    (folder / "doyen.toml").write_text(toml)
    ingested = doyen_command("ingest", root / "documents", "--expert", folder)
    assert (ingested["new"], ingested["failed"]) == (len(TOPICS), 0)
    imported = doyen_command(
        "examples", "import", write_jsonl(root / "questions.jsonl", question_rows()), "--expert", folder
    )
    assert (imported["questions"], imported["test_questions"]) == (25, 5)
    built = doyen_command("examples", "build", "--expert", folder)
    assert built["variants"]["passages"] == 20
    adapter = doyen_command("finetune", "--name", "first", "--expert", folder)
    assert 6 <= adapter["steps"] <= 12 and adapter["gates"]["effect"]["largest_logit_difference"] > 0.1
    return folder


def source_text(expert, document):
    """Return the extracted text by the command, which must be the source itself: these documents are plain text."""
    text = (expert.parent / "documents" / document).read_text(encoding="utf-8")
    from doyen.config import load_settings
    from doyen.ingesting import open_index

    assert open_index(expert, load_settings(expert)).text(document)[0].strip() == text.strip()
    return open_index(expert, load_settings(expert)).text(document)[0]


def check_answer(answer, arm, expert):
    assert answer["arm"] == arm and isinstance(answer["answered"], bool) and answer["answer"]
    assert not answer["citations"] or (answer["answered"] and "rag" in arm)
    if arm == "rag+finetuned" and answer["answered"]:  # the untuned model's answer may stand nowhere
        assert answer["citations"]
    for citation in answer["citations"]:
        text = source_text(expert, citation["document"])
        assert text[citation["start"] : citation["end"]] == citation["quote"]
        assert 0 < len(citation["quote"]) <= 300


def test_training_brought_the_loss_down(expert):
    history = (expert / "adapters" / "first" / "history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in history]
    half = len(losses) // 2  # a batch of four examples says little by itself
    assert sum(losses[-half:]) < 0.9 * sum(losses[:half])


@pytest.mark.parametrize("arm", ARMS)
def test_each_arm_answers_a_file_and_every_quote_is_in_its_source(arm, expert, doyen_command, tmp_path):
    asked = write_jsonl(tmp_path / "q.jsonl", [row for row in question_rows() if row["split"] == "test"])
    done = doyen_command("ask", "--questions", asked, "--out", tmp_path / "out.jsonl", "--arm", arm, "--expert", expert)
    assert (done["questions"], done["arm"]) == (5, arm)
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [a["id"] for a in answers] == [f"{HELD_OUT}-{i}" for i in range(5)]
    for answer in answers:
        check_answer(answer, arm, expert)
    if arm == "rag+finetuned":
        expected = [answer for _, _, _, answer in TOPICS[HELD_OUT][1]]
        right = sum(e in a["answer"] for e, a in zip(expected, answers, strict=True))
        assert right >= 2, [a["answer"] for a in answers]  # passages hold every answer; chance is nought


def test_search_finds_the_document_of_each_question(expert, doyen_command):
    for row in (r for r in question_rows() if r["split"] == "test"):
        hits = doyen_command("search", row["question"], "-k", "3", "--expert", expert)
        hits = hits["hits"] if isinstance(hits, dict) else hits
        assert HELD_OUT in {h["document"] for h in hits}
        for hit in hits:
            assert source_text(expert, hit["document"])[hit["start"] : hit["end"]] == hit["text"]


def test_a_question_about_nothing_indexed_gives_a_valid_answer(expert, doyen_command):
    weak = doyen_command("ask", "Zygmorph quintessence?", "--arm", "rag", "--expert", expert)
    check_answer(weak, "rag", expert)
    (expert / "doyen.toml").write_text(
        (expert / "doyen.toml").read_text().replace("passages = 2\n", "passages = 2\nmin_similarity = 0.9\n")
    )
    try:
        none = doyen_command("ask", "Zygmorph quintessence?", "--arm", "rag", "--expert", expert)
    finally:
        (expert / "doyen.toml").write_text((expert / "doyen.toml").read_text().replace("min_similarity = 0.9\n", ""))
    assert (none["answered"], none["citations"], none["completion_tokens"]) == (False, [], 0)


def test_the_adapter_changes_answers(expert):
    import doyen

    arms = {arm: doyen.Expert.open(expert, arm=arm) for arm in ("rag", "rag+finetuned")}
    question = TOPICS[HELD_OUT][1][0][2]
    texts = {arm: one.ask_many([question, "Who approves leave?"]) for arm, one in arms.items()}
    assert [a.text for a in texts["rag"]] != [a.text for a in texts["rag+finetuned"]]
    assert texts["rag"][0].prompt_tokens == texts["rag+finetuned"][0].prompt_tokens
    assert texts["rag"][0].refusal_probability != texts["rag+finetuned"][0].refusal_probability


def test_compare_writes_the_report_of_four_arms(expert, doyen_command):
    report = doyen_command("compare", "--limit", "2", "--expert", expert)
    assert list(report["arms"]) == list(ARMS)
    folder = Path(report["folder"])
    assert (folder / "report.html").stat().st_size > 1000
    saved = json.loads((folder / "report.json").read_text())
    assert len(saved["rows"]) == 2 and saved["advice"]["arm"] in ARMS
    for arm in ARMS:
        for line in (folder / f"answers.{arm}.jsonl").read_text().splitlines():
            check_answer(json.loads(line), arm, expert)
    advice = doyen_command("advise", "--expert", expert)
    assert advice["arm"] == report["advice"]["arm"]
    status = doyen_command("status", "--expert", expert)
    assert status["documents"] == 5 and [a["name"] for a in status["adapters"]] == ["first"]
    assert status["adapters"][0]["stale_documents"] == []


def test_an_unknown_arm_is_a_usage_error(expert, doyen_command):
    doyen_command("ask", "Who approves leave?", "--arm", "oracle", "--expert", expert, code=2)
