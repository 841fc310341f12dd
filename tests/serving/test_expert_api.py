"""Asking with evidence, searching, conversations, documents, pages, comparisons, what is counted and logged."""

import dataclasses
import io
import json
import logging
import socket

import pytest
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas
from small_server import TEXTS

import doyen

QUESTION = "How many days of annual leave does the guild grant?"


def test_an_answer_has_its_evidence(served):
    row = served.ask(QUESTION, passages=True).json()
    own = doyen.Expert.open(served.expert).ask(QUESTION)
    assert (row["answer"], row["answered"], row["arm"], row["adapter"]) == (own.text, own.answered, "rag", None)
    assert [p["document"] for p in row["passages"]] == [h.chunk.document for h in own.hits]
    assert row["usage"] == {"prompt_tokens": own.prompt_tokens, "completion_tokens": own.completion_tokens}
    for citation in row["citations"]:
        text = TEXTS[citation["document"]]
        assert text[citation["start"] : citation["end"]] == citation["quote"]


def test_choices_forms_filters_and_adapters(served):
    row = served.ask(QUESTION, choices=["yes", "no"]).json()
    assert row["answer"] in ("yes", "no") and sum(row["choice_probabilities"].values()) == pytest.approx(1)
    assert served.ask(QUESTION, regex="[0-9]{2} days").json()["answer"].endswith(" days")
    assert served.ask(QUESTION, adapter="second").json()["adapter"] == "second"
    assert served.ask(QUESTION, arm="finetuned").json()["adapter"] == "second"  # the newest
    shown = served.ask(QUESTION, filters=["type=txt"], passages=True, regex="[a-z]{3}").json()["passages"]
    assert {p["document"] for p in shown} <= {"lock.txt", "crane.txt"}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"question": ""}, 400, "empty"),
        ({"question": "x", "arm": "oracle"}, 404, "oracle"),
        ({"question": "x", "adapter": "third"}, 404, "third"),
        ({"question": "x", "regex": "a", "choices": ["a"]}, 400, "one of"),
        ({"question": "x", "regex": "("}, 400, ""),
        ({"question": "x", "choices": []}, 400, "empty"),
        ({"question": "x", "filters": ["nonsense"]}, 400, "KEY=VALUE"),
        ({"question": "x", "arm": "base", "filters": ["type=md"]}, 400, "no documents"),
        ({"question": "x", "session": "none"}, 400, "no session"),
        ({"question": "x", "colour": "red"}, 400, "colour"),
        ({"question": "a\ud800b"}, 400, "unicode"),
    ],
)
def test_wrong_questions(served, body, status, said):
    content = json.dumps(body)
    answer = served.client.post("/api/ask", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status and said in answer.json()["error"]["message"]


def test_a_streamed_answer_ends_with_all_of_it(served):
    text = served.ask(QUESTION, stream=True).text
    events = [e.split("\n") for e in text.strip().split("\n\n")]
    names = [e[0] for e in events]
    assert set(names[:-1]) <= {"event: text"} and names[-1] == "event: answer"
    pieces = "".join(json.loads(e[1][6:])["text"] for e in events[:-1])
    assert pieces == json.loads(events[-1][1][6:])["answer"] == served.ask(QUESTION).json()["answer"]
    long = served.ask("leave " * 5000, stream=True, arm="base").text
    assert long.startswith("event: error") and "tokens" in long


def test_searching(served):
    found = served.client.get("/api/search", params={"q": "annual leave", "k": 2}).json()["hits"]
    own = doyen.Expert.open(served.expert).search("annual leave", 2)
    assert found == [h.as_dict() for h in own] and found[0]["document"] == "leave.md"
    whole = served.client.get("/api/search", params={"q": "lock", "documents": True}).json()["documents"]
    assert whole[0]["document"] == "lock.txt"
    assert served.client.get("/api/search", params={"like": "lock.txt"}).json()["hits"]
    only = served.client.get("/api/search", params={"q": "leave", "filter": ["type=txt"]}).json()["hits"]
    assert "leave.md" not in {h["document"] for h in only}
    for wrong in ({}, {"q": "a", "like": "b"}, {"q": "a", "k": 0}, {"q": "a", "k": 10**9}):
        assert served.client.get("/api/search", params=wrong).status_code == 400


def test_a_conversation_goes_on(served):
    session = served.client.post("/api/sessions").json()["id"]
    first = served.ask(QUESTION, session=session).json()
    second = served.ask("And the lock?", session=session).json()
    assert first["question"] == QUESTION
    assert second["question"] == "And the lock? (days annual leave guild grant)"
    kept = served.client.get(f"/api/sessions/{session}").json()["turns"]
    assert [t["question"] for t in kept] == [QUESTION, "And the lock?"]
    assert kept[0]["answer"]["answer"] == first["answer"]
    assert session in {s["id"] for s in served.client.get("/api/sessions").json()["sessions"]}
    assert served.client.delete(f"/api/sessions/{session}").status_code == 204
    assert served.client.get(f"/api/sessions/{session}").status_code == 404


def test_a_chat_refers_to_what_was_said(served):
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "27"},
        {"role": "user", "content": "And the lock?"},
    ]
    made = served.client.post("/v1/chat/completions", json={"messages": messages}).json()
    assert made["doyen"]["question"] == "And the lock? (days annual leave guild grant)"


