"""A browser, and servers of small experts whose model is a script. Needs `playwright` and a Chromium of the system."""

import os
import shutil

import pytest
from chat_server import ChatServer, Script, engine_of
from pages_tried import CHROMIUM, MORE_WORDS
from small_server import Served
from small_stores import words_bert, write_files

from doyen.config import EmbedderSettings, ModelSettings, Settings, settings_toml
from doyen.ingesting import ingest


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = os.environ.get("DOYEN_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("there is no Chromium (DOYEN_CHROMIUM names one)")
    with sync_api.sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        one = playwright.chromium.launch(executable_path=path, args=[*quiet, "--disable-component-update"])
        yield one
        one.close()


@pytest.fixture
def serve_scripted(tmp_path):
    """Serve an expert of `texts` (name → text) whose model writes what `reply` says of a request."""
    made = []

    def start(texts, reply):
        embedder = words_bert(tmp_path / "embedder", [*texts.values(), MORE_WORDS])
        settings = Settings(model=ModelSettings(max_answer_tokens=4000), embedder=EmbedderSettings(name=str(embedder)))
        expert = write_files(tmp_path / "expert", {"doyen.toml": settings_toml(settings)})
        if texts:
            assert not ingest(expert, [write_files(tmp_path / "documents", texts)]).failed
        chat = ChatServer(Script(reply), context=200_000)
        made.append(chat)
        made.append(Served(expert, engine=engine_of(chat)))
        return made[-1]

    yield start
    for one in reversed(made):
        one.close()


@pytest.fixture
def open_page(browser):
    """Open the page of a server; what it logs as errors is kept in `page.faults`."""
    made = []

    def start(served, width=1440, scheme="light", **more):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce", **more
        )
        made.append(context)
        page = context.new_page()
        page.set_default_timeout(int(os.environ.get("DOYEN_BROWSER_TIMEOUT_MS", "90000")))
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("dialog", lambda dialog: (page.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda r: None if r.url.startswith((served.url, "blob:", "data:")) else page.faults.append(r.url)
        )
        page.goto(served.url)
        return page

    yield start
    for one in made:
        one.close()
