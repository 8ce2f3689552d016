"""Draw figures: run a notebook with papermill, and move what it wrote into `figures/`.

What the notebook writes into its parameter `out_dir` (`build/<figure>/`) moves into `figures/`
after it has ended well; then the executed notebook moves to `build/<figure>.ipynb`, and last the
record of what the figure is made of is written. Only a figure that has its record counts as drawn.
"""

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from atarilens.paths import BUILD, FIGURES, NOTEBOOKS, ROOT, MissingDataError, whole_file
from compendium.figures import made_of
from compendium.figures.params import check_parameters, notebook_of

VERIFY = BUILD / "verify"
KERNEL_OPTIONS = [
    "--log-level=CRITICAL",  # every kernel warns of TCP, which here never leaves the machine
    # Importing the library makes many objects and hardly any garbage. Python looks for garbage
    # a seventieth as often as by default; that saves half a second of each figure.
    "--IPKernelApp.exec_lines=import gc; gc.set_threshold(50_000, 20, 20)",
]
CELL_SECONDS = 600
NOT_HERE = 3  # exit status of a process that lacks the data of its figure
# One thread each: the numbers do not depend on how many cores there are. Memory that is freed is
# kept for the next allocation, because giving it back and asking again costs up to a third of the
# time; it comes in pages of 2 MB, because those of 4 kB cost a twentieth. Only the C library of
# Linux reads the last three variables.
KERNEL = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "NUMBA_NUM_THREADS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def execute(notebook: Path, into: Path, parameters: dict, environment: dict | None = None) -> None:
    """Run a notebook with papermill, the folder `notebooks/` as its working directory.

    A kernel that dies before it answers is started once more (a known race of parallel starts).
    What kernels say outside of cells, as when one is stopped, goes to a `.log` beside the run,
    never among the lines of make.

    Args:
        notebook: to run.
        into: where the executed notebook goes.
        parameters: papermill's, by name.
        environment: variables of the kernel on top of this process's and `KERNEL`.

    Raises:
        MissingDataError: if a cell asks for data that is known, but not here.
        ValueError: if a cell fails; says which, and where to read the rest.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # whatever kernels the user has
    log = into.with_suffix(".log")
    log.unlink(missing_ok=True)
    for last_attempt in (False, True):
        try:
            execute_notebook(
                str(notebook),
                str(into),
                parameters,
                kernel_name="python3",
                cwd=str(NOTEBOOKS),
                progress_bar=False,
                request_save_on_cell_execute=False,  # once at the end, or when a cell fails
                shutdown_kernel="immediate",  # its files are written: nothing to wait for
                execution_timeout=CELL_SECONDS,
                extra_arguments=KERNEL_OPTIONS,
                kernel_manager_class=_kernel_that_writes_to(log, KERNEL | (environment or {})),
            )
            return
        except DeadKernelError:
            if last_attempt:
                last = f"; what it said last: {log.relative_to(ROOT)}" if log.stat().st_size else ""
                raise ValueError(
                    f"{notebook.name}: the kernel died (out of memory?){last}"
                ) from None
        except CellTimeoutError:
            raise ValueError(
                f"{notebook.name}: a cell ran for more than {CELL_SECONDS} s"
            ) from None
        except PapermillExecutionError as error:
            if error.ename == MissingDataError.__name__:
                raise MissingDataError(error.evalue) from None
            raise ValueError(
                f"{notebook.name}, cell {error.cell_index}: {error.ename}: {error.evalue} "
                f"(the run up to there: {into.relative_to(ROOT)})"
            ) from None


def _kernel_that_writes_to(log: Path, environment: dict[str, str]) -> type:
    """Return a kind of kernel with these variables, whose own stdout and stderr go to `log`."""
    from jupyter_client.manager import AsyncKernelManager

    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **options):
            options["env"] = options.get("env", os.environ) | environment
            with log.open("a") as file:  # the kernel keeps its copy
                await super().start_kernel(stdout=file, stderr=file, **options)

    return Kernel


def draw(figure: str, folder: Path = BUILD) -> list[str]:
    """Draw one figure: run its notebook and, if all went well, move its files into `figures/`.

    Args:
        figure: name of a params file, without `.yml`.
        folder: where the run lives. In any folder but `build/` the files stay in
            `folder/<figure>/`, and `figures/` is not written to.

    Returns:
        the names of the files that the notebook wrote.

    Raises:
        MissingDataError: if an agent or replay is known, but not here.
        ValueError: if a parameter is misspelt, a cell fails, or nothing was drawn.
    """
    parameters, known = check_parameters(figure), made_of.ingredients(figure)
    out_dir, done = folder / figure, folder / f"{figure}.ipynb"
    running = folder / "running" / f"{figure}.ipynb"
    running.parent.mkdir(parents=True, exist_ok=True)
    why = made_of.out_of_date(figure) if folder == BUILD else "again"
    if folder == BUILD:
        made_of.record_of(figure).unlink(missing_ok=True)
    done.unlink(missing_ok=True)
    shutil.rmtree(out_dir, ignore_errors=True)
    out_dir.mkdir(parents=True)
    started = time.monotonic()
    print(f"drawing {figure} ({why or 'asked for'}) ...", flush=True)
    log = running.with_suffix(".used")
    given = parameters | {"out_dir": str(out_dir)}
    execute(notebook_of(figure), running, given, made_of.recording(log))
    _add_parameters(out_dir / f"{figure}.json", known["parameters"])
    products = sorted(path.name for path in out_dir.iterdir())
    if not any(name.endswith(".png") for name in products):
        raise ValueError(f"{notebook_of(figure).name} wrote no PNG into its out_dir")
    if foreign := [name for name in products if not name.startswith(figure)]:
        raise ValueError(f"the files of the figure {figure!r} must start with its name: {foreign}")
    if folder == BUILD:
        FIGURES.mkdir(exist_ok=True)
        for name in products:
            os.replace(out_dir / name, FIGURES / name)
    os.replace(running, done)
    if folder == BUILD:
        made_of.write_record(figure, known, made_of.used(log), products)
    print(f"drew {figure} ({time.monotonic() - started:.0f} s): {', '.join(products)}", flush=True)
    return products


def _add_parameters(path: Path, parameters: dict) -> None:
    """Let the numbers of a figure say with which parameters they were computed."""
    if path.is_file():
        numbers = json.loads(path.read_text(encoding="utf-8")) | {"parameters": parameters}
        text = json.dumps(numbers, indent=1, sort_keys=True, ensure_ascii=False)
        with whole_file(path) as whole:
            whole.write_text(text + "\n", encoding="utf-8")


def draw_all(figures: Sequence[str], jobs: int, folder: Path = BUILD) -> dict[str, int]:
    """Draw figures side by side, each in a process of its own; one that fails stops no other.

    Args:
        figures: names of params files.
        jobs: processes at a time.
        folder: see `draw`.

    Returns:
        figure -> exit status: 0, `NOT_HERE`, or what its process left with after its error line.
    """
    # The process of each figure is forked from one that has loaded papermill.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "compendium.cli", "papermill"])

    def run(figure: str) -> int:
        process = context.Process(target=_draw_and_exit, args=(figure, folder != BUILD))
        process.start()
        process.join()
        return process.exitcode

    pool = ThreadPoolExecutor(jobs)
    try:
        runs = pool.map(run, figures)
        return dict(zip(figures, runs, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C reaches the running ones, too; none follows


def _draw_and_exit(figure: str, again: bool) -> None:
    """Run `make figure` in this process, and end it with the exit status."""
    from compendium import cli, commands

    sys.exit(cli.exit_status(lambda: commands.figure(figure, again)))
