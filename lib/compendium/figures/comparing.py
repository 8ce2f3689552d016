"""Compare the figures that were drawn again with those stored, number by number."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from atarilens.paths import FIGURES
from compendium.figures.drawing import NOT_HERE, VERIFY
from compendium.figures.params import files_of, left_over, list_figures, read_parameters

RELATIVE_TOLERANCE = 1e-3  # of the largest number of a list that another processor computes again
ABSOLUTE_TOLERANCE = 1e-6


def changed_parameters(only: str = "", stored: Path = FIGURES) -> list[str]:
    """Say of each stored figure that was drawn with other parameters which of them changed."""
    lines = []
    for figure in list_figures(only):
        path = stored / f"{figure}.json"
        then = json.loads(path.read_text()).get("parameters") if path.is_file() else None
        now = json.loads(json.dumps(read_parameters(figure), default=str))
        if then is not None and then != now:
            lines.append(f"{figure}: {'; '.join(differences(then, now))}")
    return lines


def differences(stored: object, again: object, where: str = "", size: float = 0.0) -> Iterator[str]:
    """Yield in words where two values read from JSON differ.

    Numbers may differ by `ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * max(|stored|, size)`: another
    processor rounds differently. Everything else must be equal.

    Args:
        stored: the older value.
        again: the newer one.
        where: the path to it.
        size: largest magnitude of the list that holds a number. Rounding moves a number that is
            a sum of others, and happens to be near 0, by the size of those others.
    """
    if isinstance(stored, dict) and isinstance(again, dict):
        for key in sorted(stored.keys() | again.keys()):
            name = f"{where}.{key}" if where else key
            if key in stored and key in again:
                yield from differences(stored[key], again[key], name)
            else:
                yield f"{name}: only in the {'stored' if key in stored else 'new'} numbers"
    elif isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        numbers = [abs(n) for n in stored if _is_number(n) and math.isfinite(n)]
        for index, pair in enumerate(zip(stored, again, strict=True)):
            yield from differences(*pair, f"{where}[{index}]", max(numbers, default=0.0))
    elif _is_number(stored) and _is_number(again):
        both_undefined = math.isnan(stored) and math.isnan(again)
        tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * max(abs(stored), size)
        if not (both_undefined or stored == again or abs(stored - again) <= tolerance):
            yield f"{where}: stored {stored}, now {again}"
    elif stored != again:
        yield f"{where}: stored {stored!r}, now {again!r}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def compare(
    statuses: Mapping[str, int], only: str = "", again: Path = VERIFY, stored: Path = FIGURES
) -> list[str]:
    """Compare the figures drawn again with those stored, and print what was compared.

    Args:
        statuses: figure -> exit status, as `drawing.draw_all` returns it. Figures whose data is not
            here are passed over.
        only: see `list_figures`; files in `stored` that no params file makes are wrong.
        again: folder of the new runs.
        stored: folder of the stored files.

    Returns:
        what is wrong, in words: `file: path: stored a, now b`; a file that is only stored or only
        new; a figure that was not drawn again, whatever an earlier run of it left. Pictures and
        movies whose bytes differ are printed, and not returned: other fonts or encoders change
        bytes, not claims.
    """
    wrong, figures, pictures, same = [], 0, 0, 0
    for figure, status in statuses.items():
        if status:
            wrong += [] if status == NOT_HERE else [f"{figure} not drawn again"]
            continue
        figures += 1
        for name in sorted(files_of(figure, stored) | files_of(figure, again / figure)):
            old, new = stored / name, again / figure / name
            if not old.is_file():
                wrong.append(f"{name}: not in figures/; run `make figures` first")
            elif not new.is_file():
                wrong.append(f"{name}: in figures/, but no longer drawn")
            elif new.suffix == ".json":
                before, now = (json.loads(path.read_text()) for path in (old, new))
                if "parameters" not in before:  # drawn before figures named them
                    now.pop("parameters", None)
                wrong += [f"{name}: {line}" for line in differences(before, now)]
            else:
                pictures += 1
                equal = old.read_bytes() == new.read_bytes()
                same += equal
                if not equal:
                    print(f"other bytes: {name}")
    wrong += [
        f"{name}: in figures/, but no params file makes it" for name in left_over(only, stored)
    ]
    print(
        f"{figures} figures drawn again; numbers compared within {RELATIVE_TOLERANCE:g} "
        f"of the largest of their list + {ABSOLUTE_TOLERANCE:g}; {same} of {pictures} pictures "
        "and movies are equal byte for byte"
    )
    return wrong
