"""Settings of training: checked numbers, `name=value` words, and the name of a run's folder."""

import math
from dataclasses import MISSING, asdict, fields, replace
from typing import Any

NOT_BY_WORD = ("total_steps", "game", "hint")  # options of their own say these


def check_numbers(settings: Any, **ranges: tuple[float, float]) -> None:
    """Check that every number of a dataclass is finite and inside its range.

    Args:
        settings: a dataclass; the type of a field's default says whether it is a whole number.
        **ranges: (lowest, highest) of a field. Without one, whole numbers start at 1, others at 0.

    Raises:
        ValueError: for the first number that is not.
    """
    for field in fields(settings):
        number, kind = getattr(settings, field.name), type(field.default)
        if kind not in (int, float):
            continue
        low, high = ranges.get(field.name, (1 if kind is int else 0, math.inf))
        finite = isinstance(number, int if kind is int else int | float) and abs(number) < math.inf
        if not (finite and low <= number <= high):
            raise ValueError(
                f"{field.name} must be a {'whole' if kind is int else 'finite'} number from {low} "
                f"to {high}, received {number!r}"
            )


def check_seed(seed: int) -> None:
    """Check that every random generator accepts a seed."""
    if not (isinstance(seed, int) and 0 <= seed < 2**63):
        raise ValueError(f"seed must be a whole number from 0 to 2**63 - 1, received {seed!r}")


def defaults(settings: Any) -> dict:
    """Return the default of each field of a dataclass that has one."""
    return {f.name: f.default for f in fields(settings) if f.default is not MISSING}


def changed(words: list[str], *settings: Any) -> tuple[Any, ...]:
    """Apply `name=value` words, each to the settings that have a field of that name.

    Args:
        words: such as "clip=0.2", "life_loss=false" or "repeat_action_probability=0.25".
        *settings: dataclasses, such as `PPOSettings()` and `EnvironmentSettings("pong")`.

    Returns:
        The settings in the same order, changed.

    Raises:
        ValueError: for a name that none of them has, or a value of another type.
    """
    known = {
        name: (index, default)
        for index, group in enumerate(settings)
        for name, default in defaults(group).items()
        if name not in NOT_BY_WORD
    }
    values: list[dict] = [{} for _ in settings]
    for word in words:
        name, _, text = word.partition("=")
        if name not in known:
            raise ValueError(f"no setting {name!r}; expected one of {', '.join(known)}")
        index, default = known[name]
        kind = type(default)
        try:
            value = {"true": True, "false": False}[text] if kind is bool else kind(text)
        except (KeyError, ValueError):
            expected = "true or false" if kind is bool else f"of type {kind.__name__}"
            raise ValueError(f"{name} must be {expected}, received {text!r}") from None
        values[index][name] = value
    return tuple(replace(group, **v) for group, v in zip(settings, values, strict=True))


def run_name(start: str, seed: int, *settings: Any) -> str:
    """Name a run's folder after all in which runs differ, so that no two share a folder.

    Args:
        start: of the name: the game, and what the run starts from.
        seed: of the run; the last part of the name.
        *settings: dataclasses; each setting that is not its default becomes a part `name=value`.

    Example:
        >>> run_name("pong", 2, PPOSettings(clip=0.2), EnvironmentSettings("pong"))
        'pong-clip=0.2-2'
    """
    parts = [
        f"{name}={value}"
        for group in settings
        for name, value in asdict(group).items()
        if name not in NOT_BY_WORD and value != defaults(group).get(name, value)
    ]
    return "-".join([start, *parts, str(seed)]).replace("/", "_")
