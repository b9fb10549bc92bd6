"""The registry's ports over SQLAlchemy Core, on SQLite and on PostgreSQL.

Each method reads rows, asks `adapters.registry.transitions` what becomes of them, and writes the
answer, all in one transaction.

Whoever may change what replicas route by locks the revision's row first (`lock_revision`), and
other rows after it: such changes come one after another, so no two of them decide on a state that
the other one is changing, revisions become visible in their order, and nobody waits in a circle.
"""
