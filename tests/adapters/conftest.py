"""Each suite here runs once per implementation of its port."""

from __future__ import annotations
