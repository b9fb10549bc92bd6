"""Reads what an identity provider's roles and groups grant here.

    wardrobe:admin   wardrobe:metrics   wardrobe:support:infer

Other roles are others' business, unless the settings say which of these they stand for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from adapters.domain.names import Unit, is_name
from adapters.domain.principals import OF_A_UNIT, OF_THE_WHOLE, Scope
from adapters.errors import InvalidRequest, NotPermitted

PREFIX = "wardrobe"
MAX_ROLES = 256

Stands = Mapping[str, Sequence[str]]
"""Which roles of ours another role or group stands for."""
NOTHING: Stands = MappingProxyType({})


def granted(roles: object, stands: Stands = NOTHING) -> Mapping[Unit | None, frozenset[Scope]]:
    """The scopes by unit that a claim grants; None is who is about no unit in particular.

    What is about all units goes with each of them; an admin is about every unit, and has one grant.
    Raises NotPermitted for a claim without a role here.
    """
    said = [roles] if isinstance(roles, str) else roles
    if not isinstance(said, list) or len(said) > MAX_ROLES:
        said = []
    texts = [one for one in said if isinstance(one, str)]
    named = [role for one in texts for role in (one, *stands.get(one, ()))]
    pairs = {pair for role in named if (pair := _read(role)) is not None}
    if not pairs:
        raise NotPermitted("this token has no role here")
    units = {unit for unit, _ in pairs if unit is not None}
    if not units or (None, Scope.ADMIN) in pairs:
        return {None: frozenset(scope for _, scope in pairs)}
    return {
        unit: frozenset(scope for owner, scope in pairs if owner in (unit, None)) for unit in units
    }


def parse_stands(text: str) -> Stands:
    """`{"ml-support": ["wardrobe:support:infer"]}`; nothing is none. Raises InvalidRequest."""
    if not text.strip():
        return NOTHING
    problem = (
        "WARDROBE_OIDC_ROLES is a JSON object of lists of roles: "
        '{"ml-support": ["wardrobe:support:infer", "wardrobe:support:train"]}'
    )
    try:
        said = json.loads(text)
    except ValueError:
        raise InvalidRequest(problem) from None
    if not isinstance(said, dict) or not all(isinstance(roles, list) for roles in said.values()):
        raise InvalidRequest(problem)
    for role in (role for roles in said.values() for role in roles):
        if not isinstance(role, str) or _read(role) is None:
            raise InvalidRequest(f"{problem}; {json.dumps(role)[:64]} is no role")
    return MappingProxyType({name: tuple(roles) for name, roles in said.items()})


def _read(role: str) -> tuple[Unit | None, Scope] | None:
    """`wardrobe:support:infer` → (support, infer); None for what is no role of ours."""
    prefix, _, rest = role.partition(":")
    unit, _, scope = rest.rpartition(":")
    allowed = OF_A_UNIT if unit else OF_THE_WHOLE
    if prefix != PREFIX or (unit and not is_name(unit)) or scope not in set(allowed):
        return None
    return (Unit(unit) if unit else None), Scope(scope)
