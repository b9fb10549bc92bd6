"""LiteLLM as a client: answers, streams, tools, typed values, responses, and errors."""

import json

import litellm
from asked import MESSAGES, MODEL, MOST, QUESTION, TOOL, Part

NAME = f"openai/{MODEL}"
asked = {"model": NAME, "messages": MESSAGES, "max_tokens": MOST, "temperature": 1}
assert litellm.completion(**asked).choices[0].message.content
assert len(list(litellm.completion(**asked, stream=True))) > 1
(call,) = (
    litellm.completion(**asked, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    .choices[0]
    .message.tool_calls
)
assert call.function.name == "find_part"
Part.model_validate_json(call.function.arguments)
schema = {"type": "json_schema", "json_schema": {"name": "p", "schema": Part.model_json_schema()}}
text = litellm.completion(**asked, response_format=schema).choices[0].message.content
Part.model_validate(json.loads(text))
assert litellm.responses(model=NAME, input=QUESTION, max_output_tokens=MOST).output
try:
    litellm.completion(**{**asked, "model": "openai/nothing"})
except litellm.NotFoundError:
    print("done")
