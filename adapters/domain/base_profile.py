"""What is to be known of a base model before it is served and before any job is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

THINKING_SWITCHES = ("enable_thinking", "thinking")
"""What chat templates call the variable that turns thoughts on and off."""
BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about a base that stands in the way, or that one should know."""

    what: str
    blocking: bool
    """Whether no adapter can be trained on it and served with it."""


@dataclass(frozen=True, kw_only=True)
class LinearModule:
    """All linear layers of one name, such as `q_proj`."""

    name: str
    count: int
    shapes: tuple[tuple[int, int], ...]
    """Each (out, in) that occurs."""
    width: int
    """Sum of out + in over all of them: numbers of an adapter of rank 1."""


@dataclass(frozen=True, kw_only=True)
class ChatProfile:
    """How the base is talked to."""

    training_form: Literal["trl", "own"]
    ends_with: str
    """What an answer ends with, as the base learns it."""
    options: Mapping[str, bool]
    """`chat_template_kwargs`, the same in serving and in training."""
    conversations: Mapping[str, str]
    """Kind of conversation → `learnt`, or why it is refused."""
    tool_parser: str | None = None
    """vLLM's name for how the base writes tool calls; None where it knows none, or another way."""
    reasoning_parser: str | None = None
    """The same for how it marks its thoughts."""


@dataclass(frozen=True, kw_only=True)
class BaseProfile:
    """One base model; made by `training/base/profile.py`."""

    fingerprint: str | None
    """None where the weights are not at hand."""
    revision: str | None
    """The commit of a hub base."""
    architecture: str
    dtype: str
    """In which the weights are stored."""
    parameters: int
    context: int
    kv_numbers_per_token: int
    modules: tuple[LinearModule, ...]
    end_tokens: tuple[str, ...]
    chat: ChatProfile | None
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> bool:
        return not any(problem.blocking for problem in self.problems)

    @property
    def adapter_width(self) -> int:
        """Numbers of an adapter of rank 1 on all linear modules."""
        return sum(module.width for module in self.modules)

    def evolve(self, **changes: Any) -> BaseProfile:
        return replace(self, **changes)


def served_dtype(stored: str, *, on_gpu: bool) -> str:
    """In which the base is served, and trained: whoever rounds otherwise answers otherwise.

    A CPU keeps float32 as it is and computes halves in bfloat16; a GPU computes halves as they are
    stored, and float32 in bfloat16: vLLM's adapter kernels there take halves only.
    """
    if on_gpu:
        return stored if stored in ("bfloat16", "float16") else "bfloat16"
    return "float32" if stored == "float32" else "bfloat16"


def to_json(profile: BaseProfile) -> dict[str, Any]:
    """As plain values; `from_json` reads them back."""
    return asdict(profile)


def from_json(values: Mapping[str, Any]) -> BaseProfile:
    """Raises KeyError, TypeError for what `to_json` has not written."""
    chat = values["chat"]
    return BaseProfile(
        **{
            **values,
            "modules": tuple(
                LinearModule(**{**module, "shapes": tuple(map(tuple, module["shapes"]))})
                for module in values["modules"]
            ),
            "end_tokens": tuple(values["end_tokens"]),
            "chat": ChatProfile(**chat) if chat else None,
            "problems": tuple(Problem(**problem) for problem in values["problems"]),
        }
    )
