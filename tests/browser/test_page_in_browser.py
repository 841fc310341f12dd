"""The page in a real browser: from a file to a highlighted page, keys, faults of the server, texts that would be code."""

import io
import json
import re
import time

import numpy as np
import pytest
from pages_tried import PAYLOADS, SENTENCE, handbook

from doyen.documents.pdf_view import HIGHLIGHT, find_boxes
from doyen.examples.feedback import feedback_questions
from doyen.serving.keys import add_key

pytestmark = pytest.mark.slow
QUESTION = "How many days of annual leave does the guild grant?"
LEAVE = {"leave.md": f"# Leave\n\n{SENTENCE}\n"}


def grants(body):
    return f"{SENTENCE} [1]"


def ask(page, question=QUESTION):
    page.goto(page.url.split("#")[0] + "#ask")
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector(".answer")
    page.wait_for_selector(".answer[aria-busy=true]", state="detached")


@pytest.mark.parametrize("width", [1440, 390])
def test_from_a_file_to_the_highlighted_page(serve_scripted, open_page, width):
    served = serve_scripted({}, grants)
    page = open_page(served, width)
    page.wait_for_selector(".empty >> text=No document is indexed yet")
    page.click("nav >> text=Library")
    files = [("handbook.pdf", "application/pdf", handbook()), ("broken.pdf", "application/pdf", b"%PDF-1.4 nothing")]
    page.set_input_files("#files", [{"name": n, "mimeType": m, "buffer": b} for n, m, b in files])
    page.wait_for_selector(".job.done")
    assert "broken.pdf" in page.inner_text(".job .reasons dt") and "PDF" in page.inner_text(".job .reasons dd")
    page.wait_for_selector(".documents >> text=uploads/handbook.pdf")
    page.click("nav >> text=Ask")
    ask(page)
    assert page.inner_text(".answer .text") == SENTENCE
    page.click(".citation")
    image = page.wait_for_selector("#page-image")
    page.wait_for_timeout(500)
    [expected] = find_boxes(handbook(), 2, [SENTENCE])
    boxes = json.loads(image.get_attribute("data-boxes"))
    assert boxes == [[pytest.approx(v, abs=1e-4) for v in (b.left, b.top, b.right, b.bottom)] for b in expected]
    assert "page 2" in page.inner_text("#source-place") and "highlighted" in image.get_attribute("alt")
    where, seen = image.bounding_box(), pixels(page.screenshot())
    inside, outside = shares(seen, where, boxes[0])
    assert inside > 0.35 and outside < 0.01
    page.keyboard.press("Escape")
    assert not page.is_visible("#source-dialog") and page.evaluate("document.activeElement.className") == "citation"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("nav >> text=Library")
    page.click("[aria-label='Delete uploads/handbook.pdf']")
    page.keyboard.press("Escape")
    assert page.is_visible(".documents >> text=uploads/handbook.pdf")
    page.click("[aria-label='Delete uploads/handbook.pdf']")
    page.click("#confirm-yes")
    page.wait_for_selector("#documents .empty")
    assert not page.faults


