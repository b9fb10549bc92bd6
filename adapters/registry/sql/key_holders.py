"""Which keys are one holder's: a key that followed another, by rotation or by hand, is the same
person's.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from adapters.registry.sql import schema


def ids_of_holder(connection: Connection, actor: str) -> frozenset[str]:
    """Every id under which the holder of the key `actor` may have acted; its own alone where it is
    a token's holder or a process of ours.
    """
    keys = schema.keys.c
    owner = connection.execute(
        select(keys.role, keys.unit, keys.name).where(keys.id == actor)
    ).one_or_none()
    if owner is None:
        return frozenset({actor})
    same = (keys.role == owner.role) & (keys.unit == owner.unit) & (keys.name == owner.name)
    return frozenset(connection.execute(select(keys.id).where(same)).scalars())
