"""Draw the figures: one params file, one run of a notebook, one figure.

`notebooks/params/01_strong_agents--pong.yml` and `notebooks/01_strong_agents.ipynb` make the figure
`01_strong_agents--pong`. What the notebook writes into its parameter `out_dir` (`build/<figure>/`)
moves into `figures/` after it has ended well; the executed notebook, `build/<figure>.ipynb`, moves
into place last, and is what make takes for done.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from atarilens.paths import AGENTS, BUILD, FIGURES, LOGS, NOTEBOOKS, REPLAYS, ROOT, SCORES, cache

PARAMS = NOTEBOOKS / "params"
VERIFY = BUILD / "verify"
PRODUCTS = "products.txt"  # in build/<figure>/: the names of the files that moved into figures/
QUIET = ["--log-level=CRITICAL"]  # every kernel warns of TCP, which here never leaves the machine
RELATIVE_TOLERANCE = 1e-3  # of a number that another processor computes again
ABSOLUTE_TOLERANCE = 1e-6
NOUNS = ("agent", "replay", "log")  # what a parameter names that ends so


def list_figures(only: str = "") -> list[str]:
    """List the figures that have a params file and whose names start with `only`.

    Raises:
        ValueError: if there is none.
    """
    names = sorted(path.stem for path in PARAMS.glob("*.yml"))
    found = [name for name in names if name.startswith(only)]
    if not found:
        raise ValueError(f"no figure starts with {only!r}; expected one of {', '.join(names)}")
    return found


def notebook_of(figure: str) -> Path:
    """Return the notebook that draws a figure: the part of the name before `--`."""
    return NOTEBOOKS / f"{figure.split('--')[0]}.ipynb"


def read_parameters(figure: str) -> dict:
    """Read the params file of a figure.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold `name: value` lines, or what should name an agent, a
            replay or a log does not.
    """
    path = PARAMS / f"{figure}.yml"
    if not path.is_file():
        known = ", ".join(sorted(known.stem for known in PARAMS.glob("*.yml")))
        raise FileNotFoundError(
            f"no params file for the figure {figure!r}; expected one of {known}"
        )
    parameters = _read_mapping(path)
    for noun in NOUNS:
        for name in _named(parameters, noun):
            if not isinstance(name, str) or os.sep in name:
                raise ValueError(
                    f"{path.relative_to(ROOT)}: expected the name of {noun} in data, got {name!r}"
                )
    return parameters


def _read_mapping(path: Path) -> dict:
    try:
        mapping = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        where = str(error).replace("\n", " ")
        raise ValueError(f"{path.relative_to(ROOT)} is not YAML: {where}") from error
    if not isinstance(mapping, dict):
        raise ValueError(f"{path.relative_to(ROOT)}: expected `name: value` lines, got {mapping}")
    return mapping


def _named(parameters: dict, noun: str) -> Iterator[str]:
    """Yield what the parameters `noun`, `nouns`, `*_noun` and `*_nouns` name."""
    for key, value in parameters.items():
        if key.removesuffix("s").endswith(noun) and value:
            yield from value if isinstance(value, list | dict) else [value]


def sources(parameters: dict) -> tuple[list[Path], list[str]]:
    """Find the agents, replays and training logs that the parameters of a figure name.

    Returns:
        the files that exist, with the scores and logs of the agents, and what is missing in words:
        also the table of scores of an agent that was measured here, as its row says.
    """
    files, missing = [], []
    for name in _named(parameters, "agent"):
        found = sorted(AGENTS.glob(f"{name}.*"))
        files += [*found, *SCORES.glob(f"{name}.csv"), *LOGS.glob(f"{name}.csv")]
        fetched = (cache() / "agents").glob(f"{name}.*")  # other people's: a row and the cache
        weights = [path for path in (*found, *fetched) if path.suffix != ".yml"]
        if not weights and not name.startswith("untrained-"):
            missing.append(f"agent {name} missing")
        if not (SCORES / f"{name}.csv").is_file() and _was_measured_here(name):
            missing.append(f"scores of {name} missing")
    for noun, folder in (("replay", REPLAYS), ("log", LOGS)):
        for name in _named(parameters, noun):
            found = sorted(folder.glob(f"{name}.*"))
            files += [*found, *(SCORES.glob(f"{name}.csv") if noun == "log" else ())]
            if not found:
                missing.append(f"{noun} {name} missing")
    return list(dict.fromkeys(files)), list(dict.fromkeys(missing))


def _was_measured_here(agent: str) -> bool:
    """Tell whether an agent has a row with a score, and is not other people's."""
    path = AGENTS / f"{agent}.yml"
    row = _read_mapping(path) if path.is_file() else {}
    return bool(row.get("score")) and "url" not in row


