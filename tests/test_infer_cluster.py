"""Heatmaps by several processes: the same bytes, whatever dies on the way, and no pixel through the scheduler."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import tornado.iostream
from click.testing import CliRunner
from distributed import Client, WorkerPlugin, get_worker
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import contents
from wsi_maxmin.cli import group
from wsi_maxmin.cohort import CohortResult, Status
from wsi_maxmin.errors import InputError, SlideError, WorkerDiedError
from wsi_maxmin.pipelines import _cluster, _crew, _dask, _one_slide, _worker
from wsi_maxmin.pipelines._cluster import deal
from wsi_maxmin.pipelines._one_slide import fill
from wsi_maxmin.pipelines._shares import Share, Worker
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide, slide_result
from wsi_maxmin.progress import Advance, Quiet
from wsi_maxmin.readers import open_slide
from wsi_maxmin.slide_inputs import SlideInputs
from wsi_maxmin.tilemaps import TileMaps
from wsi_maxmin.time_left import showing_time_left

pytestmark = pytest.mark.usefixtures("one_thread")

Write = Callable[[str], Path]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Start two worker processes for all tests; they stand for any cluster whose scheduler's address is given."""
    with _dask.silence(), _dask.local([{}, {}]) as client:
        yield client


@pytest.fixture
def address(client: Client) -> str:
    return str(client.cluster.scheduler_address)


@pytest.fixture(scope="module")
def settings(tiny_model: Path) -> InferSettings:
    return InferSettings(model=str(tiny_model), engine="torch", precision="fp32")


@pytest.fixture(scope="module")
def make(
    tmp_path_factory: pytest.TempPathFactory,
    stained: Callable[..., np.ndarray],
    make_pyramid: Callable[..., list[np.ndarray]],
    write_pyramid: Callable[..., Path],
) -> Write:
    """Return a function that writes a slide of 217 overlapping tiles, which are four chunks of tile maps."""
    folder = tmp_path_factory.mktemp("slides")

    def write(name: str) -> Path:
        levels = make_pyramid(stained(1000, 700, (256, 128, 512, 384), seed=len(name)), 2)
        return write_pyramid(folder / f"{name}.tif", levels)

    return write


@dataclass(frozen=True)
class Cohort:
    """Two slides, and what one process makes of them."""

    slides: list[Path]
    out: Path


