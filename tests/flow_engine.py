"""An engine without a model for tests of workflows: a function answers, and every answer keeps its constraint.

`Scripted(answer)` calls `answer(system, user)` for each prompt; it returns a text, or (text, probability). A choice that it does not
name gets the first option. An exception that it raises, the engine raises.
"""

import json
import math
import threading
import time

from doyen.models.constraints import Choices, JsonSchema
from doyen.models.engine import Completion


class Scripted:
    name, kind = "scripted", "scripted"
    context_tokens = 2000

    def __init__(self, answer=lambda system, user: "", *, seconds=0.0, context_tokens=2000):
        self.answer, self.seconds, self.context_tokens = answer, seconds, context_tokens
        self.batches = []
        self.adapters = []
        self._lock = threading.Lock()

    @property
    def prompts(self):
        """All prompts that were asked, in order."""
        return [prompt for batch in self.batches for prompt in batch]

    def generate(self, prompts, *, max_tokens, adapter=None, constraints=(), **_):
        self.batches.append([list(p) for p in prompts])
        self.adapters.append(adapter)
        if self.seconds:
            time.sleep(self.seconds * len(prompts))
        return [self._complete(p, c) for p, c in zip(prompts, constraints or [None] * len(prompts), strict=True)]

    def _complete(self, prompt, constraint):
        found = self.answer(prompt[0]["content"], prompt[-1]["content"])
        text, sure = found if isinstance(found, tuple) else (found, 0.9)
        chances = ()
        if isinstance(constraint, Choices):
            text = text if text in constraint.options else constraint.options[0]
            rest = (1 - sure) / max(1, len(constraint.options) - 1)
            chances = tuple(sure if o == text else rest for o in constraint.options)
        elif isinstance(constraint, JsonSchema) and not text:
            text = json.dumps({"amount": 1})
        total = math.log(sure) if isinstance(constraint, JsonSchema) else 0.0
        return Completion(
            text, self.count_tokens(prompt), 5, 0.0, None, math.log(sure), chances, total_log_probability=total
        )

    def count_tokens(self, messages):
        return sum(len(m["content"]) // 4 + 4 for m in messages)

    def template_hash(self):
        return "scripted"
