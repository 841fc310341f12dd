"""Random (user, label, query) cases through every endpoint that returns what a document says, on a small served expert.

Each document has a secret word in its text; no answer may hold the secret, or the id, of a document that its asker may not
see. The model is a fake that repeats its whole prompt, so that whatever it is shown is in the answer.
"""

import asyncio
import json
import random
import shutil
import weakref

import httpx
from small_server import AdapterManifest
from small_stores import words_bert, write_files

from doyen.config import DocumentsSettings, EmbedderSettings, Settings, StoreSettings, settings_toml
from doyen.ingesting import ingest
from doyen.models.engine import Completion
from doyen.serving.api import make_app
from doyen.serving.keys import add_key
from doyen.serving.service import Service

LABELS = ("hr", "board", "legal")
FOLDERS = {"open": (), "hr": ("hr",), "board": ("board",), "both": ("board", "hr"), "legal": ("legal",)}
RULES = "\n".join(f"{folder} = {', '.join(labels)}" for folder, labels in FOLDERS.items() if labels)
WORDS = "annual leave salary crew ferry harbour crane lock budget notice period contract days".split()
FLOW = """
arm = "rag"
decision = "reply"
[input]
columns = { text = "text" }
[steps.found]
do = "retrieve"
query = "{text}"
passages = 3
[steps.reply]
do = "draft"
passages = "found"
instruction = "Write."
input = "{text}"
[steps.person]
do = "review"
"""
_MADE = {}
COPY = "The notice period of the guild is four weeks for every member of the deck crew in the harbour."


class EchoEngine:
    """A documented fake: writes the prompt's last message, and does whatever a document says by repeating it."""

    name = kind = "echo"
    context_tokens = 8192
    next_token_logits = text_losses = None

    def __init__(self):
        self.adapters = []

    def generate(self, prompts, *, adapter=None, stream=None, progress=None, **_):
        self.adapters.append(adapter)
        found = [Completion(prompt[-1]["content"], 10, 3, 0.01, 0.0) for prompt in prompts]
        for number, completion in enumerate(found) if stream else ():
            stream(number, completion.text)
        return found

    def count_tokens(self, messages):
        return 10

    def template_hash(self):
        return "echo"


class InProcess:
    """Sends requests to an application in this thread, over one event loop: Starlette's client makes two threads a request."""

    def __init__(self, app):
        runner = asyncio.Runner()
        transport = httpx.ASGITransport(app)
        self._send = httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None).request
        self._run = runner.run
        weakref.finalize(self, runner.close)

    def request(self, method, path, **more):
        return self._run(self._send(method, path, **more))


class Guild:
    """A served expert with labelled documents, a key for each set of labels, and adapters of some documents."""

    def __init__(self, root, *, each=4, more=None, store="index"):
        draw = random.Random(1)
        self.texts, self.labels, self.secrets = {}, {}, {}
        for folder, labels in FOLDERS.items():
            for number in range(each):
                name, secret = f"{folder}/{folder}{number}.md", f"xyzzy{folder}{number}q"
                words = " ".join(draw.choices(WORDS, k=30))
                self.texts[name] = f"# Paper {secret}\n\n{secret} {words}.\n\n## Notice\n\n{COPY}\n"
                self.labels[name], self.secrets[name] = labels, secret
        self.texts |= more or {}
        embedder = words_bert(root / "embedder", [*self.texts.values(), " ".join(WORDS)])
        settings = Settings(
            embedder=EmbedderSettings(name=str(embedder)),
            documents=DocumentsSettings(labels=RULES),
            store=StoreSettings(store),
        )
        made = _MADE.get((each, bool(more), store))
        if made is None:
            made = write_files(root / "made", {"doyen.toml": settings_toml(settings)})
            assert not ingest(made, [write_files(root / "documents", self.texts)]).failed
            _MADE[each, bool(more), store] = made
        self.expert = shutil.copytree(made, root / "expert")
        write_files(self.expert / "workflows", {"reply.toml": FLOW})
        self.keys = {
            labels: add_key(self.expert, f"key {'-'.join(labels)}", role="editor", labels=labels)[1]
            for labels in ((), ("hr",), ("board",), ("legal",), ("board", "hr"))
        }
        self.admin = add_key(self.expert, "root", role="admin")[1]
        for folder in FOLDERS:
            self.adapter(f"of-{folder}", [f"{folder}/{folder}0.md"])
        self.engine = EchoEngine()
        self.service = Service.of(self.expert, engine=self.engine)
        self.client = InProcess(make_app(self.service, load=False))
        self.sessions = {}

    def adapter(self, name, documents):
        empty = {"model_fingerprint": "", "template_hash": "", "settings": {}, "examples": {}, "target_modules": []}
        empty |= {"trained_parameters": 0, "steps": 1, "tokens": 1, "seconds": 1.0, "peak_memory_gib": 0.0}
        empty |= {"train_loss": 1.0, "validation_loss": None, "model": "m", "method": "lora"}
        sources = [{"document": d, "sha256": ""} for d in documents]
        folder = self.expert / "adapters" / name
        folder.mkdir(parents=True)
        AdapterManifest(**empty, name=name, created=f"2026-01-01 {name}", sources=sources).write(folder)
        (folder / "training.html").write_text(" ".join(self.secrets[d] for d in documents))

    def sees(self, labels, document):
        own = self.labels.get(document, ())
        return not own or bool(set(own) & set(labels))

    def send(self, method, path, labels, **more):
        key = self.admin if labels is None else self.keys[labels]
        return self.client.request(method, path, headers={"X-API-Key": key}, **more)

    def leaks(self, labels, answer, *given):
        """Return the hidden documents whose secret or id is in an answer; ids that the request named do not count."""
        text = answer.content.decode("latin-1") + json.dumps(dict(answer.headers))
        hidden = [d for d in self.secrets if not self.sees(labels, d)]
        return [d for d in hidden if self.secrets[d] in text or (d not in given and d in text)]

    # ---- cases

    def case(self, draw):
        """Send a random request; return (labels, the request in words, the response, leaks)."""
        labels = draw.choice(list(self.keys))
        document = draw.choice(list(self.secrets))
        method, path, more = draw.choice(REQUESTS)(self, draw, document, labels)
        answer = self.send(method, path, labels, **more)
        named = [document] if document in json.dumps([path, more]) else []
        return labels, f"{method} {path} {json.dumps(more)[:300]}", answer, self.leaks(labels, answer, *named)


