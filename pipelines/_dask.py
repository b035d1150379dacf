"""Start worker processes of dask on this machine, or find the workers of a scheduler."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import dask
import torch
from distributed import Client, Future, KilledWorker, Nanny, Scheduler, SpecCluster
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError

from wsi_maxmin.errors import InputError, WorkerDiedError
from wsi_maxmin.pipelines import _worker
from wsi_maxmin.workers import usable_cores

CONNECT_S, FIRST_WORKER_S = 15, 120
DEATHS = 3
"""Work that so many workers died of is given up."""


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to a scheduler.

    Raises
    ------
    InputError
        If none answers.
    """
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            "no scheduler answers",
            got=f"{address} ({error})",
            expected="the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786",
        ) from None
    with client:
        yield client


@contextmanager
def local(environments: Sequence[Mapping[str, str]]) -> Iterator[Client]:
    """Start a scheduler in this process, and worker processes that are started anew when they die."""
    common = {
        "nthreads": 1,
        "memory_limit": None,  # dask would count a model as a leak
        "host": "127.0.0.1",
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
        "preload": [_worker.__name__],
    }
    workers = {
        number: {"cls": Nanny, "options": common | {"env": dict(environment)}}
        for number, environment in enumerate(environments)
    }
    served = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": Scheduler, "options": served}
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.no-workers-timeout": f"{FIRST_WORKER_S} s",
        # By default a worker that takes 15 s to start again is given up, and torch may take as long.
        "distributed.deploy.lost-worker-timeout": f"{FIRST_WORKER_S} s",
    }
    with (
        dask.config.set(settings),
        SpecCluster(workers=workers, scheduler=scheduler, silence_logs=False) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def local_workers(count: int | None, device: str) -> list[dict[str, str]]:
    """Return the environment of each worker process: one a GPU, unless told otherwise, else one on two cores."""
    gpus = _gpus() if device in ("auto", "cuda") else []
    one_device = device not in ("auto", "cpu") or (device == "auto" and torch.backends.mps.is_available())
    count = count or len(gpus) or (1 if one_device else max(usable_cores() // 2, 1))
    return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {} for number in range(count)]


def _gpus() -> list[str]:
    """Name the GPUs that this process may use as CUDA_VISIBLE_DEVICES does."""
    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (given.split(",") if given else [str(number) for number in range(count)])[:count]


@contextmanager
def silence() -> Iterator[None]:
    """Keep dask from speaking on stderr: what goes wrong is said by the slide that it happens to."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def died(future: Future) -> bool:
    """Say whether the workers that had some work died, be it of this or of other work."""
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def result(future: Future, what: str, timeout: float | None = None) -> Any:
    """Wait for a result.

    Raises
    ------
    WorkerDiedError
        If each worker that takes the work dies, or the scheduler does.
    """
    try:
        return future.result(timeout)
    except KilledWorker:
        raise WorkerDiedError(
            f"{what}: a worker process died",
            got=f"{DEATHS} times at the same work",
            remedy="give the machine more memory or use fewer --workers; a damaged file may be the cause as well",
        ) from None
    except NoValidWorkerError:
        raise WorkerDiedError(f"{what}: no worker is left", remedy="--resume starts new ones") from None
    except (CancelledError, CommClosedError):
        raise WorkerDiedError(f"{what}: the scheduler is gone", remedy="start it again, then --resume") from None