def test_documents_are_listed_and_shown(served):
    row = served.client.get("/api/documents").json()
    assert [d["id"] for d in row["documents"]] == sorted(TEXTS) and row["total"] == 3
    assert not {"source", "root", "stamp"} & set(row["documents"][0])
    page = served.client.get("/api/documents", params={"offset": 1, "limit": 1, "contains": "txt"}).json()
    assert (page["total"], len(page["documents"])) == (2, 1)
    one = served.client.get("/api/document", params={"id": "lock.txt", "text": True}).json()
    assert one["text"] == TEXTS["lock.txt"] and one["versions"] == [1]
    assert str(served.expert) not in json.dumps(one)
    for strange in ("none.txt", "../doyen.toml", "/etc/passwd", "a' OR '1'='1"):
        assert served.client.get("/api/document", params={"id": strange}).status_code == 404


def test_status_names_no_path(served):
    row = served.client.get("/api/status").json()
    assert row["documents"] == 3 and row["server"]["default"] == "doyen/rag"
    assert row["expert"] == "expert" and [a["name"] for a in row["adapters"]] == ["first", "second"]


def test_comparisons_are_found_by_name_only(expert, serve):
    folder = expert / "comparisons" / "abc"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"manifest": {"created": "2026"}, "rows": [1], "arms": {"rag": {}}}))
    (folder / "report.html").write_text("<script>1</script>")
    client = serve(expert).client
    assert [c["id"] for c in client.get("/api/comparisons").json()["comparisons"]] == ["abc"]
    assert client.get("/api/comparisons/abc").json()["rows"] == [1]
    page = client.get("/api/comparisons/abc/report.html")
    assert page.text == "<script>1</script>" and "sandbox" in page.headers["content-security-policy"]
    for strange in ("none", "..%2F..%2Fdoyen.toml", "%2e%2e", "abc%2Freport.json"):
        assert client.get(f"/api/comparisons/{strange}").status_code == 404


def asked(caplog):
    """Return the fields of the log lines about questions."""
    logged = [getattr(record, "fields", {}) for record in caplog.records]
    return [fields for fields in logged if fields.get("route") == "/api/ask"]