def pixels(png):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def shares(seen, where, box):
    """Return which share of a box, and of the lines' place below it, has the highlight's colour."""
    left, right = (round(where["x"] + where["width"] * v) for v in (box[0], box[2]))
    top, bottom = (round(where["y"] + where["height"] * v) for v in (box[1], box[3]))
    assert 0 <= top < bottom <= seen.shape[0], "the highlight is not in sight"
    marked = (abs(seen.astype(int) - HIGHLIGHT) < 12).all(axis=-1)
    high = bottom - top
    return marked[top:bottom, left:right].mean(), marked[bottom + high // 2 : bottom + 2 * high, left:right].mean()


def test_texts_and_rows_are_marked(serve_scripted, open_page):
    rows = "item,price\n" + "".join(f"boat {i},{i}00\n" for i in range(1, 9))
    served = serve_scripted(LEAVE | {"prices.csv": rows}, grants)
    page = open_page(served)
    ask(page)
    page.click(".citation")
    page.wait_for_selector("#source-body mark")
    assert page.inner_text("#source-body mark") == SENTENCE
    page.keyboard.press("Escape")
    page.goto(served.url + "/#search/boat 3 price")
    page.click(".hits .where >> text=prices.csv")
    page.wait_for_selector("#source-body tr.cited")
    assert page.locator("#source-body thead th").all_inner_texts() == ["item", "price"]
    assert "300" in page.inner_text("#source-body tbody")


def test_two_arms_keys_and_sessions(serve_scripted, open_page):
    served = serve_scripted(LEAVE, grants)
    page = open_page(served)
    page.wait_for_selector("#other-arm")
    page.select_option("#other-arm", "doyen/base")
    page.focus("#question")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    assert page.input_value("#question") == "one\n"
    page.keyboard.press("Escape")
    assert page.input_value("#question") == ""
    ask(page)
    assert page.locator(".answers.two .answer").count() == 2
    assert page.locator(".answer .by").all_inner_texts() == ["Retrieval", "Model alone"]
    assert len(served.client.get("/api/sessions").json()["sessions"]) == 2
    page.wait_for_selector("#said >> text=27 days")
    page.reload()
    page.click("text=Earlier conversations")
    sessions = served.client.get("/api/sessions").json()["sessions"]  # the last used first: either arm may have been
    arms = [served.client.get(f"/api/sessions/{s['id']}").json()["turns"][0]["answer"]["arm"] for s in sessions]
    page.locator("#earlier-list button.link:not(.danger)").nth(arms.index("rag")).click()
    page.wait_for_selector(".turn .citation")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.keyboard.press("Tab")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "view" and page.evaluate("location.hash") != "#view"


def test_what_a_comparison_advises_is_offered(serve_scripted, open_page):
    served = serve_scripted(LEAVE, grants)
    folder = served.expert / "comparisons" / "first"
    folder.mkdir(parents=True)
    report = {"manifest": {"created": "2026-11-02T10:00:00+00:00"}, "rows": [], "arms": {}, "advice": {"arm": "base"}}
    (folder / "report.json").write_text(json.dumps(report))
    page = open_page(served)
    assert "advises Model alone, the default is Retrieval" in page.inner_text(".advice")
    assert page.get_attribute(".advice a", "href") == "#comparisons/first"
    page.click(".advice button")
    assert page.input_value("#arm") == "doyen/base" and not page.locator(".advice").count()
    ask(page)
    assert page.get_attribute(".answer", "aria-label") == "Answer by Model alone"
    assert not page.faults


def test_escape_stops_an_answer(serve_scripted, open_page):
    served = serve_scripted(LEAVE, lambda body: time.sleep(4) or SENTENCE)
    page = open_page(served)
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.wait_for_selector(".answer[aria-busy=true]")
    page.press("#question", "Escape")
    page.wait_for_selector(".answer >> text=Stopped.")
    assert page.inner_text("#send") == "Ask"


def test_a_full_queue_is_waited_for_and_a_server_that_is_gone_is_told(serve_scripted, open_page):
    served = serve_scripted(LEAVE, grants)
    page = open_page(served)
    page.wait_for_selector("#question")
    busy = {"error": {"message": "64 questions wait", "code": "busy"}}
    once = iter([{"status": 429, "headers": {"Retry-After": "1"}, "body": json.dumps(busy)}])
    page.route("**/api/ask", lambda route: route.fulfill(**found) if (found := next(once, None)) else route.continue_())
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.wait_for_selector(".answer >> text=asked again in 1 s")
    page.wait_for_selector(".citation")
    page.unroute("**/api/ask")
    page.route("**/*", lambda route: route.abort())
    page.fill("#question", "And then?")
    page.press("#question", "Enter")
    page.wait_for_selector("#notices >> text=The server does not answer")
    page.unroute("**/*")
    page.wait_for_selector("#notices .notice", state="detached")
    page.click("text=Ask again")
    page.wait_for_selector(".turn:nth-child(2) .citation")
    assert not page.faults


def test_a_key_is_asked_for_and_a_reader_cannot_upload(serve_scripted, open_page):
    served = serve_scripted(LEAVE, grants)
    _, secret = add_key(served.expert, "Ada", role="reader")
    served.wait(lambda: served.client.get("/api/me").status_code == 401)
    page = open_page(served)
    page.fill("#key-field", "dk-wrong")
    page.press("#key-field", "Enter")
    page.wait_for_selector("#key-dialog[open]")
    page.fill("#key-field", secret)
    page.press("#key-field", "Enter")
    page.wait_for_selector("#question")
    ask(page)
    assert page.inner_text(".answer .text") == SENTENCE
    page.click("nav >> text=Library")
    page.wait_for_selector(".documents")
    assert page.locator("#drop").count() == 0 and page.locator("[aria-label^=Delete]").count() == 0
    page.click("nav >> text=Status")
    page.wait_for_selector(".empty >> text=editor")
    assert secret not in page.content()


def test_no_payload_becomes_code(serve_scripted, open_page):
    assert len(PAYLOADS) == 60
    table = io.StringIO()
    table.write("name,what\n")
    for i, payload in enumerate(PAYLOADS):
        quoted = payload.replace('"', '""')
        table.write(f'harbour secret {i},"{quoted}"\n')
    texts = {"table.csv": table.getvalue(), "title.md": f"# {PAYLOADS[2]} harbour\n\n" + "\n\n".join(PAYLOADS)}
    texts["text.txt"] = "The harbour secret: " + " and ".join(PAYLOADS)
    few = [PAYLOADS[i::15] for i in range(15)]  # unlike ones: a long answer, or one that repeats itself, is cut

    def answer(body):  # the round that the last question names
        return " ".join(few[int(re.findall(r"round(\d+)", json.dumps(body))[-1])]) + " [1]"

    served = serve_scripted(texts, answer)
    for number, own in enumerate(few):
        page = open_page(served)
        ask(page, f"harbour secret round{number} {own[0]}")
        shown = page.inner_text(".answer .text")
        assert [p for p in own if p.split()[0] not in shown] == [], (number, shown)
        assert page.evaluate("window.hit") is None and not page.faults
    page.click(".passages summary >> nth=0")
    for i in range(min(8, page.locator(".citation:visible, .passages button:visible").count())):
        page.locator(".citation:visible, .passages button:visible").nth(i).click()
        page.wait_for_selector("#source-body mark, #source-body tr.cited")
        page.keyboard.press("Escape")
    for view in (
        "#search/harbour secret",
        "#library",
        "#search/" + PAYLOADS[2],
        "#comparisons/" + PAYLOADS[2],
        "#training",
        "#status",
    ):
        page.goto(served.url + "/" + view)
        page.wait_for_timeout(600)
    page.goto(served.url + "/#search/harbour")
    page.wait_for_selector(".hits li")
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.scripts.length") == 1
    assert not page.locator(
        "main :is(img, svg, iframe, object, embed, style, video, form[action], a[href^=javascript])"
    ).count()
    assert not page.faults


@pytest.mark.parametrize("width", [1440, 390])
def test_from_a_thumb_over_the_review_queue_to_an_example(serve_scripted, open_page, width):
    served = serve_scripted(LEAVE, lambda body: "The guild grants 72 days of annual leave. [1]")
    page = open_page(served, width)
    ask(page)
    page.focus(".thumb.down")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Wrong" and not page.locator(".correction").count()
    page.keyboard.press("Enter")
    page.keyboard.type("27 days")
    page.keyboard.press("Tab")
    page.keyboard.type("The digits are turned around.")
    page.click(".correction button[type=submit]")
    page.wait_for_selector(".opinion .note >> text=Thank you")
    assert page.get_attribute(".thumb.down", "aria-pressed") == "true" and page.is_disabled(".thumb.up")
    page.click("#new-talk")
    ask(page, "How many days of leave does the deck crew have?")
    page.locator(".thumb.up").last.click()
    page.wait_for_selector(".turn:last-child .opinion .note >> text=Thank you")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("nav >> text=Review")
    page.wait_for_selector(".item >> nth=1")
    first = page.locator(".item").first
    assert "72 days" in first.inner_text() and "digits are turned around" in first.inner_text()
    assert first.locator("textarea").nth(1).input_value() == "27 days" and SENTENCE in first.inner_text()
    first.locator("button >> text=Open").first.click()
    page.wait_for_selector("#source-body mark")
    page.keyboard.press("Escape")
    box = first.locator("input[type=checkbox]").first
    box.uncheck()
    assert first.locator("button >> text=Accept").is_disabled() and "Evidence is missing" in first.inner_text()
    box.check()
    first.locator("button >> text=Accept").click()
    page.wait_for_selector(".item.reviewed >> text=Accepted.")
    second = page.locator(".item").last
    assert page.evaluate("document.activeElement.id").startswith("q-")
    assert "Not all words" in second.inner_text()  # 72 stands in no passage
    second.locator("textarea").nth(1).fill("27 days of annual leave")
    second.locator("button >> text=Accept as edited").click()
    page.wait_for_selector(".item.reviewed >> text=Edited.")
    page.select_option("#state", "edited")
    page.wait_for_selector(".item h2 >> text=How many days of leave does the deck crew have?")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") and not page.faults
    rows = served.client.get("/api/feedback?state=all").json()["feedback"]
    assert [(r["state"], r["final_answer"]) for r in rows] == [
        ("accepted", "27 days"),
        ("edited", "27 days of annual leave"),
    ]
    assert all(r["evidence"][0]["document"].endswith("leave.md") and r["evidence"][0]["quote"] for r in rows)
    made = [q for use in ("train", "compare") for q in feedback_questions(served.expert, use)]
    assert {text for question in made for text in question.answers} == {"27 days", "27 days of annual leave"}


def test_a_reader_has_no_queue(serve_scripted, open_page):
    served = serve_scripted(LEAVE, grants)
    _, secret = add_key(served.expert, "Ada", role="reader")
    served.wait(lambda: served.client.get("/api/me").status_code == 401)
    page = open_page(served)
    page.fill("#key-field", secret)
    page.press("#key-field", "Enter")
    ask(page)
    assert not page.is_visible("nav >> text=Review")
    page.click(".thumb.up")
    page.wait_for_selector(".opinion .note >> text=Thank you")
    page.goto(served.url + "/#review")
    page.wait_for_selector(".empty >> text=editor")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(serve_scripted, open_page, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.base", reason="pip install axe-playwright-python")
    served = serve_scripted(LEAVE, grants)
    page = open_page(served, width, scheme, bypass_csp=True)
    ask(page)
    page.click(".thumb.up")
    page.wait_for_selector(".opinion .note >> text=Thank you")
    ask(page, "What does the guild grant?")
    page.locator(".thumb.down").last.click()
    found = []
    for view in ("", "#search/leave", "#library", "#review", "#comparisons", "#training", "#status", "source"):
        if view == "source":
            page.goto(served.url + "/#search/leave")
            page.click(".hits .where >> nth=0")
            page.wait_for_selector("#source-body mark")
        else:
            page.goto(served.url + "/" + view)
        page.wait_for_timeout(900)
        page.evaluate(axe.AXE_SCRIPT)
        for wrong in page.evaluate("axe.run()")["violations"]:
            if wrong["impact"] in ("serious", "critical"):
                found.append((view, wrong["id"], [n["html"][:120] for n in wrong["nodes"]][:3]))
    assert not found
