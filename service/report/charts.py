"""Pictures as inline SVG: curves of a training, and bars side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from service.report.markup import Markup, element, joined

WIDTH, HEIGHT = 640.0, 240.0
_LEFT, _BOTTOM, _TOP, _RIGHT = 56.0, 28.0, 12.0, 12.0
COLOURS = ("#5b6b7b", "#2a78c2", "#1d8a5f")

Points = Sequence[tuple[float, float]]


def curves(lines: Mapping[str, Points], *, title: str) -> Markup:
    """Each line over the same axes; what is no finite number is left out."""
    shown = {
        name: [(x, y) for x, y in points if isfinite(x) and isfinite(y)]
        for name, points in lines.items()
    }
    points = [each for line in shown.values() for each in line]
    if not points:
        return element("p", "No curve was kept.", class_="note")
    most_x, most_y = max(x for x, _ in points), max(y for _, y in points)
    drawn = [
        _line(line, most_x, most_y, COLOURS[at % len(COLOURS)])
        for at, line in enumerate(shown.values())
        if line
    ]
    labels = [
        _text(_LEFT, HEIGHT - 8, "step 0"),
        _text(WIDTH - _RIGHT, HEIGHT - 8, f"step {most_x:g}", anchor="end"),
        _text(_LEFT - 6, _TOP + 10, f"{most_y:.3g}", anchor="end"),
        _text(_LEFT - 6, HEIGHT - _BOTTOM, "0", anchor="end"),
    ]
    return joined(_svg(title, HEIGHT, *_axes(), *drawn, *labels), _legend(list(shown)))


def bars(groups: Mapping[str, Mapping[str, float]], *, title: str) -> Markup:
    """A group of bars for each measure; values from 0 to 1."""
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    if not names:
        return element("p", "Nothing was scored.", class_="note")
    step, thick = 22.0, 16.0
    height = sum(len(values) * step + 30.0 for values in groups.values())
    drawn, y = [], 0.0
    for measure, values in groups.items():
        drawn.append(_text(0.0, y + 18.0, measure))
        y += 26.0
        for name, value in values.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            share = min(max(value, 0.0), 1.0) if isfinite(value) else 0.0
            wide = max(1.0, share * (WIDTH - 80.0))
            drawn.append(element("rect", x=0, y=y, width=round(wide, 1), height=thick, fill=colour))
            drawn.append(_text(wide + 6.0, y + 13.0, f"{value:.1%}"))
            y += step
        y += 4.0
    return joined(_svg(title, height, *drawn), _legend(names))


def _svg(title: str, height: float, *children: Markup) -> Markup:
    return element(
        "svg",
        element("title", title),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
    )


def _axes() -> list[Markup]:
    low, left = HEIGHT - _BOTTOM + 4, _LEFT
    return [
        element("line", x1=left, y1=_TOP, x2=left, y2=low, stroke="#b8c0c8"),
        element("line", x1=left, y1=low, x2=WIDTH - _RIGHT, y2=low, stroke="#b8c0c8"),
    ]


def _line(points: Points, most_x: float, most_y: float, colour: str) -> Markup:
    wide, high = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    placed = [
        (_LEFT + wide * x / (most_x or 1.0), _TOP + high * (1.0 - max(y, 0.0) / (most_y or 1.0)))
        for x, y in points
    ]
    if len(placed) == 1:
        return element("circle", cx=placed[0][0], cy=placed[0][1], r=3, fill=colour)
    said = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return element("polyline", points=said, fill="none", stroke=colour, stroke_width=2)


def _text(x: float, y: float, said: str, *, anchor: str = "start") -> Markup:
    return element("text", said, x=round(x, 1), y=round(y, 1), text_anchor=anchor)


def _legend(names: Sequence[str]) -> Markup:
    entries = [
        joined(element("span", "■", style=f"color:{COLOURS[at % len(COLOURS)]}"), f" {name}  ")
        for at, name in enumerate(names)
    ]
    return element("p", *entries, class_="note")
