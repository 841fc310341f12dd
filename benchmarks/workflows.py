"""Workflows: forms, throughput, kills, and the three arms on a flow of the sample company.

    python benchmarks/workflows.py --work DIR --part schemas [--rows 2000]
    python benchmarks/workflows.py --work DIR --part throughput [--rows 500] [--few 25]
    python benchmarks/workflows.py --work DIR --part kills [--rows 5000] [--kills 10]
    python benchmarks/workflows.py --work DIR --part flow --flow triage [--limit N] [--epochs N]

Bars: every output is valid by its schema or one of its choices; at least 3 times the rows of `transformers.generate`, one row at a time,
with 400 tokens of shared prefix and 40 written; after 10 kills each row is in the output once; on triage, rag+finetuned above rag and above
finetuned in right decisions (intervals above zero), and at least 50% of rows straight through at no more than 5% errors. Results:
`workflows_PART.json` (`workflows_triage.json`, …). The default model.
"""

from __future__ import annotations

import csv
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
from measuring import adapter_figures, parser, save
from random_schemas import random_case

import doyen
from doyen.cli.output import Bar
from doyen.errors import DoyenError
from doyen.models.fetching import require_model
from doyen.models.openvino_engine import OpenVINOEngine
from doyen.workflows.evaluating import evaluate_workflow
from doyen.workflows.examples import build_workflow_examples
from doyen.workflows.inputs import open_input
from doyen.workflows.opening import open_setup
from doyen.workflows.prompting import asked_of
from doyen.workflows.reading import load_workflow
from doyen.workflows.running import Run, run_workflow

MODEL = "smollm2-135m-instruct"
COMPANY = Path(__file__).parents[1] / "examples" / "insurer"
TABLES = {"triage": "claims.csv", "mails": "mails.csv", "compliance": "texts.csv"}
ROWS_A_FLOW, TOKENS = 50, 40
WORDS = "water storm roof cellar policy claim ladder harbour crane Schaden Keller größer 損害 вода 12 4,500 2026-03-01 €300".split()


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--part", choices=("schemas", "throughput", "kills", "flow"), required=True)
    options.add_argument("--rows", type=int, default=0)
    options.add_argument("--few", type=int, default=25, help="throughput: rows that transformers gets")
    options.add_argument("--kills", type=int, default=10)
    options.add_argument("--flow", choices=tuple(TABLES), default="triage")
    options.add_argument("--limit", type=int, default=None, help="flow: labelled test rows")
    options.add_argument("--epochs", type=int, default=None, help="flow: epochs of training, in place of the setting")
    options.add_argument("--seed", type=int, default=5)
    arguments = options.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    name, result = PARTS[arguments.part](arguments)
    for bar, value in result["bars"].items():
        print(f"{bar}: {value}")
    save(name, result, arguments.out)


def expert_of(work: Path) -> Path:
    expert = work / "expert"
    if not (expert / "doyen.toml").exists():
        doyen.init(expert)
    return expert


def random_text(chance: random.Random) -> str:
    kind = chance.randrange(20)
    if kind == 0:
        return "?"
    if kind == 1:
        return " ".join(chance.choices(WORDS, k=600))
    return " ".join(chance.choices(WORDS, k=chance.randrange(3, 60)))


# ---- every output has its form


def schemas(arguments: Any) -> tuple[str, dict[str, Any]]:
    """Run random rows through flows with random schemas and choices, and check every value by itself."""
    chance = random.Random(arguments.seed)
    engine = OpenVINOEngine(require_model(MODEL))
    rows, seed, begun = arguments.rows or 2000, 0, time.perf_counter()
    counts = {"rows": 0, "outputs": 0, "valid": 0, "failed": 0}
    faults: list[str] = []
    while counts["rows"] < rows:
        seed, schema = next_object(seed)
        count = min(ROWS_A_FLOW, rows - counts["rows"])
        flow, table = schema_flow(arguments.work / f"flow{seed}", schema, chance, count)
        out = arguments.work / f"flow{seed}" / "out.jsonl"
        try:
            report = run_workflow(expert_of(arguments.work), flow, table, out, engine=engine, again=True)
        except DoyenError as error:
            print(f"flow {seed} is refused: {error}")
            continue
        counts["rows"] += report.rows
        check_rows(out, schema, flow, counts, faults)
        print(f"{counts}, {time.perf_counter() - begun:.0f} s", flush=True)
    share = counts["valid"] / max(counts["outputs"], 1)
    bars = {"valid share (bar: 1.0)": share, "rows without an output": counts["failed"]}
    return "workflows_schemas", {
        "bars": bars,
        **counts,
        "faults": faults[:20],
        "seconds": round(time.perf_counter() - begun, 1),
    }


def next_object(seed: int) -> tuple[int, dict[str, Any]]:
    """Return the next random schema that is of an object with properties."""
    while True:
        seed += 1
        schema, _ = random_case(seed)
        if schema.get("type") == "object" and schema.get("properties"):
            return seed, schema