@pytest.fixture(scope="module")
def cohort(make: Write, settings: InferSettings, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    import torch

    torch.set_num_threads(1)
    slides, out = [make("one"), make("second")], tmp_path_factory.mktemp("whole") / "out"
    assert infer_slide(slides, out, settings=settings, device="cpu").exit_code == 0
    return Cohort(slides, out)


def infer(slides: list[Path], out: Path, settings: InferSettings, scheduler: str, **options: Any) -> CohortResult:
    return infer_slide(slides, out, settings=settings, device="cpu", scheduler=scheduler, **options)


class Deadly(WorkerPlugin):
    """Kill a worker in the middle of a share of one slide, each time or until `mercy` exists; new workers learn it too.

    Attributes
    ----------
    slide_id : str
    mercy : Path
    pardons : bool
        Write `mercy` before the first death.
    """

    name = "deadly"

    def __init__(self, slide_id: str, mercy: Path, *, pardons: bool) -> None:
        self.slide_id, self.mercy, self.pardons = slide_id, mercy, pardons

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        _worker.fill = self.fill  # type: ignore[attr-defined]

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        _worker.fill = fill  # type: ignore[attr-defined]

    def fill(self, engine: Any, slide: Any, maps: Any, chunks: Any, job: Any, **rest: Any) -> None:
        if slide.info.slide_id != self.slide_id or self.mercy.exists():
            return fill(engine, slide, maps, chunks, job, **rest)
        if self.pardons:
            self.mercy.write_text("")
        fill(engine, slide, maps, chunks[:1], job, **rest)
        (maps.path / "mask" / ".half.partial").write_text("half a chunk")
        with self.mercy.with_name("deaths").open("a") as deaths:
            deaths.write(f"{os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def deadly(client: Client, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that makes a slide deadly to workers."""

    def make(slide_id: str, *, pardons: bool) -> Path:
        client.register_plugin(Deadly(slide_id, tmp_path / "mercy", pardons=pardons))
        return tmp_path / "mercy"

    yield make
    client.unregister_worker_plugin("deadly")


# What comes out of it.


def test_every_byte_is_that_of_one_process(
    tmp_path: Path, cohort: Cohort, settings: InferSettings, address: str
) -> None:
    result = infer(cohort.slides, tmp_path / "out", settings, address)
    assert [outcome.status for outcome in result.outcomes] == ["done", "done"]
    whole = contents(cohort.out)
    assert len(whole) > 50
    assert contents(tmp_path / "out") == whole
    facts = slide_result(tmp_path / "out", "one").facts
    assert facts["tiles_run"] == facts["tiles"] == 217
    assert {"read", "model", "write maps"} <= set(facts["timings"]["summed_over_threads"])


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(
    tmp_path: Path,
    cohort: Cohort,
    settings: InferSettings,
    address: str,
    client: Client,
    deadly: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_cluster, "_SHARES_A_WORKER", 1)  # so that a share is two chunks
    before = set(client.run(os.getpid).values())
    mercy = deadly("one", pardons=True)
    result = infer(cohort.slides, tmp_path / "out", settings, address)
    assert [outcome.status for outcome in result.outcomes] == ["done", "done"]
    assert mercy.exists()
    assert set(client.run(os.getpid).values()) != before
    assert contents(tmp_path / "out") == contents(cohort.out)


@pytest.mark.slow
def test_what_kills_every_worker_fails_alone_and_is_continued(
    tmp_path: Path, cohort: Cohort, settings: InferSettings, address: str, deadly: Callable[..., Path]
) -> None:
    apart = replace(settings, overlap=0.0)  # a slide is one chunk
    mercy = deadly("one", pardons=False)
    result = infer(cohort.slides, tmp_path / "out", apart, address)
    assert [outcome.status for outcome in result.outcomes] == ["failed", "done"]
    assert len(set(mercy.with_name("deaths").read_text().split())) == 3
    assert "one: a worker process died; got 3 times at the same work" in result.outcomes[0].why
    mercy.write_text("")
    result = infer(cohort.slides, tmp_path / "out", apart, address, existing="resume")
    assert [outcome.status for outcome in result.outcomes] == ["done", "skipped"]
    # Each attempt got as far as its first chunk.
    assert slide_result(tmp_path / "out", "one").facts["tiles_run"] == 0
    infer(cohort.slides, tmp_path / "whole", apart, "threads")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_slide_that_is_none_fails_alone(
    tmp_path: Path, cohort: Cohort, settings: InferSettings, address: str
) -> None:
    bad = tmp_path / "bad.svs"
    bad.write_text("no slide")
    result = infer([bad, cohort.slides[0]], tmp_path / "out", settings, address)
    assert [outcome.status for outcome in result.outcomes] == ["failed", "done"]
    assert result.exit_code == 1
    assert contents(tmp_path / "out" / "one") == contents(cohort.out / "one")


def test_relative_paths_and_a_choice_by_timing_hold_in_workers(
    tmp_path: Path, cohort: Cohort, settings: InferSettings, address: str, client: Client, monkeypatch: Any
) -> None:
    """Workers have working directories of their own."""
    shutil.copy(cohort.slides[0], tmp_path / "one.tif")
    shutil.copy(settings.model, tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    timed = replace(settings, model="model.safetensors", engine="auto", precision="auto")
    assert infer([Path("one.tif")], Path("out"), timed, address, workers=2).exit_code == 0
    assert contents(tmp_path / "out" / "one") == contents(cohort.out / "one")


class Counted:
    """Count what this process, which has the scheduler and the client, sends and receives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        stream = tornado.iostream.IOStream
        for name in ("write_to_fd", "read_from_fd"):
            monkeypatch.setattr(stream, name, self._counting(getattr(stream, name)))

    def _counting(self, move: Callable[..., int | None]) -> Callable[..., int | None]:
        def moved(stream: Any, data: Any) -> int | None:
            count = move(stream, data)
            self.count += count or 0
            return count

        return moved


def test_no_pixel_goes_through_the_scheduler(
    tmp_path: Path, cohort: Cohort, settings: InferSettings, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted are above all the signs of life of client and workers, a few kB a second."""
    monkeypatch.setattr(_one_slide.picture, "write", lambda *_, **__: None)
    counted, began = Counted(monkeypatch), time.perf_counter()
    infer(cohort.slides, tmp_path / "out", settings, address)
    tiles = 2 * 217
    print(f"{counted.count} bytes for {tiles} tiles in {time.perf_counter() - began:.1f} s")  # noqa: T201
    pixels = tiles * 64 * 64 * 3
    assert 1000 < counted.count < pixels / 10


def test_what_goes_through_the_scheduler_of_a_share_is_small(share: Share) -> None:
    done = _worker.run_share(share)
    sizes = [len(pickle.dumps(message)) for message in (share, done)]
    print(f"share {sizes[0]} bytes, answer {sizes[1]} bytes")  # noqa: T201
    assert sizes[0] < 2000
    assert sizes[1] < 400
    assert len(pickle.dumps(replace(share, chunks=tuple(range(n, n + 64) for n in range(0, 1024, 64))))) < 2500


# What keeps it from beginning.


def test_a_scheduler_that_does_not_answer_is_one_line(
    tmp_path: Path, cohort: Cohort, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dask, "CONNECT_S", 0.3)
    options = ["--out", str(tmp_path / "out"), "--model", str(tiny_model), "--scheduler", "tcp://127.0.0.1:9"]
    done = CliRunner().invoke(group, ["infer-slide", str(cohort.slides[0]), *options])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: no scheduler answers; got tcp://127.0.0.1:9")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_too_few_workers_are_said_and_not_waited_for_for_ever(
    tmp_path: Path, cohort: Cohort, settings: InferSettings, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cluster, "FIRST_WORKER_S", 0.3)
    with pytest.raises(InputError, match=r"too few workers; got 2 at tcp://.*; expected 3; start some"):
        infer(cohort.slides, tmp_path / "out", settings, address, workers=3)


def test_workers_without_the_device_that_is_asked_for_are_named(
    tmp_path: Path, cohort: Cohort, settings: InferSettings, address: str
) -> None:
    with pytest.raises(InputError, match=r"a worker on .* cannot take part: no such device here; got cuda:63"):
        infer_slide(cohort.slides, tmp_path / "out", settings=settings, device="cuda:63", scheduler=address)


def test_a_worker_that_does_not_know_what_it_is_asked_is_named(client: Client) -> None:
    asked = client.submit(_ask_what_is_not_there)
    asked.exception()
    with pytest.raises(InputError, match="the worker at tcp://here cannot take part; got ModuleNotFoundError"):
        _crew._device_of("tcp://here", asked)


def _ask_what_is_not_there() -> None:
    raise ModuleNotFoundError("No module named 'wsi_maxmin'")


@dataclass
class Answer:
    """A future of dask that is as a test needs it."""

    status: str = "finished"
    value: str = "cpu"

    def result(self, timeout: float | None = None) -> str:  # noqa: ARG002
        return self.value


class Here:
    """A client of a scheduler that has the workers which a test says; they answer as it says."""

    def __init__(self, *workers: str, **answers: Answer) -> None:
        self.workers, self.answers = list(workers), answers

    def scheduler_info(self) -> dict[str, Any]:
        return {"workers": dict.fromkeys(self.workers)}

    def submit(self, *_: Any, workers: list[str], **__: Any) -> Answer:
        return self.answers[workers[0]]


class Said(Quiet):
    """Keep what is said."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)


def test_a_run_goes_on_without_a_worker_that_does_not_answer(
    tmp_path: Path,
    cohort: Cohort,
    settings: InferSettings,
    address: str,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were it given a share, the run would not end."""
    late, answer = next(iter(client.scheduler_info()["workers"])), tmp_path / "answer"

    def describe(_: Worker) -> str:
        while get_worker().address == late and not answer.exists():
            time.sleep(0.05)
        return "cpu"

    monkeypatch.setattr(_crew, "ANSWER_S", 0.5)
    monkeypatch.setattr(_worker, "describe", describe)
    progress = Said()
    try:
        assert infer(cohort.slides[:1], tmp_path / "out", settings, address, progress=progress).exit_code == 0
    finally:
        answer.write_text("")
    assert contents(tmp_path / "out" / "one") == contents(cohort.out / "one")
    warning = f"WARNING: going on without {late}, which did not answer within 0.5 s; look at its log and at the load"
    assert [message for message in progress.messages if message.startswith(warning)]


def test_when_no_worker_answers_each_is_named_and_its_version_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_crew, "ANSWER_S", 0.1)
    client = Here("a", "b", a=Answer("pending"), b=Answer("pending"))
    message = "no worker takes part; got a, which did not answer within 0.1 s, b, which did .*; look at its log and at"
    with pytest.raises(InputError, match=message) as raised:
        _crew.ask(client, "tcp://here", Worker.of_this_run("cpu"), Said())
    assert "version" not in str(raised.value)


def test_a_worker_that_ends_while_it_is_asked_is_not_waited_for() -> None:
    client, progress = Here("a", "b", a=Answer(), b=Answer("pending")), Said()
    submit = client.submit

    def dying(*arguments: Any, workers: list[str], **rest: Any) -> Answer:
        client.workers = ["a"]
        return submit(*arguments, workers=workers, **rest)

    client.submit = dying  # type: ignore[method-assign]
    crew, device = _crew.ask(client, "tcp://here", Worker.of_this_run("cpu"), progress)
    assert (device, crew.present(), crew.only()) == ("cpu", ["a"], ["a"])
    assert progress.messages == [
        "WARNING: going on without b, which ended meanwhile; look at its log and at the load of its machine"
    ]


def test_a_late_worker_takes_part_once_it_answers_and_those_that_come_later_do() -> None:
    answer = Answer("pending")
    crew = _crew.Crew(Here("early", "late", "new"), {"late": answer}, "tcp://here", Quiet())
    assert crew.only() == ["early", "new"]
    answer.status = "finished"
    assert crew.present() == ["early", "late", "new"]
    assert crew.only() is None


def test_work_for_workers_that_are_gone_is_given_to_others_once_there_are_some() -> None:
    client = Here("early", "late")
    crew = _crew.Crew(client, {"late": Answer("pending")}, "tcp://here", Quiet())
    under_way = {"restricted": ["early"], "free": None}
    assert crew.stranded(under_way) == []
    client.workers = ["late"]
    assert crew.stranded(under_way) == []
    client.workers = ["late", "new"]
    assert crew.stranded(under_way) == ["restricted"]


def test_that_no_worker_is_left_is_said_once_a_minute_until_one_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, client, progress = [0.0], Here("one"), Said()
    monkeypatch.setattr(_crew, "LOOK_S", 0.001)
    monkeypatch.setattr(_crew.time, "monotonic", lambda: clock[0])
    crew, ready = _crew.Crew(client, {}, "tcp://here", progress), SimpleQueue()
    said = []
    for at, workers in [(5, ["one"]), (10, []), (15, []), (69, []), (70, []), (75, ["two"]), (80, [])]:
        clock[0], client.workers = at, workers
        assert crew.first(ready) is None
        said.append(len(progress.messages))
    assert said == [0, 1, 1, 1, 2, 2, 3]
    assert set(progress.messages) == {"no worker left at tcp://here; waiting for one"}
    ready.put("done")
    assert crew.first(ready) == "done"


def test_workers_of_different_devices_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        _worker, "describe", lambda _: "cuda" if get_worker().address[-1] in "02468" else get_worker().address
    )
    with pytest.raises(InputError, match=r"the workers compute on different devices; got .* at tcp://"):
        _crew.ask(client, "tcp://here", Worker.of_this_run("cpu"), Quiet())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CancelledError(), "one: the scheduler is gone; start it again, then --resume"),
        (CommClosedError(), "one: the scheduler is gone"),
        (NoValidWorkerError("x", (), (), (), 1.0), "one: no worker is left; --resume starts new ones"),
    ],
)
def test_what_ends_a_cluster_is_said_in_words(error: Exception, message: str) -> None:
    class Future:
        def result(self, *_: object) -> None:
            raise error

    with pytest.raises(WorkerDiedError, match=message):
        _dask.result(Future(), "one")


