"""The openai SDK of the major version before the one that the other tests use."""

import openai
from asked import MESSAGES, MODEL, MOST, QUESTION, TOOL, Part

client = openai.OpenAI()
asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": MOST, "temperature": 1}
assert client.chat.completions.parse(**asked, response_format=Part).choices[0].message.parsed
(call,) = (
    client.chat.completions.create(
        **asked, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    .choices[0]
    .message.tool_calls
)
Part.model_validate_json(call.function.arguments)
parsed = client.responses.parse(
    model=MODEL, input=QUESTION, text_format=Part, max_output_tokens=MOST
)
assert isinstance(parsed.output_parsed, Part)
with client.chat.completions.stream(**asked) as stream:
    assert [event.type for event in stream][-1] == "content.done"
found = ""
try:
    client.chat.completions.create(**{**asked, "model": "nothing"})
except openai.NotFoundError as error:
    found = error.code
assert found == "model_not_found"
print("done")