def test_headers_ids_metrics_and_the_open_api_document(served, caplog):
    answer = served.client.get("/healthz")
    assert answer.json() == {"status": "ok", "state": "ready"}
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-request-id"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    logger = logging.getLogger("doyen")
    before, logger.propagate = logger.propagate, True
    with caplog.at_level(logging.INFO, "doyen.serving"):
        served.ask("Who knows the zebra secret?")
        served.wait(lambda: asked(caplog), 10)  # the line is written behind the answer's last byte
    logger.propagate = before
    [fields] = asked(caplog)
    assert (fields["status"], fields["key"], fields["arm"]) == (200, "local", "rag")
    assert "zebra" not in json.dumps(fields)
    counted = served.client.get("/metrics").text
    assert 'doyen_requests_total{method="POST",route="/api/ask",status="200"}' in counted
    assert "doyen_first_text_seconds_bucket" in counted and "doyen_ask_requests 0.0" in counted
    document = served.client.get("/openapi.json").json()
    assert {"/v1/chat/completions", "/api/ask", "/api/upload", "/api/page-image"} <= set(document["paths"])
    assert document["components"]["schemas"]["ChatRequest"]["examples"]


# ---- uploads, jobs, pages


def pdf(text):
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    canvas.drawString(60, 780, text)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def upload(one, *files):
    return one.client.post("/api/upload", files=[("files", file) for file in files])


@pytest.fixture
def one(expert, serve):
    return serve(expert)


def test_an_upload_is_ingested_searched_shown_and_erased(one):
    begun = upload(one, ("ferry rules.pdf", pdf("The ferry harbour is a secret.")), ("broken.pdf", b"%PDF-no"))
    assert begun.status_code == 202
    job = one.job(begun.json()["id"])
    assert (job["state"], job["report"]["new"]) == ("done", ["uploads/ferry rules.pdf"])
    assert [f["file"].rsplit("/", 1)[-1] for f in job["report"]["failed"]] == ["broken.pdf"]
    assert (job["done"], job["total"]) == (2, 2)
    hit = one.client.get("/api/search", params={"q": "ferry harbour secret"}).json()["hits"][0]
    assert (hit["document"], hit["page"]) == ("uploads/ferry rules.pdf", 1)
    where = {"document": hit["document"], "page": 1, "quote": "ferry harbour"}
    picture = one.client.get("/api/page-image", params=where)
    assert picture.content.startswith(b"\x89PNG") and picture.headers["content-type"] == "image/png"
    boxes = json.loads(picture.headers["x-doyen-boxes"])
    assert len(boxes[0]) == 1 and 0 < boxes[0][0][0] < boxes[0][0][2] < 1
    assert one.client.get("/api/page-image", params=where | {"page": 9}).status_code == 422
    assert one.client.get("/api/page-image", params=where | {"document": "leave.md"}).status_code == 400
    assert one.client.get("/api/page-image", params=where | {"document": "../x.pdf"}).status_code == 404
    gone = one.client.delete("/api/document", params={"id": hit["document"]})
    assert gone.json() == {"removed": ["uploads/ferry rules.pdf"]}
    assert not (one.expert / "uploads" / "ferry rules.pdf").exists()
    assert one.client.delete("/api/document", params={"id": hit["document"]}).status_code == 404
    found = one.client.get("/api/search", params={"q": "ferry harbour secret"}).json()["hits"]
    assert "uploads" not in json.dumps(found)


def test_the_first_upload_makes_the_index(expert, serve):
    import shutil

    shutil.rmtree(expert / "index")
    (expert / "sources.json").unlink()
    one = serve(expert)
    assert one.client.get("/api/documents").json() == {"documents": [], "total": 0}
    assert one.ask("x").status_code == 503 and "upload" in one.ask("x").json()["error"]["message"]
    assert one.client.get("/api/search", params={"q": "x"}).status_code == 503
    assert one.job(upload(one, ("a.md", b"# Leave\n\nzebra quagga")).json()["id"])["state"] == "done"
    assert one.client.get("/api/search", params={"q": "zebra"}).json()["hits"][0]["document"] == "uploads/a.md"
    assert one.ask("zebra?").status_code == 200


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "0 bytes"),
        ("a.exe", b"x", "no kind"),
        ("noend", b"x", "no kind"),
        (".txt", b"x", ""),
        ("../../.txt", b"x", ""),
    ],
)
def test_files_that_are_not_taken(one, name, content, said):
    answer = upload(one, ("good.txt", b"good"), (name, content))
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]
    assert not [p for p in (one.expert / "uploads").rglob("*") if p.is_file()]
    assert one.client.get("/api/jobs").json() == {"jobs": []}


