"""HTML and SVG made of elements: every text is escaped, and only an element is not."""

from __future__ import annotations

from html import escape


class Markup(str):
    """What is markup already; made by `element` alone."""

    __slots__ = ()


Child = Markup | str | int | float | None
"""A number is written as it is, nothing where it is None."""
_EMPTY = frozenset({"meta", "line", "rect", "circle", "polyline", "path"})


def element(_name: str, *children: Child, **attributes: str | float | None) -> Markup:
    """`element("td", text, class_="no")` → `<td class="no">…</td>`.

    Names are the code's own, never a caller's. A trailing underscore of an attribute is dropped,
    others become hyphens.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if _name in _EMPTY:
        return Markup(f"<{_name}{written}/>")
    return Markup(f"<{_name}{written}>{joined(*children)}</{_name}>")


def joined(*children: Child) -> Markup:
    """One after another."""
    return Markup("".join(map(_written, children)))


def _written(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else escape(str(child))
