"""What embedding texts over an API will cost, about. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doyen.embedding import Embedder
from doyen.embedding.api import PRICES_OF, ApiEmbedder


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Tokens by four bytes each, and dollars where the price is known."""

    name: str
    host: str
    tokens: int
    price: float | None
    own_price: bool

    def __str__(self) -> str:
        """Say it in one sentence."""
        head = f"about {self.tokens:,} tokens are sent to {self.host} for {self.name}"
        if self.price is None:
            return f"{head}; their price is not known here ([embedder] price sets it)"
        source = "[embedder] price" if self.own_price else f"the price of {PRICES_OF}; [embedder] price sets another"
        return f"{head}: about US$ {self.tokens * self.price / 1e6:,.2f} ({source})"


def estimate_cost(embedder: Embedder, texts: Sequence[str], *, share: float = 1.0) -> CostEstimate | None:
    """Return what embedding will cost where `texts` are that share of them; None where nothing is sent."""
    if not isinstance(embedder, ApiEmbedder):
        return None
    tokens = sum(map(embedder.counter.count, texts))
    total = round(tokens / max(share, 1e-6))
    return CostEstimate(embedder.name, embedder.endpoint.host, total, embedder.price, embedder.own_price)
