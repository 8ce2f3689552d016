"""What came out of the tests of a claim, in lines that are true whichever way it came out."""

from collections.abc import Mapping

from atarilens.episodes import FEWEST


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