def test_one_process_has_no_workers(tmp_path: Path, cohort: Cohort, settings: InferSettings) -> None:
    with pytest.raises(InputError, match="one process has no workers; got workers = 2; --scheduler processes"):
        infer_slide(cohort.slides, tmp_path / "out", settings=settings, workers=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2"], "--workers is for --scheduler"),
        (["--dense-context", "1"], "--dense-context is for --mode dense"),
        (["--scheduler", "slurm"], "expected threads, processes or"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(group, ["infer-slide", "x.tif", "--out", str(tmp_path / "out"), *options])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_dry_run_needs_no_cluster(cohort: Cohort, tmp_path: Path, tiny_model: Path) -> None:
    options = ["--out", str(tmp_path / "out"), "--model", str(tiny_model), "--scheduler", "tcp://127.0.0.1:9"]
    options += ["--device", "cpu", "--engine", "torch", "--precision", "fp32", "--dry-run"]
    done = CliRunner().invoke(group, ["infer-slide", str(cohort.slides[0]), *options])
    assert done.exit_code == 0, done.stderr
    assert "217" in done.stdout


# What a worker does, in this process.


@pytest.fixture
def share(tmp_path: Path, cohort: Cohort, settings: InferSettings, monkeypatch: pytest.MonkeyPatch) -> Share:
    """Return a share of the first slide: its first two chunks, in a copy of its tile maps where nothing is done."""
    kept: list[Share] = []
    folder = shutil.copytree(cohort.out / "one" / "tilemaps.zarr", tmp_path / "tilemaps.zarr")
    shutil.rmtree(folder / "done" / "c")
    maps = TileMaps(folder)

    import torch

    from wsi_maxmin.engines._choice import Choice
    from wsi_maxmin.pipelines._job import Job

    job = Job(
        settings=settings,
        fingerprint=maps.spec.model,
        choice=Choice(engine="torch", precision="fp32"),
        batch_size=8,
        readers=2,
    )
    cluster = _cluster.Cluster(
        _crew.Crew(Here("one"), {}, "tcp://here", Quiet()), Worker.of_this_run("cpu", torch.get_num_threads())
    )
    with open_slide(cohort.slides[0]) as slide:
        kept = cluster._shares(slide, maps, job)
    _worker._slide.cache_clear()
    return replace(kept[0], chunks=kept[0].chunks + kept[1].chunks)


def test_a_share_is_whole_chunks_and_what_is_done_is_left(share: Share, cohort: Cohort) -> None:
    assert _worker.run_share(share).tiles == 128
    maps, whole = TileMaps(share.maps), TileMaps(cohort.out / "one" / "tilemaps.zarr")
    assert [chunk.start for chunk in maps.todo()] == [128, 192]
    maps.mask[:64] = 0.25
    maps._done[64:128] = False
    _worker.run_share(share)
    assert (maps.mask[:64] == 0.25).all()
    np.testing.assert_array_equal(maps.mask[64:128], whole.mask[64:128])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("slide", SlideError, "a worker on .* cannot open the slide: no such slide; got .*gone.tif.*same path"),
        ("other slide", SlideError, "a worker has another file at the slide's path"),
        ("maps", InputError, "a worker on .* does not see the tile maps: .*gone.zarr"),
        ("model", InputError, "a worker has another model; got .*tiny"),
        ("version", InputError, "a worker has another version of torch; got .*; expected 0.4; install the same"),
        ("device", InputError, "a worker on .* cannot take part: no such device here; got cuda:63"),
    ],
)
def test_a_worker_that_sees_or_has_something_else_says_so(
    share: Share, change: str, error: type[Exception], message: str
) -> None:
    gone = share.maps.parent / "gone.tif"
    changes: dict[str, Any] = {
        "slide": {"source": replace(share.source, path=gone)},
        "other slide": {"fingerprint": "{}"},
        "maps": {"maps": gone.with_suffix(".zarr")},
        "model": {"job": replace(share.job, fingerprint="tiny:0")},
        "version": {"worker": replace(share.worker, versions=(share.worker.versions[0], ("torch", "0.4")))},
        "device": {"worker": replace(share.worker, device="cuda:63")},
    }
    with pytest.raises(error, match=message):
        _worker.run_share(replace(share, **changes[change]))
    assert len(TileMaps(share.maps).todo()) == 4


