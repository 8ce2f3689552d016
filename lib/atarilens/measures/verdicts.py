"""What came out of the tests of a claim, in lines that are true whichever way it came out."""

from collections.abc import Callable, Collection, Mapping

import numpy as np

FEWEST = 3  # episodes that a claim needs: an interval over one or two of them says nothing


def what_came_out(tests: Mapping[str, Mapping], claim: str = "The claim") -> str:
    """Say control by control whether a claim holds, is not shown, or is reversed.

    *Not shown*: the interval of the difference has 0 in it. *Reversed*: all of it is below 0, the
    control has more. Neither is a success of the claim; only the second is evidence against it.

    Args:
        tests: control -> what `episodes.contrast` found against it.
        claim: what the first line calls it.

    Returns:
        A line that counts, and a line per control.

    Example:
        >>> test = {"mean": 7.1, "control": 7.0, "difference": 0.1, "low": -1, "high": 1.2}
        >>> print(what_came_out({"chance": test | {"episodes": 4, "holds": False}}))
        The claim holds against 0 of 1 controls:
          not shown against chance (7.10 against 7.00; difference 0.10, -1.00 to 1.20; n = 4)
    """
    held = sum(test["holds"] for test in tests.values())
    lines = [f"{claim} holds against {held} of {len(tests)} controls:"]
    for name, test in tests.items():
        if test["episodes"] < FEWEST:
            word = "cannot be judged"
        elif test["holds"]:
            word = "holds"
        else:
            word = "reversed" if test["high"] < 0 else "not shown"
        means = f"{test['mean']:.2f} against {test['control']:.2f}"
        difference = f"{test['difference']:.2f}, {test['low']:.2f} to {test['high']:.2f}"
        lines.append(
            f"  {word} against {name} ({means}; difference {difference}; n = {test['episodes']})"
        )
    return "\n".join(lines)


def contrast(
    values: np.ndarray, controls: np.ndarray, interval: Callable[[np.ndarray], tuple]
) -> dict[str, float | bool]:
    """Compare two measures of the same episodes.

    Args:
        values: `[E]`, NaN where an episode has none.
        controls: `[E]`, of the same episodes.
        interval: gives (low, high) of the mean of `[n]` values, for example
            `evaluation.mean_interval`.

    Returns:
        "mean" and "control" (means over the episodes that have both), "difference", "low" and
        "high" of its interval, "episodes", and "holds": whether the whole interval is above 0, for
        which at least three episodes are needed.

    Raises:
        ValueError: if no episode has both.
    """
    both = np.isfinite(values) & np.isfinite(controls)
    if not both.any():
        raise ValueError("no episode has both measures: use more steps or more episodes")
    difference = values[both] - controls[both]
    low, high = interval(difference)
    return {
        "mean": float(values[both].mean()),
        "control": float(controls[both].mean()),
        "difference": float(difference.mean()),
        "low": float(low),
        "high": float(high),
        "episodes": int(both.sum()),
        "holds": bool(low > 0 and both.sum() >= FEWEST),
    }


def verdict(test: Mapping) -> str:
    """Say what `contrast` found: "holds (0.61 against 0.02, difference 0.59, 95 % interval ...".

    Args:
        test: of `contrast`.
    """
    return (
        f"{_word([test])} ({test['mean']:.2f} against {test['control']:.2f}; difference "
        f"{test['difference']:.2f}, 95 % interval {test['low']:.2f} to {test['high']:.2f}, "
        f"n = {test['episodes']})"
    )


def joint_verdict(tests: Mapping[str, Mapping]) -> str:
    """Say whether a claim holds against every control: "holds (1.30; against elsewhere 0.97: yes".

    Args:
        tests: control -> what `contrast` found against it, of the same measure.
    """
    found = ", ".join(
        f"{name} {test['control']:.2f}: {'yes' if test['holds'] else 'no'}"
        for name, test in tests.items()
    )
    mean, episodes = (next(iter(tests.values()))[key] for key in ("mean", "episodes"))
    return f"{_word(tests.values())} ({mean:.2f}; against {found}; n = {episodes})"


def _word(tests: Collection[Mapping]) -> str:
    if any(test["episodes"] < FEWEST for test in tests):
        return f"cannot be judged from fewer than {FEWEST} episodes"
    return "holds" if all(test["holds"] for test in tests) else "does not hold"
