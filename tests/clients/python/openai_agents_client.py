"""openai-agents, over responses (its default) and over chat: a tool's call, and a typed value."""

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
)
from asked import MODEL, MOST, QUESTION, Part
from openai import AsyncOpenAI

seen = []


@function_tool
def find_part(part: Part) -> str:
    """Says where a part is."""
    seen.append(part)
    return "on the desk"


for kind in (OpenAIResponsesModel, OpenAIChatCompletionsModel):
    model = kind(model=MODEL, openai_client=AsyncOpenAI())
    settings = ModelSettings(max_tokens=MOST, temperature=1)
    typed = Agent(name="typed", model=model, output_type=Part, model_settings=settings)
    assert isinstance(Runner.run_sync(typed, QUESTION).final_output, Part), kind
    forced = ModelSettings(
        max_tokens=MOST, temperature=1, tool_choice="required", parallel_tool_calls=False
    )
    calling = Agent(
        name="calling", model=model, tools=[find_part], model_settings=forced,
        tool_use_behavior="stop_on_first_tool",
    )  # fmt: skip
    assert Runner.run_sync(calling, QUESTION).final_output == "on the desk", kind
assert [type(part) for part in seen] == [Part, Part]
print("done")
