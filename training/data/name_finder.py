"""Finds names and places that stand in no directory, by a language model of spaCy's.

Off unless the unit names an installed package: none comes with Wardrobe, and none is fetched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from adapters.domain.data_policy import Entity
from adapters.errors import InvalidRequest
from training.data.pseudonyms import subject_of
from training.data.spans import Span

_LABELS: Mapping[str, Entity] = MappingProxyType(
    {
        "PERSON": Entity.PERSON,
        "PER": Entity.PERSON,
        "GPE": Entity.LOCATION,
        "LOC": Entity.LOCATION,
        "FAC": Entity.LOCATION,
    }
)
MAX_CHARACTERS = 50_000
"""Of one text that the model is given at once; its memory grows with it."""


class NameFinder:
    """`Finder` by a spaCy pipeline."""

    def __init__(self, pipeline: Any, entities: Collection[Entity]) -> None:
        self._pipeline, self._entities = pipeline, entities

    def find(self, text: str) -> Iterator[Span]:
        """See `Finder.find`."""
        for begins in range(0, len(text), MAX_CHARACTERS):
            for found in self._pipeline(text[begins : begins + MAX_CHARACTERS]).ents:
                entity = _LABELS.get(found.label_)
                if entity is not None and entity in self._entities:
                    yield Span(
                        start=begins + found.start_char,
                        end=begins + found.end_char,
                        entity=entity,
                        subject=subject_of(entity, found.text),
                    )


def load_names(model: str, entities: Collection[Entity]) -> NameFinder:
    """Raises InvalidRequest (`names_model`) where the package or spaCy is not installed."""
    try:
        import spacy
    except ImportError:
        raise _missing(model, "spaCy is not installed") from None
    if model not in spacy.util.get_installed_models():
        raise _missing(model, "it is not installed")
    keep = ["tok2vec", "transformer", "ner"]
    pipeline = spacy.load(model)
    pipeline.select_pipes(enable=[name for name in pipeline.pipe_names if name in keep])
    return NameFinder(pipeline, entities)


def _missing(model: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"the unit's `data.names_model` is {model}, and {why} where the trainer runs: install it "
        "there, or leave the setting empty",
        code="names_model",
    )
