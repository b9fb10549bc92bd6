"""What every client asks, and the type that it wants back."""

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict

MODEL = os.environ["MODEL"]
BASE_URL = os.environ["OPENAI_BASE_URL"]
API_KEY = os.environ["OPENAI_API_KEY"]
QUESTION = "Where is the lamp?"
MESSAGES = [{"role": "user", "content": QUESTION}]
MOST = 200
"""Tokens of an answer."""


class Part(BaseModel):
    """Names a part, and whether that is sure."""

    model_config = ConfigDict(extra="forbid")

    part: Literal["lamp", "desk"]
    exact: bool


TOOL = {
    "type": "function",
    "function": {
        "name": "find_part",
        "description": "Says where a part is.",
        "parameters": Part.model_json_schema(),
    },
}
