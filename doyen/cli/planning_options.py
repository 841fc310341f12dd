"""The options of `doyen plan`: of training a model first, then of a corpus and its questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Option(help="Catalogue name, folder or shape, as llama-70b (default: [model] name).", show_default=False),
]
Method = Annotated[str | None, typer.Option(help="full, lora or qlora (default: all).", show_default=False)]
Gpu = Annotated[
    str | None,
    typer.Option(help="A GPU's name or GiB: h100, 24, 2x24 (default: this machine).", show_default=False),
]
Gpus = Annotated[int | None, typer.Option(help="How many of them.", show_default=False)]
MaxTokens = Annotated[
    int | None, typer.Option(help="Longest example (default: [finetune] max_tokens).", show_default=False)
]
MicroBatchTokens = Annotated[
    int | None, typer.Option(help="Tokens computed at once (default: [finetune]).", show_default=False)
]
Rank = Annotated[int | None, typer.Option(help="LoRA rank (default: [finetune] rank).", show_default=False)]
Supervised = Annotated[float, typer.Option(help="Share of the tokens that are answers.")]
Tokens = Annotated[
    int | None, typer.Option(help="Tokens to train on, epochs included, for the hours.", show_default=False)
]
Documents = Annotated[
    str | None,
    typer.Option(help="Plan storage, ingest and serving of so many documents: 2000, 10k, 10M.", show_default=False),
]
Pages = Annotated[float | None, typer.Option(help="Pages of a document (default: as measured).", show_default=False)]
PageCharacters = Annotated[
    float | None, typer.Option(help="Characters of a page (default: as measured).", show_default=False)
]
DocumentBytes = Annotated[
    float | None, typer.Option(help="Bytes of a document's file (default: as measured).", show_default=False)
]
QuestionsPerDay = Annotated[str | None, typer.Option(help="Questions a day: 500, 20k, 1M.", show_default=False)]
Profile = Annotated[str, typer.Option(help="When they come: office, flat, or 24 shares with commas.")]
P95 = Annotated[float, typer.Option(help="Seconds that 95 of 100 answers may take, waiting included.")]
Hours = Annotated[float, typer.Option(help="Hours that the first ingest may take.")]
Cores = Annotated[int | None, typer.Option(help="Cores of a node (default: this machine's).", show_default=False)]
ChunksPerNode = Annotated[str, typer.Option(help="Most passages that a node searches.")]
Changed = Annotated[float, typer.Option(help="Share of the documents that a day changes.")]
UsdCoreHour = Annotated[float | None, typer.Option(help="US dollars a core-hour.", show_default=False)]
UsdGbMonth = Annotated[float | None, typer.Option(help="US dollars a GB of storage and month.", show_default=False)]
UsdGpuHour = Annotated[float | None, typer.Option(help="US dollars a GPU-hour.", show_default=False)]
GpuTokensPerS = Annotated[
    float | None, typer.Option(help="Tokens that a GPU reads and writes a second.", show_default=False)
]
Measure = Annotated[bool, typer.Option("--measure", help="Measure this machine's rates for such plans, and keep them.")]
Sample = Annotated[Path | None, typer.Option(help="Folder with files like yours, to measure on.", show_default=False)]
