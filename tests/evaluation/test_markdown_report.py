"""report.md read back by a Markdown parser: nothing that a model or a document wrote becomes markup."""

import pytest
from markdown_it import MarkdownIt

from doyen.evaluation.markdown_report import escaped, points, render_markdown, write_markdown
from doyen.evaluation.report import build_report
from doyen.evaluation.report_text import flat
from doyen.records import ARMS, Answer, GoldSource, Question

HOSTILE = (
    "| <b>x</b> </table><script>alert(1)</script> [l](u) ![i](u) `c` *e* __s__ # h\n\n# head\n\n- li $x$ @me \\| ~~d~~"
)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def make(n=6, answered=True, arms=ARMS, **question):
    questions = [
        Question(f"q|{i}", HOSTILE, **({"answers": ("27 days",), "gold": (GoldSource("a.md"),)} | question))
        for i in range(n)
    ]
    texts = {arm: "27 days" if "rag" in arm else HOSTILE for arm in arms}
    answers = {
        arm: [Answer(texts[arm], answered, arm, refusal_probability=0.2, seconds=1.5) for _ in questions]
        for arm in arms
    }
    manifest = {"model": HOSTILE, "settings": {"answer": {"passages": 3}}, "cost_usd": {"rag": 0.25}}
    return build_report(questions=questions, answers=answers, hits=None, manifest=manifest, seed=1)


def parts(text):
    """Return the kinds of markup in a text, and the cells of each of its table rows."""
    tokens = MARKDOWN.parse(text)
    kinds = {t.type for t in tokens} | {c.type for t in tokens for c in t.children or ()}
    rows, cells = [], 0
    for token in tokens:
        cells = 0 if token.type == "tr_open" else cells + (token.type in ("td_open", "th_open"))
        rows += [cells] if token.type == "tr_close" else []
    return kinds, rows


def shown(text):
    """Return a line of Markdown as a reader sees it."""
    tokens = MARKDOWN.parseInline(text)[0].children
    return "".join(t.content for t in tokens)


@pytest.mark.parametrize(
    "text", [HOSTILE, "a|b", "1. one", "0.25", "---", "- x", "+ y", "== z", "<img src=x onerror=y>", "&lt;", "a_b_c\\"]
)
def test_escaped_text_is_shown_as_it_is(text):
    line = escaped(text)
    assert "\n" not in line and "|" not in line
    assert shown(line) == " ".join(text.split())
    assert {t.type for t in MARKDOWN.parse(line)} == {"paragraph_open", "inline", "paragraph_close"}


def test_hostile_answers_are_text_and_tables_stay_whole():
    text = render_markdown(make(arms=("base", "finetuned")))
    kinds, rows = parts(text)
    assert not kinds & {"html_block", "html_inline", "image", "link_open", "code_inline", "em_open", "s_open", "fence"}
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    assert rows == [line.count(" | ") + 1 for line in lines] and len(rows) > 15


def test_what_the_page_says():
    text = render_markdown(make(n=12))
    assert text.startswith("# Use rag: the model reading your documents\n")
    assert "| **rag** | 100.0% (100.0 to 100.0) |" in text
    assert "rag minus base | **+100.0** (+100.0 to +100.0), p " in text
    assert "| settings.answer.passages | 3 |" in text and "| bootstrap.seed | 1 |" in text
    assert "## By kind of question" in text and "| span | 12 |" in text
    assert "| US$ |" in text and "| 0.2500 |" in text
    assert "did not get right" not in text


def test_misses_of_the_chosen_arm_are_listed_and_cut():
    text = render_markdown(make(n=25, arms=("base",)))
    assert "## What base did not get right (25 questions)" in text
    assert "5 more are in report.html." in text and text.count("| q&#124;") == 20
    assert max(map(len, text.splitlines())) < 1600


@pytest.mark.parametrize(
    "given", [{"n": 1}, {"n": 0}, {"answers": ()}, {"answered": False}, {"answerable": False}, {"arms": ()}]
)
def test_little_or_nothing_measured_still_makes_a_page(given, tmp_path):
    report = make(**given)
    write_markdown(report, tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text.startswith("# Use ") and "## Settings and versions" in text
    assert ("advice and not a measurement" in text) is not report["advice"]["measured"]
    if given == {"answered": False}:
        assert "| 0.0% (0.0 to 0.0) | 0.0% (0.0 to 0.0) | 100.0% (100.0 to 100.0) | – |" in text


def test_a_report_of_an_earlier_version_has_no_shares():
    report = make()
    for arm in report["arms"].values():
        del arm["shares"], arm["risk_coverage"]
    assert "| – | – | – | – |" in render_markdown(report)


def test_flat_settings():
    assert list(flat({"a": {"b": 1, "c": {}}, "d": [2]})) == [("a.b", 1), ("a.c", {}), ("d", [2])]


def test_a_corrected_test_decides_what_is_bold():
    row = {"value": 0.1, "low": 0.01, "high": 0.19, "n": 40, "p": 0.04, "p_holm": 0.0001, "beats": None}
    assert points(row) == "+10.0 (+1.0 to +19.0), p &lt; 0.001"
    assert points(row | {"beats": "rag"}).startswith("**+10.0**")
