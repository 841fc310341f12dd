"""The chart rendered by Helm's own code, for tests."""

from pathlib import Path

import yaml

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "doyen"


def rendered(values):
    """Return the resources of a release `hr`, by (kind, name)."""
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        made = chart.render(values=values, name="hr", namespace="experts")
    text = "\n---\n".join(text for path, text in made.items() if not path.endswith("NOTES.txt"))
    rows = [row for row in yaml.safe_load_all(text) if isinstance(row, dict) and "kind" in row]
    return {(row["kind"], row["metadata"]["name"]): row for row in rows}
