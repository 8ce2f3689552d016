"""Long tables are measured in parts, files that are kept until their table is whole."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import joblib
import numpy as np
from tqdm.auto import tqdm

from atarilens import paths
from atarilens.paths import whole_file


def digest(facts) -> str:
    """Return twelve letters that change with the facts (anything that JSON holds)."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def measure_table(
    name: str,
    measure: Callable[..., Iterable[dict]],
    wanted: Mapping[str, Sequence],
    columns: Sequence[str],
    *,
    keys: Sequence[str] = (),
    folder: Path | None = None,
    table: Path | None = None,
    progress: bool = True,
) -> Path:
    """Measure the parts that have no file yet, and write the table of all parts.

    An interrupted run goes on where it stopped. Parts are computed through `joblib.Parallel`:
    inside of `joblib.parallel_config` they go to that backend, with equal results.

    Args:
        name: of the table.
        measure: gives the rows of a part.
        wanted: name of a part -> the arguments of `measure`.
        columns: of the table.
        keys: columns that name a row, if several parts have columns of the same row.
        folder: of the finished parts; by default `build/<name>`.
        table: to write; by default `data/tables/<name>.csv`.
        progress: show a bar over parts.

    Returns:
        The path of the table.
    """
    folder, table = folder or paths.BUILD / name, table or paths.TABLES / f"{name}.csv"
    files = {folder / f"{part}.csv": arguments for part, arguments in wanted.items()}
    missing = {path: arguments for path, arguments in files.items() if not path.is_file()}
    jobs = (joblib.delayed(_measure)(measure, *entry) for entry in missing.items())
    done = joblib.Parallel(return_as="generator_unordered", pre_dispatch="n_jobs")(jobs)
    with tqdm(total=len(files), unit="part", disable=not progress) as bar:
        bar.update(len(files) - len(missing))
        for _ in done:
            bar.update(1)
    rows: dict[tuple, dict] = {}
    for path in files:
        for number, row in enumerate(read_rows(path)):
            key = tuple(row[column] for column in keys) or (path, number)
            rows.setdefault(key, {}).update(row)
    write_rows(rows.values(), columns, table)
    return table


def _measure(measure: Callable, path: Path, arguments: Sequence) -> None:
    """Measure one part and write its rows: one unit of work for joblib."""
    rows = list(measure(*arguments))
    write_rows(rows, list(dict.fromkeys(column for row in rows for column in row)), path)


def write_rows(rows: Iterable[dict], columns: Sequence[str], path: Path) -> None:
    """Write a table; numbers with 4 significant digits, and nothing for what is not finite."""
    with whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: spelt(row.get(name, "")) for name in columns})


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table, as text."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def spelt(value) -> str:
    """Spell a number with 4 significant digits; nothing for what is not finite."""
    if not isinstance(value, float | np.floating):
        return str(value)
    return f"{value:.4g}" if np.isfinite(value) else ""
