"""LangChain: answers, streams, tools, typed values, and the same over responses."""

from asked import MODEL as NAME
from asked import MOST, QUESTION, Part
from langchain_openai import ChatOpenAI

chat = ChatOpenAI(model=NAME, max_tokens=MOST, temperature=1)
assert isinstance(chat.invoke(QUESTION).content, str)
assert len(list(chat.stream(QUESTION))) > 1
(call,) = (
    chat.bind_tools([Part], tool_choice="any", parallel_tool_calls=False)
    .invoke(QUESTION)
    .tool_calls
)
assert call["name"] == "Part"
Part.model_validate(call["args"])
for method in ("json_schema", "function_calling"):
    assert isinstance(chat.with_structured_output(Part, method=method).invoke(QUESTION), Part)
over_responses = ChatOpenAI(model=NAME, max_tokens=MOST, temperature=1, use_responses_api=True)
assert over_responses.invoke(QUESTION).text
(call,) = (
    over_responses.bind_tools([Part], tool_choice="any", parallel_tool_calls=False)
    .invoke(QUESTION)
    .tool_calls
)
Part.model_validate(call["args"])
print("done")
