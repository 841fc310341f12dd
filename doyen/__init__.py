"""doyen: a company's documents → an expert small language model, by retrieval, by fine-tuning, or both, measured.

The names below are imported when they are first used, so that `import doyen` and `doyen --help` load nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doyen.adapters import list_adapters
    from doyen.erasing import remove_documents
    from doyen.errors import DoyenError
    from doyen.evaluation.advice import advise
    from doyen.evaluation.comparison import compare
    from doyen.evaluation.constraints import Constraints
    from doyen.evaluation.pairs import plan_questions
    from doyen.evaluation.retrieval import evaluate_retrieval
    from doyen.evaluation.run_differences import compare_runs
    from doyen.examples.building import build_examples, import_file
    from doyen.examples.held_out.making import make_questions, review_questions
    from doyen.expert import Expert
    from doyen.exporting.running import export_adapter
    from doyen.finetuning.retriever.running import finetune_retriever, undo_retriever
    from doyen.finetuning.running import finetune, recalibrate
    from doyen.folder import init, status
    from doyen.ingesting import ingest
    from doyen.ingesting.reembedding import reembed
    from doyen.planning import plan
    from doyen.records import Answer, Chunk, Citation, Document, Example, Hit, Question
    from doyen.serving.model_server import serve_model
    from doyen.workflows.evaluating import evaluate_workflow
    from doyen.workflows.examples import build_workflow_examples
    from doyen.workflows.reading import load_workflow
    from doyen.workflows.running import run_workflow

_HOME = {
    "Answer": "doyen.records",
    "Chunk": "doyen.records",
    "Citation": "doyen.records",
    "Constraints": "doyen.evaluation.constraints",
    "Document": "doyen.records",
    "DoyenError": "doyen.errors",
    "Example": "doyen.records",
    "Expert": "doyen.expert",
    "Hit": "doyen.records",
    "Question": "doyen.records",
    "advise": "doyen.evaluation.advice",
    "build_examples": "doyen.examples.building",
    "build_workflow_examples": "doyen.workflows.examples",
    "compare": "doyen.evaluation.comparison",
    "compare_runs": "doyen.evaluation.run_differences",
    "evaluate_retrieval": "doyen.evaluation.retrieval",
    "evaluate_workflow": "doyen.workflows.evaluating",
    "export_adapter": "doyen.exporting.running",
    "finetune": "doyen.finetuning.running",
    "finetune_retriever": "doyen.finetuning.retriever.running",
    "import_file": "doyen.examples.building",
    "ingest": "doyen.ingesting",
    "init": "doyen.folder",
    "list_adapters": "doyen.adapters",
    "load_workflow": "doyen.workflows.reading",
    "make_questions": "doyen.examples.held_out.making",
    "plan": "doyen.planning",
    "plan_questions": "doyen.evaluation.pairs",
    "recalibrate": "doyen.finetuning.running",
    "reembed": "doyen.ingesting.reembedding",
    "remove_documents": "doyen.erasing",
    "review_questions": "doyen.examples.held_out.making",
    "run_workflow": "doyen.workflows.running",
    "serve_model": "doyen.serving.model_server",
    "status": "doyen.folder",
    "undo_retriever": "doyen.finetuning.retriever.running",
}

__all__ = [
    "Answer",
    "Chunk",
    "Citation",
    "Constraints",
    "Document",
    "DoyenError",
    "Example",
    "Expert",
    "Hit",
    "Question",
    "advise",
    "build_examples",
    "build_workflow_examples",
    "compare",
    "compare_runs",
    "evaluate_retrieval",
    "evaluate_workflow",
    "export_adapter",
    "finetune",
    "finetune_retriever",
    "import_file",
    "ingest",
    "init",
    "list_adapters",
    "load_workflow",
    "make_questions",
    "plan",
    "plan_questions",
    "recalibrate",
    "reembed",
    "remove_documents",
    "review_questions",
    "run_workflow",
    "serve_model",
    "status",
    "undo_retriever",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'doyen' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
