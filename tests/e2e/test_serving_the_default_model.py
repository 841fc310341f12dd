"""`doyen serve` as a program of its own, with the default model: upload, ask, stream, kill, go on."""

import contextlib
import signal
import socket
import subprocess
import sys
import time

import httpx
import openai
import pytest
from small_stores import write_files

from doyen.config import load_settings
from doyen.ingesting import open_index

pytestmark = pytest.mark.e2e

RULES = "The guild grants 27 days of annual leave to deck crew. Leave is approved by the rota desk.\n"


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    import doyen
    from doyen.models.catalogue import find_entry
    from doyen.models.fetching import pull

    for name in ("smollm2-135m-instruct", "all-minilm-l6-v2"):
        pull(find_entry(name))
    root = tmp_path_factory.mktemp("serving")
    folder = doyen.init(root / "expert")
    doyen.ingest(folder, [write_files(root / "documents", {"lock.txt": "The Orrel lock opens at 06:30.\n"})])
    return folder


@contextlib.contextmanager
def serving(expert):
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "doyen", "serve", "--port", str(port), "--expert", str(expert)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            assert process.poll() is None
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            time.sleep(0.1)
        yield process, url
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def test_upload_ask_stream_kill_and_go_on(expert):
    with serving(expert) as (process, url):
        job = httpx.post(f"{url}/api/upload", files={"files": ("rules.txt", RULES.encode())}, timeout=60).json()["id"]
        while (found := httpx.get(f"{url}/api/jobs/{job}").json())["state"] in ("queued", "running"):
            time.sleep(0.2)
        assert found["state"] == "done" and found["report"]["new"] == ["uploads/rules.txt"]
        question = "How many days of annual leave does the guild grant to deck crew?"
        row = httpx.post(f"{url}/api/ask", json={"question": question, "passages": True}, timeout=120).json()
        assert row["passages"][0]["document"] == "uploads/rules.txt"
        for citation in row["citations"]:
            text = open_index(expert, load_settings(expert)).text(citation["document"])[0]
            assert text[citation["start"] : citation["end"]] == citation["quote"]
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
            messages = [{"role": "user", "content": question}]
            pieces = client.chat.completions.create(model="doyen/rag", messages=messages, stream=True)
            text = "".join(p.choices[0].delta.content or "" for p in pieces)
            assert text == row["answer"]
            held = client.chat.completions.create(model="doyen/base", messages=messages, stream=True)
            next(iter(held))
            process.kill()
            held.close()
    with serving(expert) as (process, url):
        found = httpx.get(f"{url}/api/search", params={"q": "annual leave of deck crew"}, timeout=60).json()["hits"]
        assert found[0]["document"] == "uploads/rules.txt"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
