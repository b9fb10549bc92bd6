"""The training curve as a picture: losses over steps, on one axis each."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw

SIZE = (960, 540)
MARGIN = 60
_PAPER, _INK, _GRID = "#ffffff", "#333333", "#dddddd"
_CURVES = {"train_loss": ("training", "#1f77b4"), "valid_loss": ("validation", "#d62728")}
Point = tuple[float, float]


def loss_png(curve: Iterable[Mapping[str, Any]]) -> bytes:
    """A PNG of the losses that steps have told; without any, of the empty axes."""
    told = list(curve)
    lines = {key: _points(told, key) for key in _CURVES}
    every = [point for points in lines.values() for point in points]
    image = Image.new("RGB", SIZE, _PAPER)
    draw = ImageDraw.Draw(image)
    steps = max((step for step, _ in every), default=1.0)
    top = _round_up(max((loss for _, loss in every), default=1.0))
    _axes(draw, steps=steps, top=top)
    for at, (key, (name, colour)) in enumerate(_CURVES.items()):
        places = [_place(step / steps, loss / top) for step, loss in lines[key]]
        if len(places) > 1:
            draw.line(places, fill=colour, width=2)
        for x, y in places if key == "valid_loss" or len(places) == 1 else ():
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        draw.text((SIZE[0] - 180, MARGIN + 20 * at), f"{name} loss", fill=colour)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _points(told: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    return [
        (float(point["step"]), float(point[key]))
        for point in told
        if point.get(key) is not None and math.isfinite(point[key])
    ]


def _axes(draw: ImageDraw.ImageDraw, *, steps: float, top: float) -> None:
    for quarter in range(5):
        share = quarter / 4
        left, y = _place(0.0, share)
        x, bottom = _place(share, 0.0)
        draw.line([(left, y), _place(1.0, share)], fill=_GRID)
        draw.text((left - 50, y - 6), f"{top * share:.3g}", fill=_INK)
        draw.text((x - 10, bottom + 10), f"{steps * share:.0f}", fill=_INK)
    draw.line([_place(0.0, 1.0), _place(0.0, 0.0), _place(1.0, 0.0)], fill=_INK)
    draw.text((SIZE[0] / 2, SIZE[1] - 25), "step", fill=_INK)
    draw.text((10, 20), "nats", fill=_INK)


def _place(x: float, y: float) -> Point:
    """Of shares of both axes, in pixels from above."""
    width, height = (side - 2 * MARGIN for side in SIZE)
    return MARGIN + x * width, SIZE[1] - MARGIN - y * height


def _round_up(top: float) -> float:
    """One, two or five times a power of ten."""
    if top <= 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(top))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= top)
