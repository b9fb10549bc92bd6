"""When a process that waits for another yields, and when it sleeps."""

from __future__ import annotations

from service.engine.short_waits import NAP_SECONDS, YIELDING_SECONDS, ShortWaits


def test_who_waits_yields_and_sleeps_now_and_then() -> None:
    now, done = 0.0, list[str]()

    def pass_time(seconds: float, what: str) -> None:
        nonlocal now
        now += seconds
        done.append(what)

    wait = ShortWaits(
        clock=lambda: now,
        give_way=lambda: pass_time(YIELDING_SECONDS / 2, "yield"),
        sleep=lambda seconds: pass_time(seconds, f"sleep {seconds}"),
    )
    for _ in range(6):
        wait()
    assert done == ["yield", "yield", f"sleep {NAP_SECONDS}"] * 2


def test_who_has_worked_for_a_while_sleeps_first() -> None:
    """As one that waits for a worker which it has just given its turn."""
    now, slept = 0.0, list[float]()
    wait = ShortWaits(clock=lambda: now, give_way=lambda: None, sleep=slept.append)
    now = 1.0
    wait()
    assert slept == [NAP_SECONDS]
