"""Many clients, clients that leave, clients that do not read, too many, too long; keys over HTTP; stopping."""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import httpx
import openai
import pytest

import doyen
from doyen.errors import UsageError
from doyen.serving.jobs import Jobs
from doyen.serving.keys import add_key, revoke_key
from doyen.serving.page_drawing import PageDrawer
from doyen.serving.running import JsonLines, serve_api

LONG = {"arm": "base", "regex": "[a-z ]{500,}", "max_tokens": 700}


def at_work(one):
    return sum(len(lane._work.running) for lane in list(one.service.desk.engine._lanes.values()))


def test_sixteen_clients_get_what_each_alone_gets(served):
    questions = [f"How many days of leave {n}?" for n in range(16)]
    own = doyen.Expert.open(served.expert)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda q: served.ask(q).json(), questions))
    assert [f["answer"] for f in found] == [own.ask(q).text for q in questions]
    arms = [{"arm": "base"}, {"arm": "rag"}, {"adapter": "first"}, {"adapter": "second"}] * 4
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: served.ask(f"Leave {i}?", **arms[i]).json(), range(16)))
    assert [f["adapter"] for f in found] == [None, None, "first", "second"] * 4


@pytest.mark.parametrize("stream", [False, True])
def test_when_a_client_leaves_its_work_ends(serve, template, stream):
    one = serve(template, time_limit_s=600.0)
    body = json.dumps({"question": f"Long {stream}?", "stream": stream} | LONG).encode()
    head = "POST /api/ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", one.port)) as raw:
        raw.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        one.wait(lambda: at_work(one) == 1)
        if stream:
            assert b"200" in raw.recv(1000)
    began = time.monotonic()
    one.wait(lambda: at_work(one) == 0 and one.service.asks.count == 0, 10)
    assert time.monotonic() - began < 3
    assert one.ask("How many days?").status_code == 200


def test_a_full_queue_says_when_to_come_again(serve, template):
    one = serve(template, requests=2, time_limit_s=600.0)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(one.ask, f"Long {n}?", **LONG) for n in range(2)]
        one.wait(lambda: one.service.asks.count == 2)
        full = one.ask("One more?")
        assert full.status_code == 429 and int(full.headers["retry-after"]) >= 1
        assert full.json()["error"]["code"] == "busy"
        assert one.ask("One more?", stream=True).status_code == 429
        assert one.client.get("/api/search", params={"q": "leave"}).status_code == 200
        assert [w.result().status_code for w in waiting] == [200, 200]
    assert one.ask("One more?").status_code == 200


def test_the_time_limit_is_an_error_of_its_own(serve, template):
    one = serve(template, time_limit_s=0.02)
    late = one.ask("Long?", **LONG)
    assert late.status_code == 504 and late.json()["error"]["code"] == "time_limit"
    assert "time_limit" in one.ask("Longer?", stream=True, **LONG).text
    one.wait(lambda: at_work(one) == 0 and one.service.asks.count == 0, 10)


def test_a_client_that_never_reads_holds_nothing_up(serve, template, monkeypatch):
    from doyen.serving import events

    monkeypatch.setattr(events, "_GRACE_S", 0.2)
    one = serve(template, time_limit_s=3.0)
    body = json.dumps({"question": "Long?", "stream": True} | LONG).encode()
    head = "POST /api/ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.connect(("127.0.0.1", one.port))
        raw.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        one.wait(lambda: one.service.asks.count == 1)
        assert one.ask("How many days?").status_code == 200
        one.wait(lambda: one.service.asks.count == 0, 10)


def test_keys_and_roles_over_http(serve, expert):
    secrets = {role: add_key(expert, role, role=role)[1] for role in ("reader", "editor", "admin")}
    one = serve(expert)

    def status(method, path, key="", **more):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return one.client.request(method, path, headers=headers, **more).status_code

    for path in ("/v1/models", "/api/documents", "/api/search?q=a", "/metrics", "/api/sessions"):
        assert [status("GET", path), status("GET", path, "dk-wrong"), status("GET", path, secrets["reader"])] == [
            401,
            401,
            200,
        ]
    assert status("GET", "/healthz") == status("GET", "/readyz") == 200
    assert [status("POST", "/api/jobs", secrets[r]) for r in ("reader", "editor")] == [403, 202]
    assert status("DELETE", "/api/document?id=none", secrets["reader"]) == 403
    assert [status("GET", "/api/status", secrets[r]) for r in ("reader", "admin")] == [403, 200]
    assert one.client.get("/v1/models", headers={"x-api-key": secrets["reader"]}).status_code == 200
    wrong = one.client.get("/v1/models")
    assert wrong.headers["www-authenticate"] == "Bearer" and wrong.json()["error"]["code"] == "invalid_api_key"
    session = one.client.post("/api/sessions", headers={"x-api-key": secrets["reader"]}).json()["id"]
    assert status("GET", f"/api/sessions/{session}", secrets["admin"]) == 404  # a conversation is its owner's
    revoke_key(expert, "reader")
    assert status("GET", "/v1/models", secrets["reader"]) == 401
    with openai.OpenAI(base_url=f"{one.url}/v1", api_key=secrets["editor"]) as client:
        assert list(client.models.list())


