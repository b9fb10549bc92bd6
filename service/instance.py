"""Names one start of the service, so that /readyz tells whether it is the one just started."""

from __future__ import annotations

INSTANCE = "WARDROBE_INSTANCE"
"""Environment variable of what we start: a random name of this start, which /readyz repeats."""
