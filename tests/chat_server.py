"""A local server that speaks the chat protocol as vLLM, llama.cpp's server, Ollama and Azure do, and can be made to fail.

What it writes comes from a `Script` (a function), or from a `RealModel`: a model of transformers with its adapters, token by
token, with its own probabilities and its own template. Streams are cut into pieces of odd sizes, as networks do.
"""

import json
import math
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from doyen.models.endpoint import Endpoint
from doyen.models.server_engine import ServerEngine

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many days?"}]
OWNERS = {"vllm": "vllm", "llama.cpp": "llamacpp", "ollama": "library"}
PIECE = 37  # bytes


class Script:
    """Writes what `reply(body)` returns, a word a token; `top` are the first token's likeliest ones (text → probability)."""

    def __init__(self, reply=lambda body: "27 days [1]", top=None):
        self.reply, self.top = reply, top or {}

    def write(self, body, adapter, messages):
        words = re.findall(r"\S+\s*|\s+", self.reply(body))[
            : body.get("max_tokens") or body.get("max_completion_tokens")
        ]
        for i, word in enumerate(words):
            top = self.top if i == 0 and self.top else {word: 0.9}
            yield word, math.log(top.get(word, 0.9)), {t: math.log(p) for t, p in top.items()}

    def tokens(self, messages, prompt):
        text = "".join(f"<{m['role']}>{m['content']}" for m in messages) + ("<assistant>" if prompt else "")
        return list(text.encode())


class RealModel:
    """A model of transformers and adapters (name → folder); greedy, float32 unless the engine says otherwise."""

    def __init__(self, engine, adapters=None):
        self.engine, self.adapters = engine, dict(adapters or {})
        self._lock = threading.Lock()

    def tokens(self, messages, prompt):
        out = self.engine.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=prompt, tokenize=True, return_dict=True
        )
        return [int(i) for i in out["input_ids"]]

    def write(self, body, adapter, messages):
        import torch

        tokenizer = self.engine.tokenizer
        begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        ids = self.tokens(messages[:-1] if begun else messages, True)
        ids += tokenizer(begun, add_special_tokens=False)["input_ids"] if begun else []
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 64
        stops, shown, written = self.engine._stops, "", []
        with self._lock, self.engine._adapter_applied(self.adapters.get(adapter)), torch.inference_mode():
            past, feed = None, torch.tensor([ids])
            while len(written) < limit:
                out = self.engine._model(input_ids=feed, past_key_values=past, use_cache=True, logits_to_keep=1)
                past, scores = out.past_key_values, out.logits[0, -1].float().log_softmax(-1)
                best = int(scores.argmax())
                likeliest = scores.topk(20)
                top = {
                    tokenizer.decode([int(i)]): float(v)
                    for v, i in reversed(list(zip(likeliest.values, likeliest.indices, strict=True)))
                }
                if best in stops:
                    yield "", float(scores[best]), top
                    return
                written.append(best)
                text = tokenizer.decode(written, skip_special_tokens=True)
                whole = text if not text.endswith("\ufffd") or len(written) == limit else shown
                piece, shown = whole[len(shown) :], whole
                yield piece, float(scores[best]), top
                feed = torch.tensor([[best]])