def test_other_sites_and_other_names_of_this_machine(served):
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}):
        answer = served.client.post("/api/jobs", headers=headers)
        assert answer.status_code == 403, headers
    own = {"origin": f"http://localhost:{served.port}", "host": f"localhost:{served.port}"}
    assert served.client.get("/v1/models", headers=own).status_code == 200


def test_without_keys_it_listens_to_this_machine_only(expert):
    with pytest.raises(UsageError, match="no keys are set") as caught:
        serve_api(expert, host="0.0.0.0")
    assert "doyen keys add" in caught.value.hint


def test_stopping_lets_answers_end(serve, template):
    one = serve(template, time_limit_s=600.0)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(one.ask, "Long, before the end?", **LONG)
        one.wait(lambda: at_work(one) == 1)
        one.server.should_exit = True
        assert answer.result().status_code == 200
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{one.url}/healthz")


def test_who_waits_when_the_engine_is_closed_is_told(serve, template):
    one = serve(template, time_limit_s=600.0)
    with ThreadPoolExecutor(2) as pool:
        whole, stream = (pool.submit(one.ask, f"Long {s}?", stream=s, **LONG) for s in (False, True))
        one.wait(lambda: at_work(one) == 2)
        one.service.desk.close()
        assert whole.result().status_code == 503 and whole.result().json()["error"]["code"] == "shutting_down"
        assert "shutting_down" in stream.result().text


def test_a_job_that_is_cancelled_before_its_process_starts_reads_nothing(expert):
    jobs = Jobs(expert)
    job = jobs.add("ada", "ingest")["id"]
    row = jobs._next()
    jobs.cancel(job)
    jobs._run(row)
    assert (jobs.show(job)["state"], jobs.show(job)["report"]) == ("cancelled", {})


def test_no_page_is_drawn_once_the_drawer_is_closed(expert):
    drawer = PageDrawer(expert)
    drawer.close()
    with pytest.raises(CancelledError):
        drawer.draw("leave.md", 1)


def test_methods_that_are_none_are_counted_as_one(served):
    for method in ("SPAM", "EGGS"):
        served.client.request(method, "/healthz")
    text = served.client.get("/metrics").text
    assert 'method="other"' in text and "SPAM" not in text and "EGGS" not in text


def test_a_job_that_a_server_left_is_done_by_the_next(expert):
    first = Jobs(expert)
    job = first.add("ada", "ingest")["id"]
    first._set(job, state="running")
    second = Jobs(expert)
    second.start()
    ends = time.monotonic() + 60
    while second.show(job)["state"] != "done" and time.monotonic() < ends:
        time.sleep(0.05)
    assert second.show(job)["state"] == "done" and second.show(job)["report"]["counts"]["new"] == 0
    second.stop()


def test_the_steps_of_an_answer_are_spans(served, monkeypatch):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from doyen import tracing

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("doyen"))
    trace = "0af7651916cd43dd8448eb211c80319c"
    served.client.post(
        "/api/ask", json={"question": "Spans?"}, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    )
    served.wait(lambda: len(spans.get_finished_spans()) >= 5)
    found = {s.name: s for s in spans.get_finished_spans()}
    assert set(found) == {"request", "tables", "retrieval", "passages", "answer"}
    assert {s.context.trace_id for s in found.values()} == {int(trace, 16)}
    assert {found[n].parent.span_id for n in ("tables", "retrieval", "answer")} == {found["request"].context.span_id}
    assert found["answer"].attributes["doyen.arm"] == "rag"


def test_logs_are_json_lines():
    import logging

    record = logging.LogRecord("doyen", logging.INFO, "x", 1, "request", (), None)
    record.fields = {"status": 200}
    row = json.loads(JsonLines().format(record))
    assert (row["event"], row["status"], row["level"]) == ("request", 200, "info")


def test_the_command_loads_no_web_server_before_it_needs_one():
    code = "import doyen, doyen.cli, sys; print([m for m in ('fastapi', 'uvicorn', 'pydantic', 'lancedb') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_command_keeps_blas_to_one_thread_before_it_is_loaded(template):
    code = f"""
import os, sys, types
running = types.ModuleType("doyen.serving.running")
running.serve_api = lambda *_, **__: print("numpy" in sys.modules, os.environ["OPENBLAS_NUM_THREADS"])
sys.modules[running.__name__] = running
sys.argv = ["doyen", "serve", "--expert", {str(template)!r}]
from doyen.cli import main
main()
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["False", "1"], done.stderr
