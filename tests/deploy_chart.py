"""The chart linted and rendered by Helm's own code, for tests.

Helm is written in Go and comes as a library that brings Go's runtime along, with threads and gigabytes of address space: so it
works in a process of its own, and the other tests of this one have none of it.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import yaml

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "doyen"


class Refused(Exception):
    """Helm's words for values that the chart refuses."""


def rendered(values):
    """Return the resources of a release `hr`, by (kind, name)."""
    made = _helm(json.dumps(values))
    if made["refused"]:
        raise Refused(made["refused"])
    rows = [row for row in yaml.safe_load_all(made["text"]) if isinstance(row, dict) and "kind" in row]
    return {(row["kind"], row["metadata"]["name"]): row for row in rows}


def lint_findings(values):
    """Return what `helm lint --strict` finds, from warnings on."""
    return _helm(json.dumps(values))["findings"]


@cache
def _helm(values):
    done = subprocess.run([sys.executable, __file__], input=values, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _answer(values):
    from helm_python import Chart, HelmError

    try:
        with Chart.load(CHART) as chart:
            made = chart.render(values=values, name="hr", namespace="experts")
    except HelmError as error:
        return {"refused": str(error), "findings": _findings(values), "text": ""}
    text = "\n---\n".join(text for path, text in made.items() if not path.endswith("NOTES.txt"))
    return {"refused": "", "findings": _findings(values), "text": text}


def _findings(values):
    from helm_python import lint

    return [f"{m['path']}: {m['error']}" for m in lint(CHART, values, strict=True)["messages"] if m["severity"] > 1]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_answer(json.load(sys.stdin))))