class ChatServer:
    """`faults` are what goes wrong with the next chat requests: a method name of `_Faults`, (status, headers, body), or None."""

    def __init__(self, brain=None, *, kind="vllm", model="our-model", key="", context=4096, version="0.11.0", port=0):
        self.brain = brain or Script()
        self.kind, self.model, self.key, self.context, self.version = kind, model, key, context, version
        self.adapters = {}
        """Name → path, as served."""
        self.loads = False
        """Whether adapters may be loaded while it runs."""
        self.refuses_adapter = None
        self.unknown_fields = ()
        """Fields of a request that it refuses with 400, as OpenAI's newer models do."""
        self.gives_logprobs = True
        self.slots = 4
        self.keeps_constraints = True
        self.requests, self.faults = [], []
        self.disconnected = threading.Event()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"server_": self})
        self._server = _QuietServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.root = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{self.root}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def models(self):
        row = {"object": "model", "owned_by": OWNERS.get(self.kind, "someone")}
        base = {"id": self.model, **row}
        if self.kind == "vllm":
            base |= {"root": f"/models/{self.model}", "parent": None, "max_model_len": self.context}
        if self.kind == "llama.cpp":
            base |= {"meta": {"n_ctx": self.context}}
        more = (
            []
            if self.kind == "llama.cpp"
            else [{"id": n, **row, "parent": self.model, "root": p} for n, p in self.adapters.items()]
        )
        return {"object": "list", "data": [base, *more]}

    def adapter_of(self, body):
        """Return which adapter a request names; raises KeyError for an unknown model."""
        if self.kind == "llama.cpp":
            scales = {one["id"]: one["scale"] for one in body.get("lora", [])}
            names = list(self.adapters)
            on = [n for i, n in enumerate(names) if scales.get(i, 1.0) > 0]  # as started: on
            return on[0] if on else None
        if body["model"] in self.adapters:
            return body["model"]
        if body["model"] != self.model:
            raise KeyError(body["model"])
        return None

    @property
    def chats(self):
        return [body for path, body in self.requests if path.endswith("/chat/completions")]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Say nothing: clients that leave are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_ = None

    def do_GET(self):
        s = self.server_
        path = self.path.partition("?")[0]
        if path != "/health" and not self._allowed():
            return
        answers = {"/v1/models": s.models, "/health": dict, "/version": lambda: {"version": s.version}}
        if s.kind == "llama.cpp":
            answers["/props"] = lambda: {"total_slots": s.slots}
            answers["/lora-adapters"] = lambda: [
                {"id": i, "path": p, "scale": 1.0} for i, p in enumerate(s.adapters.values())
            ]
        if path in answers and not (path == "/version" and s.kind != "vllm"):
            self._json(200, answers[path]())
        else:
            self._error(404, "Not Found")

    def do_POST(self):
        s = self.server_
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with s._lock:
            s.requests.append((self.path, body))
        if not self._allowed():
            return
        path = self.path.partition("?")[0]
        if path.endswith("/chat/completions"):
            self._chat(body)
        elif path == "/tokenize" and s.kind == "vllm":
            tokens = s.brain.tokens(body["messages"], body.get("add_generation_prompt", True))
            self._json(200, {"count": len(tokens), "max_model_len": s.context, "tokens": tokens})
        elif path == "/apply-template" and s.kind == "llama.cpp":
            prompt = body.get("add_generation_prompt", True)
            self._json(200, {"prompt": json.dumps([body["messages"], prompt])})
        elif path == "/tokenize" and s.kind == "llama.cpp":
            self._json(200, {"tokens": s.brain.tokens(*json.loads(body["content"]))})
        elif path == "/api/show" and s.kind == "ollama":
            self._json(200, {"parameters": "num_ctx   8192\nstop  x", "model_info": {"llama.context_length": 131072}})
        elif path == "/v1/load_lora_adapter" and s.loads:
            self._load(body)
        else:
            self._error(404, "Not Found")

    def _load(self, body):
        s = self.server_
        if s.refuses_adapter and (why := s.refuses_adapter(body)):
            return self._error(400, why)
        s.adapters[body["lora_name"]] = body["lora_path"]
        if isinstance(s.brain, RealModel):
            s.brain.adapters[body["lora_name"]] = Path(body["lora_path"])
        self._send(200, "text/plain", f"Success: LoRA adapter '{body['lora_name']}' added successfully.".encode())

    def _allowed(self):
        s = self.server_
        given = self.headers.get("api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        if s.key and given != s.key:
            self._error(401, f"Incorrect API key provided: {given}")
            return False
        return True

    # ---- chat

    def _chat(self, body):
        s = self.server_
        with s._lock:
            fault = s.faults.pop(0) if s.faults else None
        if isinstance(fault, tuple):
            return self._send(fault[0], fault[1].pop("Content-Type", "application/json"), fault[2].encode(), fault[1])
        for name in s.unknown_fields:
            if name in body:
                return self._error(
                    400, f"Unsupported parameter: '{name}' is not supported with this model.", param=name
                )
        try:
            adapter = s.adapter_of(body)
        except KeyError:
            return self._error(404, f"The model `{body['model']}` does not exist.")
        length = len(s.brain.tokens(body["messages"], True))
        if length > s.context:
            return self._error(
                400, f"This model's maximum context length is {s.context} tokens, but {length} were given."
            )
        if fault:
            return getattr(_Faults, fault)(self, body)
        chunks = self._chunks(body, adapter, length)
        if body.get("stream"):
            with self._events() as send:
                for chunk in chunks:
                    send(f"data: {json.dumps(chunk)}\n\n")
                send("data: [DONE]\n\n")
            return None
        return self._json(200, _whole(list(chunks)))

    def _chunks(self, body, adapter, length):
        s = self.server_
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": body.get("model", ""), "choices": []}
        yield head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
        count, finish = 0, "stop"
        for text, value, top in self._constrained(body) or s.brain.write(body, adapter, body["messages"]):
            count += 1
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            if body.get("logprobs") and s.gives_logprobs:
                listed = sorted(top.items(), key=lambda one: -one[1])[: body.get("top_logprobs", 0)]
                rows = [{"token": t, "logprob": v, "bytes": list(t.encode())} for t, v in listed]
                choice["logprobs"] = {"content": [{"token": text, "logprob": value, "top_logprobs": rows}]}
            yield head | {"choices": [choice]}
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        finish = "length" if limit and count >= limit else "stop"
        yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
        if (body.get("stream_options") or {}).get("include_usage") or not body.get("stream"):
            yield head | {
                "usage": {"prompt_tokens": length, "completion_tokens": count, "total_tokens": length + count}
            }

    def _constrained(self, body):
        """Return the tokens of an answer within its constraint: the first choice, a text made for the pattern or schema."""
        s = self.server_
        asked = body.get("structured_outputs") or {
            k.removeprefix("guided_"): v for k, v in body.items() if k.startswith("guided_")
        }
        text = None
        if not s.keeps_constraints:
            return None
        if "choice" in asked:
            text = asked["choice"][-1]
        elif "regex" in asked:
            text = "2031"
        elif "response_format" in body:
            schema = body["response_format"]["json_schema"]["schema"]
            text = json.dumps(
                {
                    k: v.get("enum", ["2031"])[-1] if v.get("type") == "string" else 4
                    for k, v in schema["properties"].items()
                }
            )
        if text is None:
            return None
        top = dict.fromkeys(asked.get("choice", [text]), math.log(0.2)) | {text: math.log(0.6)}
        return [(text, top[text], top)]

    # ---- the wire

    @contextmanager
    def _events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def send(text):
            data = text.encode()
            for at in range(0, len(data), PIECE):
                part = data[at : at + PIECE]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.flush()

        try:
            yield send
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.server_.disconnected.set()
            self.close_connection = True

    def _json(self, status, content, headers=None):
        self._send(status, "application/json", json.dumps(content).encode(), headers)

    def _error(self, status, words, param=None):
        self._json(status, {"error": {"message": words, "type": "BadRequestError", "param": param, "code": status}})

    def _send(self, status, kind, data, headers=None):
        try:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.server_.disconnected.set()

    def log_message(self, *_):
        pass


def _chunk(text="", finish=None, **more):
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more})


