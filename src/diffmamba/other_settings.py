"""What further words of the command line make of a table: the same cells as its plain sweep has, or others."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.reports import Design, Results, pages
from diffmamba.runs.plan import cells_of, configurations, expand

PLACES = ("scale", "runs")


def other_settings(
    design: Design, cells: Sequence[tuple[str, Mapping[str, Any]]], words: Sequence[str]
) -> tuple[str, ...]:
    """The words that make other cells or runs than the plain sweep at this scale has; none if all are the same.

    `cells` are ids and configurations of the runs. The content decides, not the words: `seed=0,42` makes the same runs
    as the plain sweep if the scale has these seeds.
    """
    places = _places(words)
    told = tuple(word for word in pages.telling(words, design.of_machine) if word not in places)
    if not told:
        return ()
    try:
        plain = expand(design.sweep, places, prepare=False)
    except SettingError:  # this scale has no plain sweep
        return told
    asked = [(item.id, item.config) for item in plain if item.asked]
    here, *same = (
        {(design.key(config), run_id) for run_id, config in each} for each in (cells, asked, cells_of(plain))
    )
    return () if here in same else told


def without_baseline(design: Design, results: Results, words: Sequence[str]) -> tuple[str, ...]:
    """The fewest words that leave out a baseline: without them, a group that has no baseline would have one."""
    bare = {group for group, cells in results.groups.items() if not any(cell.key.is_baseline for cell in cells)}
    if not bare or not results.settings:
        return ()

    def restored(dropped: Sequence[str]) -> bool:
        try:
            rest = configurations(design.sweep, [word for word in words if word not in dropped])
        except SettingError:  # the other words need one of these
            return False
        keys = [design.key(config) for config in rest]
        return any(key.is_baseline and (key.group in bare or len(bare) == len(results.groups)) for key in keys)

    guilty = _suspects(design, results.settings, words)
    if not guilty or not restored(guilty):
        return ()
    for word in guilty:
        fewer = [other for other in guilty if other != word]
        guilty = fewer if fewer and restored(fewer) else guilty
    return tuple(guilty)


def _suspects(design: Design, settings: Sequence[str], words: Sequence[str]) -> list[str]:
    """The words for settings whose value is part of what names the baseline of the plain sweep."""
    found = []
    for config in configurations(design.sweep, _places(words)):
        if (key := design.key(config)).is_baseline:
            named = {str(value) for value in key.fields.values() if value is not None}
            found += [word for word in settings if str(_value(config, word.lstrip("+").partition("=")[0])) in named]
    return list(dict.fromkeys(found))


def _value(config: Any, name: str) -> Any:
    """The value of a setting such as `model.outer_norm`; for a group such as `model` its name."""
    for part in name.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config.get("name") if isinstance(config, Mapping) else config


def _places(words: Sequence[str]) -> list[str]:
    """The words that the plain sweep has too."""
    return [word for word in words if word.partition("=")[0] in PLACES]
