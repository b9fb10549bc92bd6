"""What every registry keeps of erasures: a key for each unit, and digests for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from adapters.domain.erasures import ErasedTerm
from adapters.domain.names import Unit
from adapters.registry import Registry
from tests.adapters.registry.values import OWNER, SUPPORT

TERM = ErasedTerm(digest=b"a" * 16, words=2)


def test_a_units_key_is_made_once_whoever_asks(registry: Registry) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: registry.erasures.key(SUPPORT), range(8)))
    assert len(keys) == 1
    assert len(next(iter(keys))) == 32
    assert registry.erasures.key(Unit("sales")) not in keys


def test_what_was_erased_stays_erased_and_is_the_units_own(registry: Registry) -> None:
    assert registry.erasures.add(SUPPORT, [TERM], OWNER, reason=None) == 1
    assert registry.erasures.add(SUPPORT, [TERM], OWNER, reason=None) == 0
    assert registry.erasures.of_unit(SUPPORT) == {TERM}
    assert registry.erasures.of_unit(Unit("sales")) == frozenset()
