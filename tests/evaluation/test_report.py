import json
import re
from html.parser import HTMLParser

import pytest

from doyen.evaluation.report import build_report, write_report
from doyen.evaluation.report_page import HTML_BYTES, render_page
from doyen.records import ARMS, Answer, Chunk, Citation, GoldSource, Hit, Question

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)> {{chart}} & <!--'


def make_report(n=40, words=4, arms=ARMS):
    questions = [
        Question(
            f"q{i}",
            HOSTILE if i == 0 else f"Question {i}?",
            ("Denver",),
            ("span", "yesno")[i % 2],
            (GoldSource("a.pdf", 3),) if i % 4 else (),
            answerable=bool(i % 4),
            tags=(HOSTILE,) if i < 3 else ("policy",),
        )
        for i in range(n)
    ]
    quote = (HOSTILE + " quote" * 60)[:300]
    answers = {
        arm: [
            Answer(
                f"{HOSTILE} Denver " + "word " * words,
                i % 5 > 0,
                arm,
                (Citation("a.pdf", 3, None, 0, 300, quote, attributed=i % 2 == 0),) * 5 if "rag" in arm else (),
                seconds=0.5,
                prompt_tokens=9,
            )
            for i in range(n)
        ]
        for arm in arms
    }
    hits = [[Hit(Chunk("a.pdf", 0, 1, "x", pages=(3,)), 1.0)] for _ in questions]
    manifest = {"model": HOSTILE, "versions": {"doyen": "0.1.0"}, "arms": list(arms)}
    return build_report(questions=questions, answers=answers, hits=hits, manifest=manifest, seed=3)


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found, self.rows, self.inside = [], "", False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag == "script" and dict(attrs).get("id") == "rows"

    def handle_data(self, data):
        if self.inside:
            self.rows += data

    def handle_endtag(self, tag):
        self.inside = False


def test_schema_and_json():
    report = make_report()
    assert report == json.loads(json.dumps(report))
    assert set(report) == {
        *("format", "manifest", "seed", "resamples", "questions", "arms", "differences"),
        *("retrieval", "methods", "cost", "strata", "origin", "curve", "advice", "rows"),
    }
    assert report["questions"]["total"] == 40
    assert report["questions"]["unanswerable"] == 10
    assert list(report["arms"]) == list(ARMS)
    assert set(report["arms"]["rag"]["by_kind"]) == {"span", "yesno"}
    assert report["arms"]["rag"]["by_tag"]["policy"]["overall"]["n"] == 37
    assert len(report["differences"]) == 6
    assert set(report["differences"][0]["metrics"]["overall"]) == {
        *("value", "low", "high", "n", "p_value", "p_holm", "beats", "spread", "detectable", "more_questions")
    }
    assert report["retrieval"]["hit@1"]["value"] == 1
    row = report["rows"][1]["arms"]["rag"]
    assert row["citations"][0]["document"] == "a.pdf"
    assert row["scores"]["gold_total"] == 1


def test_same_input_same_report():
    assert make_report() == make_report()


def test_a_missing_answer_is_refused():
    with pytest.raises(ValueError, match="got 0 for 1"):
        build_report(questions=[Question("1", "?")], answers={"rag": []}, hits=None, manifest={}, seed=0)


def test_answers_cannot_add_markup():
    page = render_page(make_report())
    elements = Elements(page)
    scripts = [attrs for tag, attrs in elements.found if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "rows"}, {}]
    assert "img" not in [tag for tag, _ in elements.found]
    rows = json.loads(elements.rows)
    assert rows[0]["question"] == HOSTILE
    assert rows[0]["arms"]["rag"]["answer"].startswith(HOSTILE)
    assert page.count("<svg") == 2  # scores and shares: the {{chart}} inside an answer is text, not a place to fill
    assert "innerHTML" not in page and "insertAdjacentHTML" not in page and "document.write" not in page


def test_page_loads_nothing_and_is_accessible():
    page = render_page(make_report())
    elements = Elements(page)
    assert not [attrs for _, attrs in elements.found if {"src", "href"} & set(attrs)]
    assert not re.search(r"@import|url\(|https?://", page)
    tags = [tag for tag, _ in elements.found]
    assert tags.count("h1") == 1
    assert tags.count("caption") == tags.count("table") >= 6
    svg = next(attrs for tag, attrs in elements.found if tag == "svg")
    assert svg["role"] == "img" and "95% interval" in svg["aria-label"]
    assert "{{" not in page.replace("{{chart}}", "")


def test_page_names_the_choice():
    report = make_report()
    page = render_page(report)
    assert f"Use <em>{report['advice']['arm']}</em>" in page
    (label,) = re.findall(r"<text[^>]*>([^<]*) ◂<tspan class=\"use\"> use this</tspan></text>", page)
    assert label == report["advice"]["arm"]


def test_a_large_comparison_stays_small():
    page = render_page(make_report(n=500, words=300))
    assert len(page.encode()) <= HTML_BYTES
    assert len(json.loads(Elements(page).rows)) == 500


def test_short_answers_are_not_cut():
    report = make_report()
    rows = json.loads(Elements(render_page(report)).rows)
    for shown, row in zip(rows, report["rows"], strict=True):
        assert shown["arms"]["rag"]["answer"] == row["arms"]["rag"]["answer"]
        assert shown["arms"]["rag"]["citations"][0]["quote"] == row["arms"]["rag"]["citations"][0]["quote"]


def test_files_are_written_whole(tmp_path):
    folder = tmp_path / "comparisons" / "one"
    report = make_report(n=8, arms=("base", "rag"))
    write_report(report, folder)
    write_report(report, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    assert json.loads((folder / "report.json").read_text("utf-8")) == report


def test_a_failed_write_leaves_the_old_report(tmp_path):
    report = make_report(n=4, arms=("rag",))
    write_report(report, tmp_path)
    before = (tmp_path / "report.json").read_bytes()
    with pytest.raises(TypeError):
        write_report({**report, "manifest": object()}, tmp_path)
    with pytest.raises(UnicodeEncodeError):
        write_report({**report, "manifest": {"model": "\ud800"}}, tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("arms", [("rag",), ("base", "rag+finetuned"), ()])
def test_any_arms_make_a_page(arms):
    assert "<h1>" in render_page(make_report(n=3, arms=arms))


def test_no_questions_make_a_page():
    empty = build_report(questions=[], answers={"rag": []}, hits=[], manifest={}, seed=0)
    assert empty["advice"]["measured"] is False
    assert "<h1>" in render_page(empty)
