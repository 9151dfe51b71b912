"""What all commands share that have a root configuration: Hydra composes their settings.

A command is a root configuration in `conf/` (its settings, their defaults and its help) and a function of the composed
configuration. Commands for a whole sweep (`sweep`, `reproduce`, `report`) keep their own settings and hand all other
words on to the grid: `own_settings`.
"""

import gc
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from diffmamba import settings as settings_of
from diffmamba.configuration import CONF, composing, explained, known_names, resolved
from diffmamba.errors import SettingError
from diffmamba.exit_status import guarded, tell
from diffmamba.runs import stopping
from diffmamba.spelling import nearest
from diffmamba.validation import text_settings

FLAGS = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version", "--resolve", "--package", "-p")
MULTIRUN = ("-m", "--multirun")
OF_A_TRAINING = ("model", "model/embedding", "data", "task", "optimizer", "budget", "scale", "experiments", "seed")
ONE = "hydra.mode=RUN"
"""Makes one run of what is else a multirun: a cell of a file of sweeps/, whose other settings are given."""
VARIED = "DIFFMAMBA_VARIED"
"""In the environment of a multirun and of the jobs that it starts: the settings that its cells differ in."""
PATHS = ("data.path", "data.directory", "weights.run", "weights.path", "measured.path", "data.name")
TEXTS_BELOW = ("slurm.partition", "slurm.constraint")
"""Texts that constructors are handed, and those below a setting. Others are known from the schema of their command."""


ESCAPED = re.compile(r"(\\*)('|$)")
"""What Hydra would take for its own in a quoted text: quotes, and backslashes before a quote or at the end."""


class Ended(NamedTuple):
    """How a command ended: its exit status, and the number that a sweeper such as Optuna looks for."""

    status: int
    value: float | None = None


def application(root: str, function: Callable[[dict[str, Any]], int | Ended]) -> int:
    """Runs a command on the words of the command line. Returns its exit status.

    `root` is the root configuration. `function` gets the settings as plain data. Settings that are texts are taken as
    they are written: no sign in a path or a prompt has a meaning of its own, but `null` is null. In a multirun they are
    Hydra's, so that they may have several values. Hydra's own flags work: `--help`, `--cfg job`, `-m`.
    """
    try:
        given = _flags_first(sys.argv[1:])
    except SettingError as error:
        tell(f"error: {error}")
        return 2
    of_sweep = any(word.startswith("sweeps=") for word in given) and ONE not in given
    multirun = of_sweep or any(word in MULTIRUN for word in given)
    texts = () if multirun else texts_of(root)
    words = [sys.argv[0], *(_quoted(word, texts) for word in given)]
    statuses: list[int] = []

    def entry(config: DictConfig) -> float | None:
        ended = Ended(2)

        def work() -> int:
            nonlocal ended
            with importing():  # the constructors that the settings are checked against
                settings = resolved(config, root, HydraConfig.get().overrides.task)
            done = function(settings)
            ended = done if isinstance(done, Ended) else Ended(done)
            return ended.status

        statuses.append(guarded(work))
        if statuses[-1] == stopping.INTERRUPTED:
            sys.exit(stopping.INTERRUPTED)  # the one way past Hydra that ends a multirun
        return ended.value

    def run() -> int:
        sys.argv = words
        if not any(word.startswith(FLAGS) for word in words[1:]):
            with initialize_config_dir(CONF, version_base="1.3", job_name=root):
                config = _checked(root, words[1:])
                if not multirun and config.hydra.mode != RunMode.MULTIRUN:
                    _do_one(entry, config)
                    return statuses[0]
            _do_all(entry, root, words[1:], config)
        else:
            hydra.main(version_base="1.3", config_path=CONF, config_name=root)(entry)()
        return statuses[0] if len(statuses) == 1 else int(any(statuses))

    return guarded(run)


@contextmanager
def importing() -> Iterator[None]:
    """For what imports the large libraries, which make half a million objects that stay.

    Python would go through all of them time and again, in search of those that nothing refers to: a sixth of the start.
    """
    first = "lightning" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if first and "lightning" in sys.modules:
            gc.freeze()  # nor does it go through them later


def _flags_first(words: Sequence[str]) -> list[str]:
    """The words with `-m` before all settings, as Hydra wants it. Hydra's questions (`--cfg job`) stay as they are."""
    if any(word.startswith(FLAGS) for word in words):
        return list(words)
    for word in words:
        if word.startswith("-") and word not in MULTIRUN:
            raise SettingError(f"{word} is no option; write settings as name=value, or ask --help")
    return sorted(words, key=lambda word: word not in MULTIRUN)


def sweep_application(root: str, function: Callable[[dict[str, Any], list[str]], int]) -> int:
    """Runs a command for a whole sweep, as `application` does for one work."""
    words = sys.argv[1:]
    if any(word.startswith(FLAGS) for word in words):
        return application(root, lambda settings: 0)  # Hydra prints what is asked for
    return guarded(lambda: function(*own_settings(root, words)))