class _Faults:
    """What goes wrong within an answer of status 200."""

    def stall(handler, body):
        """Nothing comes at all."""
        handler.server_.disconnected.wait(3)
        handler.close_connection = True

    def stall_in_the_middle(handler, body):
        with handler._events() as send:
            send(f"data: {_chunk('27 ')}\n\n")
            handler.server_.disconnected.wait(3)

    def pings(handler, body):
        """Signs of life, and no token."""
        with handler._events() as send:
            for _ in range(150):
                send(": ping\n\n")
                time.sleep(0.02)

    def cut(handler, body):
        """The connection ends in the middle of an event."""
        with handler._events() as send:
            send(f'data: {_chunk("27 ")}\n\ndata: {{"choi')
            handler.wfile.flush()
            handler.connection.shutdown(2)
            raise OSError

    def ends_early(handler, body):
        """The stream ends as if whole, without a finish reason."""
        with handler._events() as send:
            send(f"data: {_chunk('27 ')}\n\n")

    def bad_chunk(handler, body):
        with handler._events() as send:
            send("data: {'choices': []}\n\n")

    def no_choices(handler, body):
        with handler._events() as send:
            send('data: {"choices": []}\n\ndata: [DONE]\n\n')

    def no_choices_whole(handler, body):
        handler._json(200, {"choices": []})

    def html(handler, body):
        page = (
            "<html><head><title>Bad gateway</title><style>b{}</style></head><body><b>Try again later</b></body></html>"
        )
        handler._send(200, "text/html", page.encode())

    def error_body(handler, body):
        handler._json(200, {"error": {"message": "the model is overloaded", "code": 503}})

    def refusal_body(handler, body):
        handler._json(200, {"error": {"message": "you may not", "code": 403}})

    def error_in_stream(handler, body):
        with handler._events() as send:
            send(f"data: {_chunk('27 ')}\n\n")
            send('data: {"error": {"message": "CUDA out of memory", "code": 500}}\n\n')

    def filtered(handler, body):
        with handler._events() as send:
            send(f"data: {_chunk('', 'content_filter')}\n\ndata: [DONE]\n\n")

    def thinks_too_long(handler, body):
        with handler._events() as send:
            send(f"data: {_chunk('', 'length')}\n\ndata: [DONE]\n\n")

    def whole(handler, body):
        """A server that does not stream."""
        handler._json(200, _whole(list(handler._chunks({**body, "stream": False}, None, 7))))

    def separators(handler, body):
        """Characters that are line ends for Python, and none for the protocol; CR LF; an event of two data lines."""
        with handler._events() as send:
            first = json.dumps({"choices": [{"index": 0, "delta": {"content": "a\u2028b\x85c"}}]}, ensure_ascii=False)
            send(f"event: message\r\ndata: {first}\r\n\r\n")
            send('data:{"choices": [{"index": 0, "delta": {"content": " d"},\ndata: "finish_reason": "stop"}]}\n\n')


def _whole(chunks):
    parts = [c["choices"][0] for c in chunks if c["choices"]]
    text = "".join(p["delta"].get("content") or "" for p in parts)
    content = [row for p in parts for row in (p.get("logprobs") or {}).get("content", ())]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": parts[-1]["finish_reason"],
    }
    choice["logprobs"] = {"content": content} if content else None
    usage = next((c["usage"] for c in chunks if "usage" in c), None)
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


def engine_of(server, *, model="our-model", timeout_s=5.0, attempts=3, **options):
    endpoint = Endpoint(
        "openai", url=server.url, table="model", attempts=attempts, first_pause_s=0.01, timeout_s=timeout_s
    )
    return ServerEngine(endpoint, model, **options)


def ask(engine, count=1, **options):
    return engine.generate([ASKED] * count, max_tokens=20, **options)
