"""Who watches a run is woken, and looks by himself only where nobody would wake him."""

from errand_agent.journal import Bell


def test_a_watcher_looks_often_only_while_the_run_is_executed_elsewhere() -> None:
    bell = Bell()
    elsewhere = bell.patience("run-1")
    with bell.executing("run-1"):
        assert bell.patience("run-1") > 10 * elsewhere
        assert bell.patience("run-2") == elsewhere
    assert bell.patience("run-1") == elsewhere


def test_who_does_not_read_along_is_woken_by_its_rest_alone() -> None:
    bell = Bell()
    reads, waits = bell.watch("run-1"), bell.watch("run-1", reads_along=False)
    bell.ring("run-1")
    assert (reads.is_set(), waits.is_set()) == (True, False)
    bell.ring("run-1", rests=True)
    assert waits.is_set()
