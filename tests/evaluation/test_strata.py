"""Strata: which questions belong to which, and what the report and the advice say of them."""

from doyen.evaluation.advice import advise
from doyen.evaluation.markdown_report import render_markdown
from doyen.evaluation.report import build_report
from doyen.evaluation.report_page import render_page
from doyen.evaluation.strata import question_strata
from doyen.evaluation.trained_on import CHANGED, IN_TRAINING, UNSEEN, TrainedOn
from doyen.records import ARMS, Answer, GoldSource, Question

TRAINED = TrainedOn(
    versions={"old.md": {"a"}, "moved.md": {"b"}},
    now={"old.md": "a", "moved.md": "c", "new.md": "d"},
    places={("old.md", 1): 5, ("old.md", None): 7, ("moved.md", None): 2},
)


def asked(number, *documents, page=None, **given):
    gold = tuple(GoldSource(document, page) for document in documents)
    return Question(str(number), "Who?", ("Denver",), gold=gold, **given)


def test_what_the_training_saw_of_the_gold_documents():
    seen = [asked(1, "old.md"), asked(2, "moved.md"), asked(3, "new.md"), asked(4), asked(5, "old.md", "new.md")]
    assert [TRAINED.freshness(q) for q in seen] == [IN_TRAINING, CHANGED, UNSEEN, None, UNSEEN]
    assert TRAINED.freshness(asked(6, "moved.md", "new.md")) == CHANGED
    gone = TrainedOn({"gone.md": {"a"}}, {}, {})
    assert gone.freshness(asked(7, "gone.md")) == CHANGED


def test_examples_are_counted_by_page_where_the_gold_has_pages():
    counts = [
        TRAINED.examples(q) for q in (asked(1, "old.md", page=1), asked(2, "old.md"), asked(3, "new.md"), asked(4))
    ]
    assert counts == [5, 7, 0, None]


def test_groups_of_one_stratum_are_left_out_but_freshness_is_told():
    groups = question_strata([asked(1, "old.md"), asked(2, "old.md")], TRAINED)
    assert groups == {"freshness": [IN_TRAINING] * 2, "popularity": ["popular (over 2)"] * 2}
    assert question_strata([asked(1, "old.md")]) == {}


def test_traits_of_questions():
    questions = [
        asked(1, "a.md", tags=("terminology",)),
        asked(2, "a.md", "b.md", language="de"),
        asked(3, former_answers=("Paris",)),
        Question("4", "Who?", answerable=False),
    ]
    groups = question_strata(questions)
    assert groups["sort"] == ["terminology", "synthesis", "facts", None]
    assert groups["passages"] == ["one place", "several places", None, None]
    assert groups["facts"] == ["as before", "as before", "changed", "as before"]
    assert groups["answerable"] == ["yes", "yes", "yes", "no"]
    assert groups["language"] == ["en", "de", "en", "en"]


def report():
    """Forty questions on documents trained on and 20 on new ones; what was trained answers only the first."""
    questions = [asked(i, "old.md" if i < 40 else "new.md") for i in range(57)]
    questions += [asked(i, "moved.md", former_answers=("Paris",)) for i in range(57, 60)]
    right = {"base": 5, "rag": 20, "finetuned": 40, "rag+finetuned": 58}
    answers = {
        arm: [Answer("Denver" if i < right[arm] else "Boston", True, arm, seconds=1.0) for i in range(60)]
        for arm in ARMS
    }
    return build_report(questions=questions, answers=answers, hits=None, manifest={}, seed=1, trained=TRAINED)


def test_strata_have_numbers_scores_and_intervals_of_each_arm():
    fresh = report()["strata"]["freshness"]
    assert list(fresh) == [IN_TRAINING, CHANGED, UNSEEN]
    assert [fresh[name]["n"] for name in fresh] == [40, 3, 17]
    assert [fresh[name]["few"] for name in fresh] == [False, True, False]
    overall = fresh[UNSEEN]["arms"]["rag+finetuned"]["overall"]
    assert (overall["value"], overall["n"]) == (1.0, 17)
    assert (
        fresh[IN_TRAINING]["arms"]["rag"]["overall"]["low"] < 0.5 < fresh[IN_TRAINING]["arms"]["rag"]["overall"]["high"]
    )
    assert fresh[CHANGED]["arms"]["rag"]["stale"]["n"] == 3


def test_the_advice_tells_what_was_measured_of_new_documents_and_not_of_few():
    said = " ".join(advise(report()).reasons)
    assert "On 17 questions about documents that the training did not see" in said
    assert "finetuned 0.0% (0.0 to 0.0), rag+finetuned 100.0%" in said
    assert "that changed since the training" not in said  # three questions
    assert "is not measured" not in said


def test_page_and_markdown_show_the_strata_and_grey_the_small_ones():
    page, text = render_page(report()), render_markdown(report())
    assert "What the training saw of the documents" in page
    assert '<tr class="few"><th scope="row">changed since the training</th><td>3</td>' in page
    assert "| 3 (fewer than 10) |" in text
    assert '"strata"' not in page  # the rows of the page need them not
