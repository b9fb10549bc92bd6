"""Shares of quotas in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, RowMapping, and_, distinct, func, or_, select, tuple_

from adapters.domain.limits import Holding, Quota, next_share
from adapters.registry.ports.quotas import Claim, Share, Shares
from adapters.registry.ports.replicas import REPORTING_SECONDS, ProcessId
from adapters.registry.sql import schema
from adapters.registry.sql.queries import SqlPort, put

SILENT_SECONDS = 30.0
"""Behind its last claim, a replica's share counts as given back; what it used of a budget stays."""
MINUTE_SECONDS = 90.0
"""Behind its last claim, all that it had used of a minute's quota is surely over. What it had in
flight counts no longer than its share: an earlier life of a replica has nothing under way."""
BATCH = 200
"""Claims looked up in one statement."""

_Key = tuple[str, str, int]


class SqlQuotas(SqlPort):
    """Implements `Quotas`."""

    def share(self, process: ProcessId, claims: Sequence[Claim]) -> Shares:
        """One replica at a time."""
        with self._database.write() as connection:
            connection.execute(select(schema.quota_turn.c.value).with_for_update())
            now = self._database.now(connection)
            replicas = _reporting(connection, process, now)
            known = _rows(connection, claims)
            shares = [
                _given(claim, known.get(_key(claim), ()), process, replicas, now)
                for claim in claims
            ]
            for share in shares:
                put(connection, schema.quota_shares, _values(share, process, now))
            active = _active(connection, process, now)
        return Shares(at=now, replicas=replicas, shares=shares, active=active)


def _given(
    claim: Claim, rows: Sequence[RowMapping], process: ProcessId, replicas: int, now: float
) -> Share:
    others = [_holding(row, claim, process, now) for row in rows if not _is_of(row, process)]
    share = next_share(
        claim.limit, used=claim.used, wanted=claim.wanted, others=others, replicas=replicas
    )
    return Share(claim=claim, share=share, elsewhere=sum(each.used for each in others))


def _holding(row: RowMapping, claim: Claim, process: ProcessId, now: float) -> Holding:
    # of an earlier life of the same replica, nothing is under way any more
    reporting = row["replica"] != process.replica and row["seen_at"] > now - SILENT_SECONDS
    if claim.quota.is_concurrent:
        counts = reporting
    else:
        counts = claim.quota.is_budget or row["seen_at"] > now - MINUTE_SECONDS
    return Holding(
        used=row["used"] if counts else 0,
        share=row["share"],
        wanted=row["wanted"],
        reporting=reporting,
    )


def _is_of(row: RowMapping, process: ProcessId) -> bool:
    return (row["replica"], row["incarnation"]) == (process.replica, process.incarnation)


def _rows(connection: Connection, claims: Sequence[Claim]) -> Mapping[_Key, list[RowMapping]]:
    table = schema.quota_shares.c
    found: dict[_Key, list[RowMapping]] = {}
    keys = [_key(claim) for claim in claims]
    for start in range(0, len(keys), BATCH):
        among = tuple_(table.account, table.quota, table.period).in_(keys[start : start + BATCH])
        for row in connection.execute(select(schema.quota_shares).where(among)).mappings():
            found.setdefault((row["account"], row["quota"], row["period"]), []).append(row)
    return found


def _reporting(connection: Connection, process: ProcessId, now: float) -> int:
    """Replicas heard lately, and the one that asks."""
    table = schema.replica_processes.c
    heard = and_(table.seen_at > now - REPORTING_SECONDS, table.replica != process.replica)
    query = select(func.count(distinct(table.replica))).where(heard)
    return 1 + int(connection.execute(query).scalar_one())


def _active(connection: Connection, process: ProcessId, now: float) -> frozenset[str]:
    table = schema.quota_shares.c
    query = (
        select(table.account)
        .where(
            table.seen_at > now - SILENT_SECONDS,
            table.replica != process.replica,
            # a budget's use stays all day: its account is not active for that
            or_(and_(table.used > 0, table.period == 0), table.wanted > 0),
        )
        .distinct()
    )
    return frozenset(connection.execute(query).scalars())


def _key(claim: Claim) -> _Key:
    return claim.account, _name(claim.quota), claim.period


def _name(quota: Quota) -> str:
    return quota.name.lower()


def _values(share: Share, process: ProcessId, now: float) -> Mapping[str, object]:
    account, quota, period = _key(share.claim)
    return {
        "account": account,
        "quota": quota,
        "period": period,
        "replica": process.replica,
        "incarnation": process.incarnation,
        "used": share.claim.used,
        "wanted": share.claim.wanted,
        "share": max(share.share, share.claim.holds),
        "seen_at": now,
    }
