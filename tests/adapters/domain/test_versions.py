"""A version's states."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.names import Digest, Unit, VersionId
from adapters.domain.versions import Version, VersionState
from adapters.errors import IllegalTransition

C, L, T, R = (
    VersionState.CANDIDATE,
    VersionState.LIVE,
    VersionState.RETIRED,
    VersionState.REJECTED,
)
LEGAL = {(C, L), (C, R), (C, T), (L, T), (T, L)}


def a_version(state: VersionState = C) -> Version:
    return Version(
        id=VersionId(7),
        adapter="support",
        number=8,
        unit=Unit("support"),
        state=state,
        digest=Digest("a" * 64),
        base_fingerprint=Digest("b" * 64),
        rank=8,
        size_bytes=1,
        job_id=None,
        created_at=1.0,
    )


@pytest.mark.parametrize("before", list(VersionState))
@pytest.mark.parametrize("after", list(VersionState))
def test_a_version_moves_along_the_drawn_arrows_only(
    before: VersionState, after: VersionState
) -> None:
    version = a_version(before)
    if before is after:
        assert version.to(after) is version
    elif (before, after) in LEGAL:
        assert version.to(after).state is after
    else:
        with pytest.raises(IllegalTransition):
            version.to(after)


def test_a_version_is_called_by_adapter_and_number() -> None:
    assert a_version().name == "support:8"


@pytest.mark.parametrize("state", list(VersionState))
def test_all_but_a_rejected_version_may_answer_until_it_is_given_up(state: VersionState) -> None:
    version = a_version(state)
    assert version.servable is version.served.servable is (state is not R)
    assert not replace(version, withdrawn_at=2.0).servable
    assert not replace(version, collected_at=2.0).served.servable
