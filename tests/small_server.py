"""An expert's texts, adapters of random weights, and a real server on a free port of this machine."""

import contextlib
import dataclasses
import socket
import threading
import time

import httpx
import tiny_models
import uvicorn

from doyen.adapters import AdapterManifest
from doyen.models.fitting import fingerprint_of_config
from doyen.serving.api import make_app
from doyen.serving.running import MOST_HEAD
from doyen.serving.service import Service

TEXTS = {
    "leave.md": "# Leave\n\nThe guild grants 27 days of annual leave to deck crew.\n",
    "lock.txt": "The Orrel lock opens at 06:30 and closes at 22:15.\n",
    "crane.txt": "The Tamsin crane lifts 12 tonnes.\n",
}
MORE = "shore staff days ferry harbour secret zebra quagga upload how many does the when what about"


def write_adapter(expert, model, name, seed=1):
    """Train nothing: a random adapter with a manifest that says that it fits."""
    folder = tiny_models.adapter_folder(expert / "adapters" / name, model, seed)
    values = {"name": name, "model": "phi", "method": "lora", "created": f"2026-01-0{seed}T00:00:00+00:00"}
    empty = {"model_fingerprint": "", "template_hash": "", "settings": {}, "examples": {}, "sources": []}
    empty |= {"target_modules": [], "trained_parameters": 0, "steps": 1, "tokens": 1, "seconds": 1.0}
    empty |= {"peak_memory_gib": 0.0, "train_loss": 1.0, "validation_loss": None}
    values["model_fingerprint"] = fingerprint_of_config(model)
    AdapterManifest(**(empty | values)).write(folder)
    return folder


class Served:
    """A server in a thread of this process."""

    def __init__(self, expert, engine=None, **serve):
        self.expert = expert
        self.service = Service.of(expert, engine=engine)
        if serve:
            desk = self.service.desk
            desk.settings = dataclasses.replace(desk.settings, serve=dataclasses.replace(desk.settings.serve, **serve))
            self.service.asks.most = desk.settings.serve.requests
            self.service.asks.limit_s = desk.settings.serve.time_limit_s
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = uvicorn.Config(
            make_app(self.service),
            port=self.port,
            log_config=None,
            lifespan="on",
            h11_max_incomplete_event_size=MOST_HEAD,
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self.wait(lambda: self.service.ready)

    def wait(self, condition, seconds=60):
        ends = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ends, "waited too long"
            time.sleep(0.02)

    def close(self):
        self.client.close()
        self.server.should_exit = True
        self._thread.join(timeout=40)
        assert not self._thread.is_alive()

    def ask(self, question="How many days of leave?", **more):
        return self.client.post("/api/ask", json={"question": question} | more)

    def job(self, job):
        """Wait for a job to end."""
        self.wait(lambda: self.client.get(f"/api/jobs/{job}").json()["state"] not in ("queued", "running"))
        return self.client.get(f"/api/jobs/{job}").json()
