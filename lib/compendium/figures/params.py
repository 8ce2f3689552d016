"""The figures that there are: one file in `notebooks/params`, one figure.

`notebooks/params/01_strong_agents--pong.yml` and `notebooks/01_strong_agents.ipynb` make the figure
`01_strong_agents--pong`.
"""

from pathlib import Path

import yaml

from atarilens.paths import FIGURES, NOTEBOOKS, ROOT

PARAMS = NOTEBOOKS / "params"


def list_figures(only: str = "") -> list[str]:
    """List the figures that have a params file and whose names start with a word of `only`.

    Args:
        only: starts of names, with spaces between them; "" lists all.

    Raises:
        ValueError: if no figure starts with one of the words.
    """
    names = sorted(path.stem for path in PARAMS.glob("*.yml"))
    for start in _starts(only):
        if not any(name.startswith(start) for name in names):
            raise ValueError(
                f"no figure starts with {start!r}; expected the start of a name in "
                f"notebooks/params, {names[0]} to {names[-1]}"
            )
    return [name for name in names if name.startswith(_starts(only))]


def _starts(only: str) -> tuple[str, ...]:
    return tuple(only.split()) or ("",)


def notebook_of(figure: str) -> Path:
    """Return the notebook that draws a figure: the part of the name before `--`."""
    return NOTEBOOKS / f"{figure.split('--')[0]}.ipynb"


def read_parameters(figure: str) -> dict:
    """Read the params file of a figure.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold `name: value` lines.
    """
    path = PARAMS / f"{figure}.yml"
    if not path.is_file():
        known = ", ".join(sorted(known.stem for known in PARAMS.glob("*.yml")))
        raise FileNotFoundError(
            f"no params file for the figure {figure!r}; expected one of {known}"
        )
    try:
        parameters = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        where = str(error).replace("\n", " ")
        raise ValueError(f"{path.relative_to(ROOT)} is not YAML: {where}") from error
    if not isinstance(parameters, dict):
        raise ValueError(
            f"{path.relative_to(ROOT)}: expected `name: value` lines, got {parameters}"
        )
    return parameters


def check_parameters(figure: str) -> dict:
    """Read the parameters of a figure and compare their names with those of its notebook.

    papermill only warns about a name that the notebook does not know, and draws the default.

    Raises:
        FileNotFoundError: if there is no such params file, or no such notebook.
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


def files_of(figure: str, folder: Path) -> set[str]:
    """Name the files that start with the name of a figure, and not with a longer figure's."""
    longer = tuple(name for name in list_figures(figure) if name != figure)
    return {path.name for path in folder.glob(f"{figure}*") if not path.name.startswith(longer)}


def left_over(only: str = "", folder: Path = FIGURES) -> list[str]:
    """Name the drawn files that no params file makes; their names start with a word of `only`."""
    made = set().union(*(files_of(figure, folder) for figure in list_figures()))
    drawn = {path.name for path in folder.iterdir() if path.stem != "README"}
    return sorted(name for name in drawn - made if name.startswith(_starts(only)))
