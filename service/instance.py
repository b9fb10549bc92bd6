"""The name of one start: who asks /readyz learns whether it is the service that was started."""

from __future__ import annotations

INSTANCE = "WARDROBE_INSTANCE"
"""Environment variable of what we start: a random name of this start, which /readyz repeats."""
