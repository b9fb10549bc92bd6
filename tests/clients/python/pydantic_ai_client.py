"""Pydantic AI: an agent's answer as text, and typed by a tool (its default) and by a schema."""

from asked import API_KEY, BASE_URL, MODEL, MOST, QUESTION, Part
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=BASE_URL, api_key=API_KEY)
# a base of this size repeats a call that it may repeat until its answer is full
settings = {"max_tokens": MOST, "temperature": 1.0, "parallel_tool_calls": False}
for kind in (OpenAIChatModel, OpenAIResponsesModel):
    model = kind(MODEL, provider=provider)
    assert Agent(model, model_settings=settings).run_sync(QUESTION).output
    for output in (Part, NativeOutput(Part)):
        agent = Agent(model, output_type=output, model_settings=settings, retries=3)
        assert isinstance(agent.run_sync(QUESTION).output, Part), (kind, output)
print("done")
