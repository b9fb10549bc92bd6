"""Instructor: typed values by a tool and by a schema."""

import instructor
from asked import MESSAGES, MODEL, MOST, Part
from openai import OpenAI

for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_openai(OpenAI(), mode=mode)
    found = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, response_model=Part, max_tokens=MOST, temperature=1
    )
    assert isinstance(found, Part), mode
print("done")
