"""Run ``wsi-maxmin infer-slide`` on jobs of a SLURM cluster, one worker a job.

Example, from a login node or, better, from a job of its own:

    python scripts/slurm_infer.py --jobs 8 --gpus 1 --cores 8 --memory 32GB --walltime 04:00:00 --partition gpu \
        -- slides/ --out heatmaps --model runs/mine

Everything after ``--`` is infer-slide's. With ``--dry-run`` before it, the script of one job is printed and nothing is
submitted. Needs ``pip install 'wsi-maxmin[cluster]'``.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from dask_jobqueue import SLURMCluster


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options; what follows ``--`` is left as it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many jobs, each one worker [1]")
    parser.add_argument("--gpus", type=int, default=0, choices=(0, 1), help="GPUs of a job [0]")
    parser.add_argument("--cores", type=int, default=4, help="cores of a job [4]")
    parser.add_argument("--memory", default="16GB", help="of a job [16GB]")
    parser.add_argument("--walltime", default="04:00:00", help="of a job; a run that it ends goes on by --resume")
    parser.add_argument("--partition", help="also called queue")
    parser.add_argument("--account", help="that is charged")
    parser.add_argument("--interface", help="network interface that all nodes reach each other by, such as ib0")
    parser.add_argument("--dry-run", action="store_true", help="print the script of a job, and submit nothing")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="-- SLIDES... --out PATH ...")
    return parser.parse_args(arguments)


def make_cluster(options: argparse.Namespace) -> SLURMCluster:
    """Describe the jobs: a worker with one dask thread, because the model takes all cores by itself."""
    return SLURMCluster(
        job_name="wsi-maxmin",
        queue=options.partition,
        account=options.account,
        cores=1,
        processes=1,
        job_cpu=options.cores,
        memory=options.memory,
        walltime=options.walltime,
        interface=options.interface,
        job_extra_directives=["--gres=gpu:1"] if options.gpus else [],
        # dask gives its workers one thread unless this says otherwise; the threads that read tiles come on top.
        job_script_prologue=[f"export OMP_NUM_THREADS={options.cores}"],
        worker_extra_args=["--memory-limit", "0", "--no-dashboard"],
        scheduler_options={"dashboard": False, "dashboard_address": ":0"},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit the jobs, run infer-slide on their workers, and return its exit code."""
    options = parse(arguments)
    rest = options.rest[1:] if options.rest[:1] == ["--"] else options.rest
    with make_cluster(options) as cluster:
        if options.dry_run:
            print(cluster.job_script())
            return 0
        cluster.scale(jobs=options.jobs)
        print(f"{options.jobs} jobs are submitted; waiting for the first", file=sys.stderr)
        cluster.wait_for_workers(1)
        command = [sys.executable, "-m", "wsi_maxmin", "infer-slide", "--scheduler", cluster.scheduler_address, *rest]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