def schema_flow(folder: Path, schema: dict[str, Any], chance: random.Random, rows: int) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    choices = chance.sample(WORDS, chance.randrange(2, 9))
    (folder / "workflow.toml").write_text(
        '[input]\ncolumns = { text = "text" }\n'
        f'[steps.kind]\ndo = "classify"\ninstruction = "Choose."\ninput = "{{text}}"\nchoices = {json.dumps(choices, ensure_ascii=False)}\n'
        '[steps.facts]\ndo = "extract"\ninstruction = "Take the facts out."\ninput = "{text}"\nmax_tokens = 96\nschema_file = "schema.json"\n',
        encoding="utf-8",
    )
    table = folder / "in.csv"
    write_csv(table, ["text"], [[random_text(chance)] for _ in range(rows)])
    return folder / "workflow.toml", table


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def check_rows(out: Path, schema: dict[str, Any], flow: Path, counts: dict[str, int], faults: list[str]) -> None:
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    choices = set(load_workflow(flow).step("kind").choices)  # type: ignore[attr-defined]
    for record in trail(out):
        if record["status"] == "failed":
            counts["failed"] += 1
            faults.append(f"{flow.parent.name}: {record['reason'][:200]}")
            continue
        for fault in (
            [] if record["values"]["kind"] in choices else ["no choice"],
            validator.iter_errors(record["values"]["facts"]),
        ):
            said = next(iter(fault), None)
            counts["outputs"] += 1
            counts["valid"] += said is None
            faults += [] if said is None else [f"{flow.parent.name}: {str(said)[:200]}"]


def trail(out: Path) -> list[dict[str, Any]]:
    lines = out.with_name(f"{out.name}.audit.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


# ---- throughput


def throughput(arguments: Any) -> tuple[str, dict[str, Any]]:
    """Write 40 tokens for each of distinct rows behind one instruction: a flow, and transformers row by row on some of them."""
    chance = random.Random(arguments.seed)
    rows = arguments.rows or 500
    engine = OpenVINOEngine(require_model(MODEL), finished=lambda text: False)
    engine.tokenizer  # noqa: B018 - sets the turn's ends, which are then taken away: each answer has all its tokens
    engine._stops = []
    folder = arguments.work / "throughput"
    flow = draft_flow(folder, engine)
    write_csv(folder / "in.csv", ["text"], [[f"{n}: " + " ".join(chance.choices(WORDS, k=25))] for n in range(rows)])
    setup = open_setup(expert_of(arguments.work), load_workflow(flow), arm="base", engine=engine)
    given = open_input(str(folder / "in.csv"))
    step = setup.flow.step("reply")
    prompts = [asked_of(setup.flow, step, row, ()).messages for row, _ in given.read()]  # type: ignore[arg-type]
    begun = time.perf_counter()
    report = Run(setup, given, folder / "out.jsonl", judged=False).go(again=True)
    ours = rows / (time.perf_counter() - begun)
    written = [s["completion_tokens"] for record in trail(folder / "out.jsonl") for s in record["steps"]]
    theirs = transformers_rows(prompts[: arguments.few])
    bars = {"rows over transformers' (bar: 3)": round(ours / theirs["rows_per_second"], 2)}
    return "workflows_throughput", {
        "bars": bars,
        "rows": rows,
        "failed": report.failed,
        "rows_per_second": round(ours, 3),
        "prompt_tokens_median": statistics.median(engine.count_tokens(p) for p in prompts),
        "prefix_tokens": engine.count_tokens(prompts[0][:1]),
        "tokens_written_median": statistics.median(written),
        "transformers": theirs,
    }


def draft_flow(folder: Path, engine: OpenVINOEngine) -> Path:
    """Write a flow whose instruction has about 400 tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    sentence = "Answer the customer in the house's style, name the desk that is in charge, and promise nothing that the policy does not say."
    times = round(400 / engine.count_tokens([{"role": "system", "content": sentence}]))
    text = " ".join(f"Rule {n}: {sentence}" for n in range(1, times + 1))
    (folder / "workflow.toml").write_text(
        f'decision = "reply"\n[input]\ncolumns = {{ text = "text" }}\n[steps.reply]\ndo = "draft"\ninstruction = {json.dumps(text)}\n'
        f'input = "{{text}}"\nmax_tokens = {TOKENS}\n',
        encoding="utf-8",
    )
    return folder / "workflow.toml"


def transformers_rows(prompts: list[Any]) -> dict[str, float]:
    """Ask transformers' `generate` row by row, greedily and for as many tokens, in the precision that this machine has."""
    import torch

    from doyen.models.engine import load_causal_model, load_tokenizer, render, working_dtype

    folder = require_model(MODEL)
    tokenizer = load_tokenizer(folder)
    model = load_causal_model(folder, dtype=working_dtype()).eval()
    options = {
        "max_new_tokens": TOKENS,
        "min_new_tokens": TOKENS,
        "do_sample": False,
        "pad_token_id": tokenizer.pad_token_id,
    }

    def write(prompt: Any) -> None:
        tokens = torch.tensor([render(tokenizer, prompt)])
        with torch.inference_mode():
            model.generate(tokens, attention_mask=torch.ones_like(tokens), **options)

    write(prompts[0])
    begun = time.perf_counter()
    for prompt in prompts:
        write(prompt)
    seconds = time.perf_counter() - begun
    return {
        "rows": len(prompts),
        "rows_per_second": round(len(prompts) / seconds, 4),
        "precision": str(working_dtype()),
    }


# ---- kills


def kills(arguments: Any) -> tuple[str, dict[str, Any]]:
    """Kill `doyen run` at random moments of its work, and go on each time; each row is in the output once, in order."""
    chance = random.Random(arguments.seed)
    rows, folder = arguments.rows or 5000, arguments.work / "kills"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workflow.toml").write_text(
        '[input]\nid = "n"\ncolumns = { n = "text", text = "text" }\n[steps.kind]\ndo = "classify"\ninstruction = "What is it about?"\n'
        'input = "{text}"\nchoices = ["water", "storm", "other"]\n',
        encoding="utf-8",
    )
    table, out = folder / "in.csv", folder / "out.csv"
    write_csv(table, ["n", "text"], [[f"R{n}", f"{n} " + " ".join(chance.choices(WORDS, k=4))] for n in range(rows)])
    journal = out.with_name("out.csv.audit.jsonl")
    for path in (out, journal):
        path.unlink(missing_ok=True)
    arm = ["--arm", "base", "--expert", str(expert_of(arguments.work)), "--json"]
    command = [sys.executable, "-m", "doyen", "run", str(folder / "workflow.toml"), str(table), "-o", str(out), *arm]
    done_at: list[int] = []
    begun = time.perf_counter()
    while len(done_at) < arguments.kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        target = rows * (len(done_at) + chance.uniform(0.2, 0.8)) / (arguments.kills + 1)
        while process.poll() is None and lines_of(journal) < target:
            time.sleep(chance.uniform(0, 0.2))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        done_at.append(lines_of(journal))
        print(f"killed at {done_at[-1]} lines", flush=True)
    final = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    with out.open(encoding="utf-8", newline="") as file:
        ids = [row["n"] for row in csv.DictReader(file)]
    wanted = [f"R{n}" for n in range(rows)]
    in_trail = [record["row"] for record in trail(out)]
    bars = {
        "kills (bar: 10)": len(done_at),
        "each row once and in order": ids == wanted,
        "each row once in the trail": in_trail == list(range(1, rows + 1)),
    }
    seconds = round(time.perf_counter() - begun, 1)
    return "workflows_kills", {"bars": bars, "rows": rows, "killed_at": done_at, "exit_code": final, "seconds": seconds}


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