@pytest.mark.parametrize(
    "name", ["../../../evil.txt", "..\\..\\evil.txt", "/etc/evil.txt", "a/b/.evil.txt", "e\nvil.txt"]
)
def test_no_path_of_a_request_reaches_the_file_system(one, name):
    from doyen.serving.uploads import safe_name

    kept = safe_name(name)
    assert "/" not in kept and "\\" not in kept and not kept.startswith(".") and kept.endswith("vil.txt")
    assert upload(one, (name, b"zebra")).status_code == 202
    assert [p.name[-7:] for p in (one.expert / "uploads").iterdir() if p.is_file()] == ["vil.txt"]
    assert not list(one.expert.parent.glob("*vil.txt"))


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(one):
    answer = upload(one, ("large.txt", b"x" * (3 << 20)))
    assert answer.status_code == 413 and "2 MiB" in answer.json()["error"]["message"]
    with socket.create_connection(("127.0.0.1", one.port), timeout=10) as raw:
        head = "POST /api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        raw.sendall(f"{head}Content-Length: {2 << 30}\r\n\r\n--x".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413")
    assert one.client.get("/healthz").status_code == 200


def test_jobs_that_are_not_there_or_cancelled(one):
    assert one.client.get("/api/jobs/none").status_code == 404
    assert one.client.delete("/api/jobs/none").status_code == 404
    jobs = [one.client.post("/api/jobs").json()["id"] for _ in range(2)]
    assert one.client.delete(f"/api/jobs/{jobs[1]}").json()["state"] == "cancelled"
    assert one.job(jobs[0])["state"] == "done" and one.job(jobs[1])["state"] == "cancelled"
    assert [j["id"] for j in one.client.get("/api/jobs").json()["jobs"]] == jobs[::-1]


def test_a_wrong_method_is_told_the_right_ones(served):
    for path, allowed in (("/api/jobs", "GET, POST"), ("/api/sessions/none", "DELETE, GET"), ("/api/ask", "POST")):
        answer = served.client.patch(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["error"]["code"] == "method_not_allowed"


def test_an_answer_leaves_room_for_the_question(served, monkeypatch):
    desk = served.service.desk
    context = desk.engine.inner.context_tokens
    assert desk.most_tokens(0) == desk.settings.model.max_answer_tokens
    assert desk.most_tokens(8) == 8 and desk.most_tokens(10**6) == context // 2
    assert served.ask(max_tokens=8192).status_code == 200
    whole = dataclasses.replace(
        desk.settings, model=dataclasses.replace(desk.settings.model, max_answer_tokens=context)
    )
    monkeypatch.setattr(desk, "settings", whole)  # what is not asked for is not cut, nor said to be
    assert desk.most_tokens(0) == context


def test_passages_name_the_version_of_their_document(served):
    found = served.ask(arm="rag", passages=True).json()["passages"]
    assert found and all(p["version"] == 1 for p in found)


@pytest.mark.parametrize("version", [2**31, 10**20])
def test_a_version_that_no_store_counts_to_is_refused(served, version):
    for path, more in (("/api/document", {"id": "leave.md"}), ("/api/passage", {"document": "leave.md"})):
        assert served.client.get(path, params=more | {"version": version}).status_code == 400
    page = {"document": "leave.md", "page": 1, "version": version}
    assert served.client.get("/api/page-image", params=page).status_code == 400
    said = {"question": "x", "answer": "y", "thumb": "up", "passages": [{"document": "leave.md", "start": 0, "end": 1}]}
    said["passages"][0]["version"] = version
    assert served.client.post("/api/feedback", json=said).status_code == 400
