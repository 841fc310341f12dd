"""Random (user, label, query) cases through every endpoint that returns what a document says: how many leak?

    python benchmarks/access_labels.py --work DIR --cases 10000 --store lancedb
    python benchmarks/access_labels.py --work DIR --cases 10000 --store postgresql

A small served expert with labelled documents, near-copies across labels and adapters; a fake model that repeats all that it
is shown (tests/label_cases.py). A case leaks where an answer has the secret word, or the id, of a document that its key may
not see. PostgreSQL is the server that the tests run. Writes results/access_labels_STORE.json.
"""

from __future__ import annotations

import collections
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path

from measuring import parser, save

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from label_cases import REQUESTS, Guild
from postgresql_server import running_server, store_uri


def main() -> None:
    """Run the cases and write the figures."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--cases", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--store", choices=("lancedb", "postgresql"), default="lancedb")
    given = arguments.parse_args()
    statuses: collections.Counter[int] = collections.Counter()
    paths: collections.Counter[str] = collections.Counter()
    leaks = []
    given.work.mkdir(parents=True, exist_ok=True)
    server = running_server() if given.store == "postgresql" else contextlib.nullcontext()
    with server as socket, tempfile.TemporaryDirectory(dir=given.work) as folder:
        guild = Guild(Path(folder), store=store_uri(socket) if socket else "index")
        draw, started = random.Random(given.seed), time.perf_counter()
        for number in range(given.cases):
            if number and not number % 1000:
                print(f"{number} cases, {len(leaks)} leaks, {time.perf_counter() - started:.0f} s", flush=True)
            labels, request, answer, found = guild.case(draw)
            statuses[answer.status_code] += 1
            paths[request.split("{")[0].strip().split("/sessions/")[0]] += 1
            leaks += [{"labels": labels, "request": request, "documents": found}] if found else []
    row = {"cases": given.cases, "seed": given.seed, "leaked": len(leaks), "leaks": leaks[:20], "store": given.store}
    row |= {"kinds": len(REQUESTS), "statuses": dict(sorted(statuses.items())), "paths": dict(sorted(paths.items()))}
    save(f"access_labels_{given.store}", row | {"seconds": round(time.perf_counter() - started, 1)}, given.out)
    print(f"{given.cases} cases, {len(leaks)} leaks")


if __name__ == "__main__":
    main()
