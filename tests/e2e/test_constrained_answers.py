"""Constrained answers with the real default model: forms that it would not keep by itself, in one batch."""

import json
import re

import jsonschema
import pytest

from doyen.models.constraints import Choices, JsonSchema, Regex
from doyen.models.fetching import require_model
from doyen.models.openvino_engine import OpenVINOEngine

pytestmark = pytest.mark.e2e

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
    },
    "required": ["name", "age"],
}


def test_the_default_model_keeps_to_each_form_and_says_what_stands_in_the_text():
    engine = OpenVINOEngine(require_model("smollm2-135m-instruct"))
    asked = [
        "Anna is 34 years old. Write her name and age as JSON.",
        "The meeting is on 2026-03-14. On which date is the meeting?",
        "Paris is the capital of France. Which city is the capital of France?",
        "Write a poem about the sea that never ends.",
    ]
    held = [JsonSchema(PERSON), Regex(r"\d{4}-\d{2}-\d{2}"), Choices(("Rome", "Paris", "Berlin")), JsonSchema(PERSON)]
    prompts = [[{"role": "user", "content": text}] for text in asked]
    person, date, city, poem = engine.generate(prompts, max_tokens=40, constraints=held)
    assert json.loads(person.text) == {"name": "Anna", "age": 34}
    assert re.fullmatch(held[1].pattern, date.text)
    assert city.text == "Paris" and max(city.choice_probabilities) == city.choice_probabilities[1] > 0.5
    jsonschema.validate(json.loads(poem.text), PERSON)
