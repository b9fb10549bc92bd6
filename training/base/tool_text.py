"""Tools in the chat templates of the embedded bases, as pieces of Jinja: the way of Hermes.

Wording: the chat template of Qwen2.5 (Apache-2.0), of which vLLM's parser `hermes` reads the calls.
A conversation without tools is rendered as if these pieces were not there.
"""

TOOL_TEXT = (
    "{{ '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}"
    "{% for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}"
    "{{ '\n</tools>\n\nFor each function call, return a json object with function name and "
    "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>' }}"
)
CALL_TEXT = (
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '\n' if message['content'] or not loop.first }}"
    "{{ '<tool_call>\n' }}"
    """{{ '{"name": ' }}{{ call['function']['name'] | tojson }}"""
    """{{ ', "arguments": ' }}{{ call['function']['arguments'] | tojson }}"""
    "{{ '}\n</tool_call>' }}"
    "{% endfor %}"
)
RESULT_TEXT = "{{ '<tool_response>\n' + message['content'] + '\n</tool_response>' }}"