# ---- the three arms


def flow_arms(arguments: Any) -> tuple[str, dict[str, Any]]:
    """Train on the flow's labelled rows, and run its test rows under each arm."""
    expert, name = expert_of(arguments.work), arguments.flow
    folder = COMPANY / "flows" / name
    doyen.ingest(expert, [COMPANY / "documents", COMPANY / "flows" / "documents"])
    labelled = folder / TABLES[name]
    flow = load_workflow(folder)
    adapter = flow.adapter or name
    examples = None
    if not (expert / "adapters" / adapter / "manifest.json").exists():
        examples = build_workflow_examples(expert, flow, labelled)
        print(
            f"{examples.train} examples, {examples.validation} for validation; left out: {examples.left_out}",
            flush=True,
        )
        train(expert, adapter, arguments.epochs)
    with Bar("rows") as bar:
        report = evaluate_workflow(
            expert,
            flow,
            labelled,
            adapter=adapter,
            out=arguments.work / f"report-{name}",
            limit=arguments.limit,
            progress=bar,
            say=print,
        )
    gains = {f"{d['arm']} - {d['minus']}, right decisions (bar: above 0)": d for d in report["differences"]}
    at = report["arms"]["rag+finetuned"]["confidence"].get("at_threshold") or {}
    bars = gains | {
        "straight through at the threshold, rag+finetuned (bar: 0.5)": at.get("through"),
        "errors of these (bar: at most 0.05)": at.get("errors"),
    }
    result = {"bars": bars, "report": report, "adapter": adapter_figures(expert, adapter)}
    return f"workflows_{name}", result | ({"examples": examples.variants} if examples else {})


def train(expert: Path, adapter: str, epochs: int | None) -> None:
    overrides = {} if epochs is None else {"epochs": epochs}
    with Bar("steps") as bar:
        doyen.finetune(
            expert,
            name=adapter,
            say=print,
            report=lambda p: bar("training", p.step, p.steps, f"loss {p.loss:.3f} {p.tokens_per_s:.0f} tokens/s"),
            **overrides,
        )


PARTS = {"schemas": schemas, "throughput": throughput, "kills": kills, "flow": flow_arms}


if __name__ == "__main__":
    main()
