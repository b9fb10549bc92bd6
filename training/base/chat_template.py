"""What the text of a chat template tells: its training form, its switches, how it takes content."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta, nodes

from adapters.domain.base_profile import THINKING_SWITCHES

_TRAINING = "_training.jinja"
_MARKS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def training_form(template: str) -> str | None:
    """The form that TRL ships for training on a base with this very template, if it knows it.

    Read from TRL's folder: its own look-up imports torch.
    """
    found = importlib.util.find_spec("trl")
    for place in (found.submodule_search_locations or ()) if found else ():
        for form in sorted((Path(place) / "chat_templates").glob(f"*{_TRAINING}")):
            original = form.with_name(form.name.removesuffix(_TRAINING) + ".jinja")
            if original.is_file() and original.read_text("utf-8") == template:
                return form.read_text("utf-8")
    return None


def thinking_options(template: str, *, thinking: bool) -> dict[str, Any]:
    """`chat_template_kwargs` for trainer and server alike; empty where there is no switch."""
    try:
        names = meta.find_undeclared_variables(_parsed(template))
    except jinja2.TemplateError:
        return {}
    return {name: thinking for name in THINKING_SWITCHES if name in names}


def walks_over_content(template: str) -> bool:
    """Whether a message's content is looped over: vLLM then hands it over as a list of parts."""
    try:
        return any(_is_content(loop.iter) for loop in _loops(_parsed(template)))
    except jinja2.TemplateError:
        return False


def _loops(template: nodes.Template) -> Iterator[nodes.For]:
    """Those over what could be content; inside a macro, that is a parameter given content."""
    given: dict[str, set[str]] = {}
    for call in template.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and any(map(_is_content, call.args)):
            given.setdefault(call.node.name, set())
    inside = {
        id(loop)
        for macro in template.find_all(nodes.Macro)
        for loop in macro.find_all(nodes.For)
        if macro.name not in given
    }
    for loop in template.find_all(nodes.For):
        if id(loop) not in inside:
            yield loop


def _is_content(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Filter) and node.node is not None:
        return _is_content(node.node)
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    return isinstance(node, nodes.Name) and node.name == "content"


def _parsed(template: str) -> nodes.Template:
    reader = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])  # noqa: S701
    return reader.parse(_MARKS.sub("", template))
