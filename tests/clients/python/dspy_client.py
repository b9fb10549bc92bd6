"""DSPy: a typed prediction by a schema, and a call of a tool."""

from typing import Literal

import dspy
from asked import API_KEY, BASE_URL, MESSAGES, MODEL, MOST, QUESTION, TOOL, Part


class Served(dspy.LM):
    """Says what DSPy's catalogue does not know of a model that is served here."""

    supports_response_schema = True
    supported_params = frozenset({"response_format"})


lm = Served(
    f"openai/{MODEL}", api_base=BASE_URL, api_key=API_KEY, max_tokens=MOST, temperature=1.0,
    cache=False,
)  # fmt: skip


class Find(dspy.Signature):
    """Says which part is asked for."""

    question: str = dspy.InputField()
    part: Literal["lamp", "desk"] = dspy.OutputField()
    exact: bool = dspy.OutputField()


with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
    found = dspy.Predict(Find)(question=QUESTION)
    Part(part=found.part, exact=found.exact)
(output,) = lm(messages=MESSAGES, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
(call,) = output["tool_calls"]
Part.model_validate_json(call.function.arguments)
print("done")
