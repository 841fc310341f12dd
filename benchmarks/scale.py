"""Beyond one machine: what a cluster gives, what it costs, and what it survives.

    python benchmarks/scale.py --work DIR --part ray --data DOCUMENTS [--files 400] [--repeats 3] [--kills 10]

`ray`: one index of the same files, made by one and by two workers of a local Ray cluster, each on a machine (raylet) of its
own that runs on one core; by the plain path on one core; and by two workers that are killed so many times meanwhile. The
process that asks runs on all cores beside one and two workers, and on the plain path's core where the cost of Ray is measured.
Connecting to the cluster and loading the model are part of the time; `first_written_s` is when the first batch was written.

Bars: two workers at least 1.7 times one; Ray at most 15% slower than the plain path; every index equal to the plain one.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import parser, save
from scale_ray import ray_part

PARTS: dict[str, Callable[[Namespace], dict[str, Any]]] = {"ray": ray_part}


def main() -> None:
    """Measure one part; the other parts of the result file stay."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--part", choices=sorted(PARTS), required=True)
    options.add_argument("--data", type=Path, required=True, help="folder of documents")
    options.add_argument("--files", type=int, default=400, help="the first so many of them")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--kills", type=int, default=10)
    given = options.parse_args()
    out = given.out or Path(__file__).parent / "results" / "scale.json"
    kept = json.loads(out.read_text(encoding="utf-8")).get("parts", {}) if out.exists() else {}
    measured = PARTS[given.part](given)
    save("scale", {"parts": kept | {given.part: measured}}, out)


if __name__ == "__main__":
    main()
