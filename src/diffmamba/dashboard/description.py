"""What a page of W&B holds, as a file of `conf/dashboards/` says it.

Metrics have the names under which they are logged: `val/ppl`, `tokens`; a star stands for any number of them:
`lambda/*`. Settings begin with `config.`, such as `config.model.n_layers`. Panels that show one value a run (bars,
points, parallel, importance) take its last one.

Files of a user's own lie in the folder `dashboards` of their configuration directory: `conf/dashboards` in the working
directory, or `$DIFFMAMBA_CONF/dashboards`. One with the name of one of ours takes its place.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffmamba.configuration import CONF
from diffmamba.errors import SettingError

WORKSPACE, ANY_SWEEP = "workspace", "sweep"
"""The names of two files: the project's workspace, and the report of all that has no file of its own."""
Names = Annotated[list[str], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Panel(_Part):
    """`wide`: it takes the whole width of a report, not half of it."""

    title: str = ""
    wide: bool = False


class Curves(_Panel):
    """Lines of logged metrics `y` over another one, `x`; the runs of a variant are one line with a band."""

    kind: Literal["curves"]
    y: Names
    x: str = "step"
    log_x: bool = False
    log_y: bool = False


class Points(_Panel):
    """A point for each run."""

    kind: Literal["points"]
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False


class Bars(_Panel):
    """A bar for each variant and metric; `by` a setting: for each of its values, such as the tasks of MAD."""

    kind: Literal["bars"]
    y: Names
    by: str = ""


class Number(_Panel):
    """One number: the mean of a metric."""

    kind: Literal["number"]
    y: str


class Parallel(_Panel):
    """Parallel coordinates: an axis for each column, a line for each run. `log`: the columns with logarithmic axes."""

    kind: Literal["parallel"]
    columns: Names
    log: list[str] = []


class Importance(_Panel):
    """How much each setting matters for a metric, as W&B estimates it."""

    kind: Literal["importance"]
    of: str


class Runs(_Panel):
    """A table of what differs among the runs."""

    kind: Literal["runs"]


class Words(_Panel):
    """Text in Markdown."""

    kind: Literal["text"]
    text: str


Panel = Annotated[Curves | Points | Bars | Number | Parallel | Importance | Runs | Words, Field(discriminator="kind")]


class Section(_Part):
    """Panels that belong together, with a paragraph above them."""

    title: str
    panels: list[Panel]
    text: str = ""


class Description(_Part):
    """A page.

    Args:
        title: of the page; "": that of its design, or its name.
        text: a paragraph above all sections.
        group: the W&B group of its runs; "": the sweep of its design, or its name. The workspace shows all groups.
        where: settings that its runs have, such as `{data.name: pydoc8}`.
        variants: the settings that tell variants apart. Runs that agree in them are the seeds of one variant.
        each: a setting; each of its values in the store has panels of its own.
    """

    title: str = ""
    text: str = ""
    group: str = ""
    where: dict[str, bool | int | float | str] = {}
    variants: list[str] = []
    each: str = ""
    sections: list[Section]


def places() -> list[Path]:
    """The folders of descriptions: the user's, then ours."""
    own = Path(os.environ.get("DIFFMAMBA_CONF", "conf")) / "dashboards"
    return [place for place in dict.fromkeys([own.absolute(), Path(CONF) / "dashboards"]) if place.is_dir()]


def files() -> dict[str, Path]:
    """The file of each description, by its name."""
    found = [file for place in reversed(places()) for file in sorted(place.glob("*.yaml"))]
    return {file.stem: file for file in found}


def read(file: Path) -> Description:
    """The description in a file. Raises SettingError in one line for what is wrong in it."""
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = f", line {error.problem_mark.line + 1}" if isinstance(error, yaml.MarkedYAMLError) else ""
        raise SettingError(f"{file}{line}: this is no YAML") from error
    except OSError as error:
        raise SettingError(f"{file} cannot be read: {error.strerror}") from error
    if not isinstance(told, Mapping):
        raise SettingError(f"{file}: it must say at least sections: with their panels; docs/wandb.md has an example")
    try:
        return Description.model_validate(told)
    except ValidationError as error:
        raise SettingError(f"{file}: {next(_told(error))}") from error


def _told(error: ValidationError) -> Iterator[str]:
    """What is wrong, in a line each: where, what is needed, what is there."""
    for wrong in error.errors():
        place = ".".join(str(one) for one in wrong["loc"] if one not in KINDS) or "the file"
        given: Any = wrong["input"]
        if wrong["type"] == "extra_forbidden":
            yield f"there is no {place}; docs/wandb.md lists what a page and its panels may say"
        elif wrong["type"] == "missing":
            yield f"{place} is not set"
        elif wrong["type"].startswith("union_tag"):
            kind = given.get("kind") if isinstance(given, Mapping) else given
            yield f"{place}: kind={kind} is not known; use one of {', '.join(KINDS)}"
        else:
            yield f"{place}={given!r}: {wrong['msg'][:1].lower()}{wrong['msg'][1:]}"


KINDS = ("curves", "points", "bars", "number", "parallel", "importance", "runs", "text")
"""The kinds of panels."""
