"""The recipe of a base that is built in seconds: too small to know anything, whole otherwise."""

from __future__ import annotations

from training.base.recipe import BaseRecipe

SMALL_BASE = BaseRecipe(
    vocabulary=512,
    hidden=64,
    layers=2,
    heads=1,
    feed_forward=128,
    tokenizer_documents=300,
    window=64,
    batch=8,
    steps=20,
)