def test_maps_that_another_run_has_replaced_are_left_alone(share: Share) -> None:
    behind = _worker.SharedMaps(share.maps)
    TileMaps.create(share.maps, behind.grid, behind.spec)
    with pytest.raises(InputError, match="replaced by another run"):
        behind.write(range(64), behind.mask[:64], behind.logits[:64])
    assert len(TileMaps(share.maps).todo()) == 4


def test_a_folder_that_cannot_be_written_is_told_from_a_slide_that_cannot_be_read(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TileMaps, "write", full)
    with pytest.raises(InputError, match=r"a worker on .* cannot write; got .*No space left"):
        _worker.run_share(share)


def test_nothing_of_a_slide_stands_in_what_dask_may_log(share: Share) -> None:
    assert "one" not in repr(share)


def test_maps_that_never_arrive_are_an_error(share: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cluster, "SEEN_S", 0.1)
    with pytest.raises(InputError, match="what the workers wrote does not arrive here; got 4 chunks of"):
        _cluster._wait_until_seen(TileMaps(share.maps))


def test_what_a_run_is_given_holds_in_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "masks").mkdir()
    monkeypatch.chdir(tmp_path)
    inputs = SlideInputs(slides=["a.tif", Path("b"), "memory://c.tif"], tissue_masks=Path("masks"), slide_mpp=0.5)
    held = inputs.absolute()
    assert [str(slide) for slide in held.slides] == [str(tmp_path / "a.tif"), str(tmp_path / "b"), "memory://c.tif"]
    assert (held.tissue_masks, held.overrides, held.slide_mpp) == (tmp_path / "masks", None, 0.5)


