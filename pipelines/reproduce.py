"""Run the rows of the paper's tables that are missing, score them, and write the tables beside the paper's figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_maxmin.cohort import FAILURES, locked
from wsi_maxmin.data import Split
from wsi_maxmin.device import pick_device
from wsi_maxmin.errors import InputError
from wsi_maxmin.paper import inference_table, load_protocol, score_table
from wsi_maxmin.pipelines._inference_times import count_parameters, measure_inference
from wsi_maxmin.pipelines._reproduce_data import check_data, has_test
from wsi_maxmin.pipelines._reproduce_plan import PlannedRun, expect, find_states, plan_table
from wsi_maxmin.pipelines._reproduce_work import RunOutcome, Status, Worker
from wsi_maxmin.pipelines._row_runs import Workplace, row_runs
from wsi_maxmin.pipelines._scoring import LabelSource
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.run_results import RUNS, RunResult, read_runs
from wsi_maxmin.runinfo import RUN_FILE, read_json, write_json, write_text
from wsi_maxmin.tables import write_tables

TABLES, REPORT, INFERENCE = "tables", "README.md", "inference.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceSettings:
    """What is run, and how.

    Attributes
    ----------
    rows : tuple of str, optional
        Rows to run; None is all. The tables have all rows in any case.
    seeds : tuple of int
    overrides : tuple of str
        ``key.sub=value`` for every training.
    device : str
    split : {"valid", "test"}, optional
        That is scored; None is test where the data have it, else valid.
    label_source : {"true", "predicted"}, optional
        None is the paper's.
    max_minutes : float, optional
        No epoch begins that would end later.
    tables_only : bool
        Train nothing.
    time_inference : bool, optional
        Measure Table 3; None does so where that was not done, and not for tables alone.
    """

    rows: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    split: Split | None = None
    label_source: LabelSource | None = None
    max_minutes: float | None = None
    tables_only: bool = False
    time_inference: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """What came out.

    Attributes
    ----------
    outcomes : tuple of RunOutcome
    report : Path
        All tables.
    log : Path or None
        Tracebacks, if anything failed.
    """

    outcomes: tuple[RunOutcome, ...]
    report: Path
    log: Path | None


class Reproduction:
    """The rows of the tables of one data set, in one folder.

    Parameters
    ----------
    name : str
        ``glas`` or ``camelyon16-p512``.
    data : Path or None
        None with ``tables_only``: nothing is scored then.
    out : Path
        Its ``runs`` has the folder of each run.
    runs : sequence of Path
        Finished runs elsewhere, which are used as they are; see `read_runs`.
    settings : ReproduceSettings, optional
    progress : Progress, optional

    Raises
    ------
    InputError
        If there are no such data, rows, runs, config values or device, or what is missing of the runs cannot be trained
        or scored on these data.
    """

    def __init__(
        self,
        name: str,
        data: Path | None,
        out: Path,
        *,
        runs: Sequence[Path] = (),
        settings: ReproduceSettings | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._settings, self._progress = settings or ReproduceSettings(), progress or Quiet()
        self._name, self._protocol = name, load_protocol(name)
        self._out, self._elsewhere = out, tuple(runs)
        self._device = pick_device(self._settings.device)
        self._given = {(run.name, run.seed): run for run in read_runs(self._elsewhere)}
        self._finished()  # two runs of one name are said before anything is done
        chosen = self._protocol.choose(self._settings.rows)
        if data is None and not self._settings.tables_only:
            raise InputError("nothing to train on", expected="a folder of data", remedy="give it, or tables alone")
        self._place = None if data is None else self._workplace(data)
        self._runs = [] if self._place is None else row_runs(self._place, chosen, self._settings.seeds)
        for run in self._runs:
            run.config()
        if self._place is not None:
            check_data(self._place, self._states())
            if self._settings.split is None and self._place.split == "valid":
                self._progress.say(
                    f"WARNING: {data} has no test images; scored on validation, so no score compares with the paper's"
                )

    def plan(self) -> tuple[list[PlannedRun], str]:
        """Return what would be done, and the same as a table with the expected time; nothing is written."""
        if self._place is None:
            return [], "without data: nothing is scored"
        planned = self._states()
        if not self._settings.tables_only:
            planned = expect(planned, self._place, self._finished(), self._progress)
        where = [f"on {self._device}, scored on {self._place.split}"]
        if self._times_inference():
            where.append(
                "then inference times (Table 3), not in the expected time; --no-time-inference leaves them out"
            )
        return planned, plan_table(planned, where)

    def run(self) -> Reproduced:
        """Do what is missing, the most important first, and write the tables.

        A run that fails does not end the others. After an interruption the same call goes on.
        """
        try:
            with locked(self._out):
                planned, table = self.plan()
                self._progress.say(table)
                outcomes = self._work(planned)
                self._write()
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on") from None
        failed = any(outcome.status == "failed" for outcome in outcomes)
        report, log = self._out / REPORT, self._out / FAILURES if failed else None
        return Reproduced(outcomes=tuple(outcomes), report=report, log=log)

    def _workplace(self, data: Path) -> Workplace:
        settings, protocol = self._settings, self._protocol
        if not data.is_dir():
            raise InputError("no such folder of data", got=data, expected=protocol.data, remedy="give it with --data")
        place = Workplace(
            protocol=protocol,
            data=data,
            folder=self._out / RUNS,
            overrides=settings.overrides,
            device=self._device,
            split=settings.split or "test",
            label_source=settings.label_source or protocol.label_source,
        )
        return place.on_validation() if settings.split is None and not has_test(place) else place

    def _states(self) -> list[PlannedRun]:
        planned = find_states(self._runs, self._given)
        if self._settings.tables_only:
            return [plan for plan in planned if not plan.trains and plan.state != "refused"]
        return planned

    def _work(self, planned: Sequence[PlannedRun]) -> list[RunOutcome]:
        settings = self._settings
        worker = Worker(self._out, self._given, max_minutes=settings.max_minutes, progress=self._progress)
        if planned:
            with self._progress.track("all runs", len(planned), unit="run") as advance:
                for plan in planned:
                    worker.do(plan)
                    advance(note=plan.run.name)
        if self._times_inference():
            worker.attempt("inference times", self._time_inference)
        return worker.outcomes

    def _times_inference(self) -> bool:
        wanted = self._settings.time_inference
        return wanted or (wanted is None and not self._settings.tables_only and self._measured() is None)

    def _time_inference(self) -> tuple[Status, str]:
        write_json(self._out / INFERENCE, measure_inference(self._device, progress=self._progress))
        return "done", ""

    def _measured(self) -> dict[str, Any] | None:
        """Return the inference times that were measured in this folder, or else in one of the others."""
        found = (read_json(folder / INFERENCE) for folder in (self._out, *self._elsewhere))
        return next((measured for measured in found if measured is not None), None)

    def _finished(self) -> list[RunResult]:
        """Read all finished runs of the wanted seeds."""
        mine = self._out / RUNS
        folders = [mine] if any(mine.glob(f"*/{RUN_FILE}")) else []
        return [run for run in read_runs([*folders, *self._elsewhere]) if run.seed in self._settings.seeds]

    def _write(self) -> None:
        """Write the tables, each in its files and all in one."""
        runs = self._finished()
        scores = [score_table(name, self._protocol, runs) for name in self._protocol.tables]
        times = inference_table(count_parameters(), self._measured())
        tables = sorted([*scores, times], key=lambda table: table.name)
        write_tables(self._out / TABLES, tables)
        text = "\n".join(table.markdown() for table in tables)
        write_text(self._out / REPORT, f"# The paper's tables on {self._name}\n\n{text}")
