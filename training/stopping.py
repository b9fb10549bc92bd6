"""How whatever waits or computes for long is ended at a good point."""

from __future__ import annotations


class Stopped(Exception):
    """The run was asked to stop and did, at a point from which it can go on."""
