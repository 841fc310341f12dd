"""What a server counts, as Prometheus reads it. A registry of its own, so that two servers in a process do not add up."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from doyen.serving.admission import Admission

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters and histograms of one server."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter("doyen_requests_total", "Requests answered.", ("route", "method", "status"), **own)
        self.seconds = Histogram(
            "doyen_request_seconds", "From a request to its last byte.", ("route",), buckets=_SECONDS, **own
        )
        self.first = Histogram(
            "doyen_first_text_seconds", "From a streamed question to its first text.", buckets=_SECONDS, **own
        )
        self.answers = Counter("doyen_answers_total", "Answers written.", ("arm", "answered"), **own)
        self.tokens = Counter("doyen_tokens_total", "Tokens of prompts and answers.", ("kind",), **own)
        self.left = Counter("doyen_clients_left_total", "Clients that left before their answer.", **own)

    def watch(self, asks: Admission, quick: Admission) -> None:
        """Tell how full the queues are whenever the metrics are read."""
        for name, queue in (("ask", asks), ("quick", quick)):
            gauge = Gauge(f"doyen_{name}_requests", "Requests that wait or are answered now.", registry=self._registry)
            gauge.set_function(lambda queue=queue: queue.count)
            refused = Gauge(f"doyen_{name}_refused", "Requests told to come later, so far.", registry=self._registry)
            refused.set_function(lambda queue=queue: queue.refused)

    def text(self) -> bytes:
        """Return all as Prometheus' text format."""
        found: bytes = generate_latest(self._registry)
        return found
