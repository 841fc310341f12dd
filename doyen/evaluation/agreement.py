"""Two raters' verdicts on the same answers → how far they agree: share, Cohen's kappa, and the table of both.

Cohen 1960. Knows neither who rates nor what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def agreement(first: Sequence[str], second: Sequence[str]) -> dict[str, Any]:
    """Return `{n, share, kappa, table}`; `table[a][b]` counts answers that the raters called a and b.

    `share` is that of the answers that both call the same. `kappa` is that beyond chance: 1 is perfect, 0 chance; None where
    there are no answers, or both always say the same one thing, so that chance agrees wholly.

    Raises:
        ValueError: the verdicts are not as many.
    """
    pairs = Counter(zip(first, second, strict=True))
    n = pairs.total()
    if not n:
        return {"n": 0, "share": None, "kappa": None, "table": {}}
    share = sum(count for (a, b), count in pairs.items() if a == b) / n
    ones, others = Counter(first), Counter(second)
    chance = sum(ones[name] * others[name] for name in ones) / n**2
    kappa = None if chance == 1 else round((share - chance) / (1 - chance), 4)
    rows = {a: {b: pairs[a, b] for b in sorted(others) if pairs[a, b]} for a in sorted(ones)}
    return {"n": n, "share": round(share, 4), "kappa": kappa, "table": rows}