def test_slides_that_are_done_side_by_side_take_their_share_of_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, notes = [0.0], []
    monkeypatch.setattr("wsi_maxmin.time_left.time.perf_counter", lambda: clock[0])

    class Bars(Quiet):
        @contextmanager
        def track(self, *_: Any, **__: Any) -> Iterator[Advance]:
            yield lambda *_, note="": notes.append(note)

    def work(slide_id: str, path: None) -> Status:
        clock[0] += 600
        return "done"

    with showing_time_left(work, 5, Bars(), at_once=2) as timed:
        timed("first", None)
    assert notes == ["about 20 min left"]


@given(count=st.integers(0, 300), workers=st.integers(1, 40), most=st.integers(1, 16))
def test_shares_are_all_chunks_once_and_several_a_worker(count: int, workers: int, most: int) -> None:
    chunks = [range(64 * number, 64 * number + 64) for number in range(count)]
    shares = deal(chunks, workers, most)
    assert [chunk for share in shares for chunk in share] == chunks
    assert all(1 <= len(share) <= most for share in shares)
    assert len(shares) >= min(count, 4 * workers)


def test_each_gpu_has_a_worker_and_each_worker_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dask.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(_dask, "usable_cores", lambda: 7)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    seen = [environment["CUDA_VISIBLE_DEVICES"] for environment in _dask.local_workers(None, "auto")]
    assert seen == ["4", "6"]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in _dask.local_workers(3, "cuda")] == ["4", "6", "4"]
    assert _dask.local_workers(None, "cuda:1") == [{}]
    assert _dask.local_workers(None, "cpu") == [{}, {}, {}]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert _dask._gpus() == ["0", "1"]


# The whole command.


@pytest.mark.slow
def test_an_interrupted_run_of_processes_ends_soon_without_noise_and_goes_on(
    tmp_path: Path, cohort: Cohort, settings: InferSettings
) -> None:
    out = tmp_path / "out"
    options = ["--out", str(out), "--model", settings.model, "--engine", "torch", "--precision", "fp32"]
    options += ["--device", "cpu", "--batch-size", "1"]
    command = [sys.executable, "-m", "wsi_maxmin", "infer-slide", *map(str, cohort.slides), *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    begun = subprocess.Popen(
        [*command, "--scheduler", "processes", "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    while not list(out.glob("*/tilemaps.zarr/done/c/*")):
        assert begun.poll() is None, begun.stderr.read() if begun.stderr else ""
        time.sleep(0.05)
    os.killpg(begun.pid, signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130, said
    assert "interrupted; --resume continues" in said
    assert "Traceback" not in said
    assert "distributed" not in said
    assert infer(cohort.slides, out, settings, "processes", workers=1, existing="resume").exit_code == 0
    assert contents(out) == contents(cohort.out)
