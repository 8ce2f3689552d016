"""What the stored numbers of the figures answer: each claim once, corrected for their number."""

import re
from collections.abc import Iterable, Iterator, Mapping

from atarilens.measures import Corrected, holm, joint_p_value, p_value_of_interval

HINTS = ("true hints", "random hints", "no hints")  # conditions whose scores the page lists
STICKY = ", sticky"  # ends the name of such a condition under sticky actions, as in the picture
LEVEL = 0.05  # of one false verdict among all claims


def outcome(test: Mapping) -> str:
    """Return the word for a test against one control."""
    if "outcome" in test:
        return test["outcome"]
    if test["high"] is None:  # too few games for an interval
        return "undecided"
    return "holds" if test["holds"] else "reversed" if test["high"] < 0 else "undecided"


def claims_in(numbers: Mapping, name: str = "") -> Iterator[tuple[str, dict]]:
    """Yield each claim of a figure: its name, and its tests by the name of the control."""
    tests = {key: test for key, test in numbers.items() if isinstance(test, Mapping)}
    if tests and all("holds" in test and "low" in test for test in tests.values()):
        yield name, tests
    else:
        for key, inner in tests.items():
            yield from claims_in(inner, key)


def joint(tests: Mapping[str, Mapping]) -> str:
    """Return the word for a claim against all its controls, each of which it has to beat."""
    words = [outcome(test) for test in tests.values()]
    return next(w for w in ("reversed", "absent", "undecided", "holds") if w in words)


def split(numbers: Mapping, about: str = "") -> Iterator[tuple[str, dict, dict]]:
    """Yield each claim: its name, its tests that answer the paper, and those beside it."""
    for name, tests in claims_in(numbers.get("claims", {})):
        ours = {key: test for key, test in tests.items() if re.search(about, f"{name}/{key}")}
        yield name, ours, {key: test for key, test in tests.items() if key not in ours}


def answers(numbers: Mapping, about: str = "", levels: Mapping = {}) -> list[str]:
    """Say in words what the numbers of a figure answer, a line for each claim.

    A claim counts once: it holds if it holds against every control. A claim that does not hold is
    reversed, absent or undecided as its worst control says, in this order.

    Args:
        numbers: the figure's JSON.
        about: a regular expression; only tests whose "claim/control" it finds answer the paper.
            The others are given last, as "beside it".
        levels: of `corrected`.
    """
    lines, beside = [], []
    for name, ours, rest in split(numbers, about):
        lines += [answer(name, ours, levels)] if ours else []
        beside += [f"beside it, {answer(name, rest)}"] if rest else []
    for name, held in numbers.get("claims", {}).items():
        if isinstance(held, bool):
            lines.append(f"{name}: **{'holds' if held else 'does not hold'}**")
    for name, held in numbers.items():
        if isinstance(held, bool):
            word = "holds" if held else "does not hold"
            lines.append(f"**{word}**" if name == "holds" else f"{name}: {'yes' if held else 'no'}")
    if not lines + beside:  # a figure without controls says in words what it found
        return [f"{name}: {words}" for name, words in numbers.get("verdicts", {}).items()]
    return lines + beside


def answer(name: str, tests: Mapping[str, Mapping], levels: Mapping = {}) -> str:
    """Say what a claim came to against all of some controls, and against each of them.

    Args:
        name: of the claim, or "".
        tests: control -> its test.
        levels: of `corrected`; a claim that is not among them is given without its level.
    """
    against = ", ".join(
        f"{control} {test['difference']:.2f} ({interval_of(test)})"
        for control, test in tests.items()
    )
    number = next(iter(tests.values()))["episodes"]
    word, found = joint(tests), levels.get(key_of(tests))
    if found and word in ("holds", "reversed"):
        least = f"= {found.adjusted:.3f}" if found.adjusted >= 0.001 else "< 0.001"
        against = f"Holm's p {least}; {against}"
    return f"{name}{': ' if name else ''}**{word}**; {against}; n = {number}"