def not_drawn(only: str = "") -> list[str]:
    """Say for each figure that cannot be drawn what it wants: 'X (agent Y missing)'."""
    wants = {figure: sources(read_parameters(figure))[1] for figure in list_figures(only)}
    return [f"{figure} ({', '.join(missing)})" for figure, missing in wants.items() if missing]


def rules(only: str = "") -> str:
    """Write for make which figures can be drawn, and which files each is made from.

    A figure one of whose files is gone from `figures/` depends on FORCE: it is drawn again.
    """
    lines, drawable = [], []
    for figure in list_figures(only):
        files, missing = sources(read_parameters(figure))
        if missing:
            continue
        drawable.append(figure)
        needs = [notebook_of(figure), PARAMS / f"{figure}.yml", *files]
        names = " ".join(str(path.relative_to(ROOT)) for path in needs)
        products = BUILD / figure / PRODUCTS
        listed = products.read_text().split() if products.is_file() else []
        lost = not listed or any(not (FIGURES / name).is_file() for name in listed)
        lines.append(f"build/{figure}.ipynb: {names}{' FORCE' if lost else ''}")
        lines.append(f"build/verify/{figure}.ipynb: FORCE")
    return "\n".join([f"FIGURES := {' '.join(drawable)}", *lines, ""])


def check_parameters(figure: str) -> dict:
    """Read the parameters of a figure and hold them against those of its notebook.

    papermill only warns about a name that the notebook does not know, and draws the default.

    Raises:
        ValueError: if the params file has a name that the notebook does not.
    """
    from papermill import inspect_notebook

    parameters, notebook = read_parameters(figure), notebook_of(figure)
    if not notebook.is_file():
        raise FileNotFoundError(f"the figure {figure!r} wants notebooks/{notebook.name}: not there")
    accepted = inspect_notebook(str(notebook))
    if unknown := [name for name in parameters if name not in accepted or name == "out_dir"]:
        names = ", ".join(name for name in accepted if name != "out_dir")
        raise ValueError(
            f"notebooks/params/{figure}.yml: {notebook.name} has no parameter "
            f"{', '.join(map(repr, unknown))}; expected one of {names}"
        )
    return parameters


def execute(notebook: Path, into: Path, parameters: dict) -> None:
    """Run a notebook with papermill, the folder `notebooks/` as its working directory.

    A kernel that dies before it answers is started once more (a known race of parallel starts).
    What kernels say outside of cells, as when one is stopped, goes to a `.log` beside the run,
    never among the lines of make.

    Raises:
        ValueError: if a cell fails; says which, and where to read the rest.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

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
                execution_timeout=600,
                extra_arguments=QUIET,
                kernel_manager_class=_kernel_that_writes_to(log),
            )
            return
        except DeadKernelError:
            if last_attempt:
                raise ValueError(
                    f"{notebook.name}: the kernel died (out of memory?); what it said last: "
                    f"{log.relative_to(ROOT)}"
                ) from None
        except CellTimeoutError:
            raise ValueError(f"{notebook.name}: a cell ran for more than 600 s") from None
        except PapermillExecutionError as error:
            raise ValueError(
                f"{notebook.name}, cell {error.cell_index}: {error.ename}: {error.evalue} "
                f"(the run up to there: {into.relative_to(ROOT)})"
            ) from None


def _kernel_that_writes_to(log: Path) -> type:
    """Return a kind of kernel whose own stdout and stderr are appended to a file."""
    from jupyter_client.manager import AsyncKernelManager

    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **options):
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
        ValueError: if a parameter is misspelt, a cell fails, or nothing was drawn.
    """
    parameters = check_parameters(figure)
    out_dir, done = folder / figure, folder / f"{figure}.ipynb"
    running = folder / "running" / f"{figure}.ipynb"
    running.parent.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    shutil.rmtree(out_dir, ignore_errors=True)
    out_dir.mkdir(parents=True)
    started = time.monotonic()
    print(f"drawing {figure} ...", flush=True)
    execute(notebook_of(figure), running, parameters | {"out_dir": str(out_dir)})
    products = sorted(path.name for path in out_dir.iterdir())
    if not any(name.endswith(".png") for name in products):
        raise ValueError(f"{notebook_of(figure).name} wrote no PNG into its out_dir")
    if foreign := [name for name in products if not name.startswith(figure)]:
        raise ValueError(f"the files of the figure {figure!r} must start with its name: {foreign}")
    if folder == BUILD:
        FIGURES.mkdir(exist_ok=True)
        for name in products:
            os.replace(out_dir / name, FIGURES / name)
        (out_dir / PRODUCTS).write_text("\n".join(products) + "\n")
    os.replace(running, done)
    print(f"drew {figure} ({time.monotonic() - started:.0f} s): {', '.join(products)}", flush=True)
    return products