def own_settings(root: str, words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings of a command for a whole sweep, and the words for its grid.

    Words that name a setting of the command's root configuration are its own. All others are for the grid, where a
    setting may have several values, separated by commas.
    """
    for word in words:
        if not word.partition("=")[1] or not word.partition("=")[0].strip("-"):
            raise SettingError(f"{word!r} is not a setting; write name=value")
    with composing(root):
        names = compose(root).keys()
        own = [_quoted(word, texts_of(root)) for word in words if _first(word) in names]
        settings = resolved(compose(root, overrides=own), root, own)
    grid = [word for word in words if _first(word) not in names]
    for word in grid:
        own_name = nearest(name := word.lstrip("+").partition("=")[0], [str(one) for one in names if one != "hydra"])
        if own_name and "." not in name and name not in known_names("train"):
            raise SettingError(f"there is no setting {name}; did you mean {own_name}?")
    return settings, [word if "," in word else _quoted(word, texts_of("train")) for word in grid]


def _first(word: str) -> str:
    """The setting of a word, or the group that it lies in: slurm for `+slurm.additional.nice=1`."""
    return re.split(r"[=.]", word.lstrip("+~"), maxsplit=1)[0]


def texts_of(root: str) -> tuple[str, ...]:
    """The settings of a root configuration that are texts."""
    return (*text_settings(settings_of.OF[root]), *PATHS, *TEXTS_BELOW)


def refuse_ignored(settings: Mapping[str, Any], words: Sequence[str]) -> None:
    """Raises SettingError for words that describe a network, where a measurement takes that of a run."""
    if not settings.get("measure") or "run" not in settings["weights"]:
        return
    for word in words:
        whole = word.lstrip("+~").partition("=")[0]
        name = whole.partition(".")[0]
        if name in OF_A_TRAINING and whole != "model.backend":
            advice = "; for another corpus to measure on use data@measured=NAME" * (name == "data")
            raise SettingError(f"{word}: with weights=run, {name} is that of the run; leave it out{advice}")


def _checked(root: str, words: Sequence[str]) -> DictConfig:
    """What the words compose to, without those that have several values. Says in one line what Hydra would in ten."""
    given = [word for word in words if not word.startswith("-")]
    with explained(root, given):
        overrides = OverridesParser.create().parse_overrides(given)
        swept = [word for word, one in zip(given, overrides, strict=True) if one.is_sweep_override()]
        config = compose(root, overrides=[word for word in given if word not in swept], return_hydra_config=True)
        if swept and len(given) == len(words) and config.hydra.mode != RunMode.MULTIRUN:
            raise SettingError(f"{swept[0]} has several values; add -m for a grid, or put the value in quotes")
    return config


def name_in_grid() -> str:
    """The words that tell a cell of Hydra's multirun from the others: a name for its run."""
    varied = os.environ.get(VARIED, "").split()
    words = [str(word) for word in HydraConfig.get().overrides.task]
    return ", ".join(word for word in words if word.lstrip("+").partition("=")[0] in varied)


def _do_one(entry: Callable[[DictConfig], Any], config: DictConfig) -> None:
    """One work, as `hydra.main` does it, which would compose its configuration twice more: a fifth of a second."""
    config.hydra.mode = RunMode.RUN
    callbacks, name = Callbacks(config), config.hydra.job.config_name
    callbacks.on_run_start(config=config, config_name=name)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=callbacks)
    done = run_job(entry, config, job_dir_key="hydra.run.dir", job_subdir_key=None, hydra_context=context)
    callbacks.on_run_end(config=config, config_name=name, job_return=done)
    _ = done.return_value  # raises what the work raised


def _do_all(entry: Callable[[DictConfig], Any], root: str, words: Sequence[str], config: DictConfig) -> None:
    """The cells of a multirun, checked before any of them is done: by Hydra's launcher, or by the sweeper of a search.

    Hydra's own sweeper of grids knows no union of them. It also composes each cell once more, to see whether it can.
    """
    with importing():  # here: one work needs none of it
        from diffmamba.runs.plan import check_grid
        from diffmamba.runs.search import check_search, is_search
        from diffmamba.runs.union import varied
    words = [word for word in words if word not in MULTIRUN]
    here = not any(word.startswith("hydra/launcher=") for word in words)
    with explained(root, words):
        os.environ[VARIED] = " ".join(varied(config, OverridesParser.create().parse_overrides(words)))
    if is_search(config.hydra):
        check_search(config, words, here)
        hydra.main(version_base="1.3", config_path=CONF, config_name=root)(entry)()
        return
    cells = [cell.overrides for cell in check_grid(words, root, here)]
    with initialize_config_dir(CONF, version_base="1.3", job_name=root):
        main = GlobalHydra.instance().hydra
        assert main is not None
        with explained(root, words):
            config = main.compose_config(root, [*words, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN, True)
            callbacks = Callbacks(config)
            context = HydraContext(config_loader=main.config_loader, callbacks=callbacks)
            launcher = Plugins.instance().instantiate_launcher(context, entry, config)
        callbacks.on_multirun_start(config=config, config_name=root)
        for job in launcher.launch(cells, initial_job_idx=0):
            _ = job.return_value  # raises what the work raised
        callbacks.on_multirun_end(config=config, config_name=root)


def _quoted(word: str, texts: Sequence[str]) -> str:
    """The word with its value in Hydra's quotes, if it is one of these settings and Hydra would read another value."""
    name, equals, value = word.partition("=")
    already = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if not equals or name.lstrip("+") not in texts or already or value == "null" or _is_text(word, value):
        return word
    escaped = ESCAPED.sub(lambda found: 2 * found[1] + found[2].replace("'", "\\'"), value)
    return f"{name}='{escaped}'"


def _is_text(word: str, value: str) -> bool:
    """Whether Hydra reads a word's value as the text that it is."""
    try:
        return OverridesParser.create().parse_override(word).value() == value
    except HydraException:
        return False