def further(numbers: Mapping) -> list[str]:
    """Say what else a figure measured of its claims: onsets, deletions, comparisons, sentences.

    Args:
        numbers: the figure's JSON. Read are "onsets" (head -> words), "deletion" (object -> control
            -> test, in points of 100 of the policy), "deletion, points of the policy" (object ->
            a row of mean, low and high for each age), "beside" (name -> test, or control -> test),
            "scores: mean, low, high" ("agent, condition" -> three numbers), "likeness" (words
            about the scores of two agents) and "in words" (name -> a sentence).
    """
    onsets = numbers.get("onsets", {}).items()
    lines = [f"onset, {head}: {words}" for head, words in onsets]
    deleted = [
        f"{thing} {test['mean']:.1f} ({test['control']:.1f}; {interval_of(test)}, {outcome(test)}, "
        f"n = {test['episodes']})"
        for thing, tests in numbers.get("deletion", {}).items()
        for test in tests.values()
    ]
    if deleted:
        what = "in brackets a same-size patch elsewhere, and the difference's interval"
        lines.append(
            f"deleted, it moves the policy by points of 100 ({what}): {'; '.join(deleted)}"
        )
    ages = numbers.get("deletion, points of the policy", {}).items()
    by_age = [f"{thing} {', '.join(f'{row[0]:.1f}' for row in rows)}" for thing, rows in ages]
    if by_age:
        lines.append(f"the same by age, from untrained to strong: {'; '.join(by_age)}")
    for name, tests in numbers.get("beside", {}).items():
        name, tests = ("", {name: tests}) if "difference" in tests else (name, tests)
        lines.append(f"beside it, {answer(name, tests)}")
    scores: dict[str, list[str]] = {}
    for name, (mean, low, high) in numbers.get("scores: mean, low, high", {}).items():
        agent, _, condition = name.partition(", ")
        if condition.removesuffix(STICKY) not in HINTS:
            continue
        words = condition.replace(STICKY, " and sticky actions")
        scores.setdefault(agent, []).append(f"{words} {mean:.1f} ({low:.1f} to {high:.1f})")
    lines += [f"score, {agent} agent: {'; '.join(rows)}" for agent, rows in scores.items()]
    if "likeness" in numbers:
        lines.append(f"scores, overfit under true hints to control: {numbers['likeness']}")
    return lines + [f"{name}: {words}" for name, words in numbers.get("in words", {}).items()]


def interval_of(test: Mapping) -> str:
    """Return "low to high" of a test, or that one episode has no interval."""
    if test["low"] is None:
        return "no interval"
    return f"{test['low']:.2f} to {test['high']:.2f}"


# --- the number of claims


def key_of(tests: Mapping[str, Mapping]) -> tuple:
    """Return what tells a claim from others: figures that share their numbers share a claim."""
    return tuple(
        sorted((t["difference"], t["low"], t["high"], t["episodes"]) for t in tests.values())
    )


def p_of(tests: Mapping[str, Mapping]) -> float:
    """Return the p value of a claim's verdict.

    "holds" needs every control: the largest p value (Berger 1982). "reversed" needs one: the
    smallest, times the number of controls (Bonferroni). Other verdicts assert nothing: 1.
    """
    word = joint(tests)
    if word not in ("holds", "reversed"):
        return 1.0
    values = {
        name: p_value_of_interval(*(test[k] for k in ("difference", "low", "high", "episodes")))
        for name, test in tests.items()
        if test["low"] is not None
    }
    if word == "holds":
        return joint_p_value(values.values())
    below = (p for name, p in values.items() if tests[name]["difference"] < 0)
    return min(1.0, len(values) * min(below))


def corrected(figures: Iterable[tuple[Mapping, str]]) -> dict[tuple, Corrected]:
    """Correct the verdicts of all claims that answer the paper, or that a notebook makes itself.

    Args:
        figures: (the figure's JSON, its `about` as in `answers`).

    Returns:
        `key_of` a claim -> its p value, Holm's, and whether the verdict stands at 5 % among all.
    """
    claims = {
        key_of(ours): p_of(ours)
        for numbers, about in figures
        for _, ours, _ in split(numbers, about)
        if ours
    }
    return holm(claims, LEVEL)


def counted(levels: Mapping[tuple, Corrected]) -> str:
    """Say how many claims there are, and how many verdicts stand after the correction."""
    alone = [found for found in levels.values() if found.p < LEVEL]
    standing = sum(found.significant for found in alone)
    return (
        f"{len(levels)} different claims have an interval; {len(alone)} of them hold or are "
        f"reversed. {standing} of these verdicts stand if the chance of one false verdict among "
        f"all {len(levels)} is kept below 5 % (Holm 1979): their *Holm's p* is below 0.05. "
        "Figures that share their numbers count as one claim."
    )
