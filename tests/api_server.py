"""A local server that speaks OpenAI's, Jina's and Cohere's protocols, and can be made to fail.

The vector of a text is that of `HashEmbedder`, so that searches find what they should.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from small_stores import HashEmbedder

KEY = "sk-test-0123456789"


class ApiServer:
    """`faults` are answers to come before good ones: (status, headers, body) or a function of the good answer."""

    def __init__(self, *, dim=64, key=KEY):
        self.requests = []
        self.faults = []
        self.dim = dim
        self.key = key
        self.delay_s = 0.0
        self.running = self.most_at_once = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.running += 1
                    server.most_at_once = max(server.most_at_once, server.running)
                time.sleep(server.delay_s)
                try:
                    status, headers, data = server.answer(self.path, dict(self.headers), body)
                finally:
                    with server._lock:
                        server.running -= 1
                try:
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(data)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # the client has gone
                    pass

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, path, headers, body):
        with self._lock:
            self.requests.append((path, body, time.monotonic()))
            fault = self.faults.pop(0) if self.faults else None
        if self.key and headers.get("Authorization") != f"Bearer {self.key}":
            return (
                401,
                {},
                json.dumps({"error": {"message": f"Incorrect key: {headers.get('Authorization')}"}}).encode(),
            )
        if isinstance(fault, tuple):
            status, more, text = fault
            return status, more, text.encode()
        good = self.embeddings(body) if path == "/v1/embeddings" else self.rerank(body)
        return 200, {}, json.dumps(fault(good) if fault else good).encode()

    def embeddings(self, body):
        vectors = HashEmbedder(dim=body.get("dimensions", self.dim)).embed(body["input"])
        rows = [{"index": i, "embedding": (3 * v).tolist(), "object": "embedding"} for i, v in enumerate(vectors)]
        return {"data": rows[::-1], "model": body["model"], "usage": {"total_tokens": 1}}

    def rerank(self, body):
        asked, *vectors = HashEmbedder().embed([body["query"], *body["documents"]])
        rows = [{"index": i, "relevance_score": float(asked @ v)} for i, v in enumerate(vectors)]
        return {"results": sorted(rows, key=lambda row: -row["relevance_score"])[: body["top_n"]]}

    @property
    def bodies(self):
        return [body for _, body, _ in self.requests]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
