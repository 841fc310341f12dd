"""Beyond one machine: what a cluster gives, what it costs, and what it survives.

    python benchmarks/scale.py --part ray --work DIR --data DOCUMENTS [--files 400] [--repeats 3]
    python benchmarks/scale.py --part ray_kills --work DIR --data DOCUMENTS [--files 400] [--kills 10]

Results go to results/scale_PART.json. See scale_ray.py and scale_ray_kills.py for what is measured.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import parser, save
from scale_ray import ray_part
from scale_ray_kills import ray_kills_part

PARTS: dict[str, Callable[[Namespace], dict[str, Any]]] = {"ray": ray_part, "ray_kills": ray_kills_part}


def main() -> None:
    """Measure one part."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--part", choices=sorted(PARTS), required=True)
    options.add_argument("--data", type=Path, required=True, help="folder of documents")
    options.add_argument("--files", type=int, default=400, help="the first so many of them")
    options.add_argument("--repeats", type=int, default=3, help="of each way, for `ray`")
    options.add_argument("--kills", type=int, default=10, help="for `ray_kills`")
    given = options.parse_args()
    save(f"scale_{given.part}", PARTS[given.part](given), given.out)


if __name__ == "__main__":
    main()
