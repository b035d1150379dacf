"""Processes: results come back, one that dies is replaced, and none outlives its parent."""

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wsi_maxmin.errors import InputError, WorkerDiedError
from wsi_maxmin.workers import Workers, usable_cores

PRELOAD = ["wsi_maxmin.errors"]


def double(value: int) -> int:
    return 2 * value


def fail(value: int) -> int:
    raise InputError("no", got=value)


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def faults_of_buffers(count: int) -> int:
    """Allocate as a patch does, again and again; return the page faults after the first time."""
    before = 0
    for turn in range(count + 1):
        buffers = [bytearray(b"x") * size for size in (786_432, 787_968, 400_000)]
        del buffers
        before = before if turn else resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def die_once(flag: Path) -> int:
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def die(value: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return value


@pytest.mark.parametrize("count", [1, 2])
def test_every_piece_of_work_is_done(count: int) -> None:
    with Workers(count, preload=PRELOAD, patience_s=0) as pool:
        assert sorted(pool.map(double, [(value,) for value in range(20)])) == list(range(0, 40, 2))
        assert pool.run(double, 4) == 8


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_of_a_worker_is_raised_as_it_was(count: int) -> None:
    with Workers(count, preload=PRELOAD, patience_s=0) as pool:
        with pytest.raises(InputError, match=r"^no; got 3$"):
            pool.run(fail, 3)
        assert pool.run(double, 1) == 2


def test_one_worker_is_the_calling_thread() -> None:
    with Workers(1, preload=PRELOAD) as pool:
        assert pool.run(os.getpid) == os.getpid()
    with Workers(2, preload=PRELOAD, patience_s=0) as pool:
        assert pool.run(os.getpid) != os.getpid()


@pytest.mark.parametrize("soon", [False, True])
def test_little_work_starts_no_process(*, soon: bool) -> None:
    with Workers(2, preload=PRELOAD, soon=soon) as pool:
        assert {pool.run(os.getpid) for _ in range(20)} == {os.getpid()}
        assert pool._pool is None


def test_the_calling_thread_works_until_processes_are_there() -> None:
    with Workers(2, preload=PRELOAD, patience_s=0.01) as pool:
        pids = list(pool.map(pid_after, [(0.02,)] * 200))
    assert pids[0] == os.getpid()
    assert len(set(pids)) == 3
    assert len(pids) == 200


def test_work_whose_process_died_is_tried_again(tmp_path: Path) -> None:
    with Workers(2, preload=PRELOAD, patience_s=0) as pool:
        assert list(pool.map(die_once, [(tmp_path / "flag",)])) == [1]


def test_work_that_always_kills_its_process_fails_alone() -> None:
    """Other threads hand in innocent work meanwhile, some of it to processes that die for another's sake."""
    with Workers(2, preload=PRELOAD, patience_s=0) as pool, ThreadPoolExecutor(3) as threads:
        guilty = threads.submit(pool.run, die, 1)
        innocent = [threads.submit(pool.run, double, value) for value in range(30)]
        with pytest.raises(WorkerDiedError, match=r"a worker process died; got 3 times.*--workers"):
            guilty.result(timeout=120)
        assert [future.result(timeout=120) for future in innocent] == list(range(0, 60, 2))


def test_closing_ends_what_waits() -> None:
    pool = Workers(2, preload=PRELOAD, patience_s=0)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: list(pool.map(time.sleep, [(0.2,)] * 200)))
        time.sleep(1)
        pool.close()
        with pytest.raises(KeyboardInterrupt):
            waiting.result(timeout=30)
    with pytest.raises(KeyboardInterrupt):
        pool.run(double, 1)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """An orphan would go on writing into a folder that the next run has begun to write to."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from wsi_maxmin.workers import Workers\n"
        "if __name__ == '__main__':\n"
        "    pool = Workers(2, preload=['wsi_maxmin.errors'], patience_s=0)\n"
        "    print(pool.run(os.getpid), flush=True)\n"
        "    list(pool.map(time.sleep, [(60,), (60,)]))\n"
    )
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(worker):
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_usable_cores_are_at_least_one() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults, and glibc is what causes them")
def test_a_worker_keeps_the_memory_that_it_frees() -> None:
    with Workers(2, preload=PRELOAD, patience_s=0) as pool:
        assert max(pool.map(faults_of_buffers, [(50,)] * 4)) < 500


def test_all_processes_start_with_the_first_work_so_that_none_is_forgotten_when_one_dies() -> None:
    with Workers(3, preload=PRELOAD, patience_s=0) as pool:
        pool.run(double, 1)
        assert pool._pool is not None
        assert len(pool._pool._processes) == 3