def _query(draw):
    return " ".join(draw.choices(WORDS, k=draw.randint(1, 5)))


def _filters(draw):
    folders = ["folder=" + draw.choice(list(FOLDERS)), "type=md", "title=*xyz*", "folder!=open"]
    return draw.sample(folders, draw.choice([0, 0, 0, 1, 2]))


def _search(guild, draw, document, labels):
    return "GET", "/api/search", {"params": {"q": _query(draw), "k": draw.choice([1, 5, 50]), "filter": _filters(draw)}}


def _documents(guild, draw, document, labels):
    return "GET", "/api/search", {"params": {"q": _query(draw), "documents": "true", "filter": _filters(draw)}}


def _like(guild, draw, document, labels):
    return "GET", "/api/search", {"params": {"like": document, "k": 20}}


def _ask(guild, draw, document, labels):
    body = {"question": _query(draw), "passages": True, "stream": draw.random() < 0.3, "filters": _filters(draw)}
    return "POST", "/api/ask", {"json": body}


def _in_session(guild, draw, document, labels):
    if labels not in guild.sessions:
        guild.sessions[labels] = guild.send("POST", "/api/sessions", labels).json()["id"]
    return "POST", "/api/ask", {"json": {"question": _query(draw), "session": guild.sessions[labels]}}


def _session(guild, draw, document, labels):
    own = draw.choice([guild.sessions.get(draw.choice(list(guild.keys))), guild.sessions.get(labels)])
    return "GET", f"/api/sessions/{own}" if own else "/api/sessions", {}


def _chat(guild, draw, document, labels):
    body = {"model": "doyen/rag", "messages": [{"role": "user", "content": _query(draw)}]}
    return "POST", "/v1/chat/completions", {"json": body | {"stream": draw.random() < 0.3}}


def _adapter(guild, draw, document, labels):
    name = draw.choice(list(FOLDERS))
    return "POST", "/api/ask", {"json": {"question": _query(draw), "arm": "rag+finetuned", "adapter": f"of-{name}"}}


def _list(guild, draw, document, labels):
    return "GET", "/api/documents", {"params": {"limit": 1000, "contains": draw.choice(["", "paper", "board"])}}


def _show(guild, draw, document, labels):
    version = {"version": 1} if draw.random() < 0.3 else {}
    return "GET", "/api/document", {"params": {"id": document, "text": "true"} | version}


def _page(guild, draw, document, labels):
    return "GET", "/api/page-image", {"params": {"document": document, "page": 1, "quote": "notice"}}


def _passage(guild, draw, document, labels):
    return "GET", "/api/passage", {"params": {"document": document, "start": 2, "end": 9}}


def _training(guild, draw, document, labels):
    page = draw.choice(["", "/training.html"])
    return "GET", f"/api/runs/of-{draw.choice(list(FOLDERS))}{page}", {}


def _flow(guild, draw, document, labels):
    tuned = {"arm": "rag+finetuned", "adapter": f"of-{draw.choice(list(FOLDERS))}"} if draw.random() < 0.3 else {}
    body = {"rows": [{"text": _query(draw)} for _ in range(draw.randint(1, 3))], "audit": draw.random() < 0.5}
    return "POST", "/api/workflows/reply", {"json": body | tuned}


def _reviews(guild, draw, document, labels):
    return "GET", "/api/workflows/reply/reviews", {"params": {"state": draw.choice(["new", "all"])}}


def _plain(path):
    return lambda guild, draw, document, labels: ("GET", path, {})


REQUESTS = (
    *(
        _search,
        _search,
        _documents,
        _like,
        _ask,
        _ask,
        _in_session,
        _session,
        _chat,
        _adapter,
        _list,
        _show,
        _page,
        _passage,
    ),
    _training,
    _flow,
    _reviews,
    *map(_plain, ("/api/jobs", "/api/status", "/api/comparisons", "/api/comparisons/c", "/v1/models", "/api/feedback")),
)