def differences(stored: object, again: object, where: str = "") -> Iterator[str]:
    """Yield in words where two values read from JSON differ.

    Numbers may differ by `ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * |stored|`: another processor
    rounds differently. Everything else must be equal.
    """
    if isinstance(stored, dict) and isinstance(again, dict):
        for key in sorted(stored.keys() | again.keys()):
            name = f"{where}.{key}" if where else key
            if key in stored and key in again:
                yield from differences(stored[key], again[key], name)
            else:
                yield f"{name}: only in the {'stored' if key in stored else 'new'} numbers"
    elif isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for index, pair in enumerate(zip(stored, again, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif _is_number(stored) and _is_number(again):
        both_undefined = math.isnan(stored) and math.isnan(again)
        tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(stored)
        if not (both_undefined or stored == again or abs(stored - again) <= tolerance):
            yield f"{where}: stored {stored}, now {again}"
    elif stored != again:
        yield f"{where}: stored {stored!r}, now {again!r}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def compare(only: str = "", again: Path = VERIFY, stored: Path = FIGURES) -> list[str]:
    """Compare the figures drawn again with those stored, and print what was compared.

    Returns:
        what is wrong, in words: `file: path: stored a, now b`; a file that is only stored or only
        new; a figure that was not drawn again, whatever an earlier run of it left. Pictures and
        movies whose bytes differ are printed, and not returned: other fonts or encoders change
        bytes, not claims.
    """
    wrong, figures, pictures, same = [], 0, 0, 0
    for figure in list_figures(only):
        missing = sources(read_parameters(figure))[1]
        if missing or not (again / f"{figure}.ipynb").is_file():
            wrong.append(f"{figure} not drawn again: {', '.join(missing) or 'no run of it ended'}")
            continue
        figures += 1
        for name in sorted(_files_of(figure, stored) | _files_of(figure, again / figure)):
            old, new = stored / name, again / figure / name
            if not old.is_file():
                wrong.append(f"{name}: not in figures/; run `make figures` first")
            elif not new.is_file():
                wrong.append(f"{name}: in figures/, but no longer drawn")
            elif new.suffix == ".json":
                pair = (json.loads(path.read_text()) for path in (old, new))
                wrong += [f"{name}: {line}" for line in differences(*pair)]
            else:
                pictures += 1
                equal = old.read_bytes() == new.read_bytes()
                same += equal
                if not equal:
                    print(f"other bytes: {name}")
    print(
        f"{figures} figures drawn again; numbers compared within {RELATIVE_TOLERANCE:g} "
        f"(relative) + {ABSOLUTE_TOLERANCE:g}; {same} of {pictures} pictures and movies "
        "are equal byte for byte"
    )
    return wrong


def _files_of(figure: str, folder: Path) -> set[str]:
    """Name the files that start with the name of a figure, and not with a longer figure's."""
    longer = tuple(name for name in list_figures(figure) if name != figure)
    return {path.name for path in folder.glob(f"{figure}*") if not path.name.startswith(longer)}
