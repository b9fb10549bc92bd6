"""LlamaIndex: answers, streams, tools and typed values."""

from asked import API_KEY, BASE_URL, MODEL, MOST, QUESTION, Part
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def find_part(part: str, exact: bool) -> str:
    """Says where a part is."""
    return f"{part} {exact}"


llm = OpenAILike(
    model=MODEL, api_base=BASE_URL, api_key=API_KEY, context_window=1024, max_tokens=MOST,
    temperature=1, is_chat_model=True, is_function_calling_model=True,
)  # fmt: skip
assert llm.complete(QUESTION).text
assert list(llm.stream_complete(QUESTION))
tool = FunctionTool.from_defaults(find_part, fn_schema=Part)
answer = llm.chat_with_tools([tool], user_msg=QUESTION, tool_required=True)
calls = llm.get_tool_calls_from_response(answer)
assert calls[0].tool_name == "find_part"
Part.model_validate(calls[0].tool_kwargs)
assert isinstance(llm.as_structured_llm(Part).complete(QUESTION).raw, Part)
print("done")
