"""Whether anything reads a setting: a constructor, a schema, or another setting that refers to it.

A setting that nothing reads is a slip of the pen. A word of the command line that adds one is refused, and so is a key
in a file of `sweeps/` or `experiments/`, or in a file of the user's own.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, get_type_hints, is_typeddict

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from diffmamba.errors import SettingError
from diffmamba.spelling import did_you_mean
from diffmamba.trainer_arguments import check_arguments
from diffmamba.validation import check_argument, names_in, target

USER = "diffmamba-user"
"""The name of the user's own directory on Hydra's search path."""
CHECKED = ("sweeps/", "experiments/")
"""Where files are checked whoever wrote them."""
AS_A_WHOLE = ("hydra", "published", "logger", "callbacks", "slurm.additional", "report.baseline", "grids")
"""Settings below these are read whatever their names are."""
File = tuple[str, str, Any]
"""A file to check: its name, its package and its content."""


def is_read(name: str, raw: Mapping[str, Any], texts: Sequence[str]) -> bool:
    """Whether a constructor has this setting among its arguments, or one of the texts refers to it.

    `raw` is the configuration as plain data with interpolations, and `texts` are the values that have one.
    """
    keys = name.split("@")[0].split(".")
    if "/" in name or any(name == group or name.startswith(f"{group}.") for group in AS_A_WHOLE):
        return True
    node: Any = raw
    for key in keys:
        if isinstance(node, Mapping) and "_target_" in node:
            return True
        node = node.get(key) if isinstance(node, Mapping) else node[int(key)] if isinstance(node, list) else None
    wholes = [".".join(keys[:end]) for end in range(1, len(keys) + 1)]  # who refers to a group reads all of it
    known = {*wholes, *(whole.rpartition(".")[2] for whole in wholes)}  # from beside a setting its last name is enough
    referred = (found.strip(".") for text in texts for found in re.findall(r"[\w.]*\w", text))
    return any(found in known or found.startswith(f"{name}.") for found in referred)


def texts_in(node: Any) -> Iterator[str]:
    """Every value with an interpolation at this node or below it."""
    if isinstance(node, Mapping | list):
        for inner in node.values() if isinstance(node, Mapping) else node:
            yield from texts_in(inner)
    elif isinstance(node, str) and "${" in node:
        yield node


def check_files(files: Sequence[File], raw: Any, schema: type | None, known: Callable[[], Set[str]]) -> None:
    """Raises SettingError, with the file and the key, for a key that nothing reads in a file that is checked.

    `raw` is what Hydra composed of these files, as plain data with interpolations, and `known` are the names of all
    settings that our own files give.
    """
    texts = [text for content in (raw, *(content for _, _, content in files)) for text in texts_in(content)]
    for file, package, content in files:
        group = file.rpartition("/")[0] if package else ""
        for key in _leaves(content):
            names = [".".join(filter(None, [place, key])) for place in (package, group.replace("/", "."))]
            _check_argument(file, names[0], raw)
            if is_read(names[0], raw, texts) or any(_in_schema(name, schema) for name in names):
                continue
            if not known().isdisjoint(names):
                continue
            parts = names[-1].split(".")
            starts = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
            wrong = next(start for start in starts if start not in known() and not _in_schema(start, schema))
            hint = did_you_mean(wrong, sorted(known()))
            raise SettingError(f"{file}.yaml: nothing reads {wrong}{hint}")


def _check_argument(file: str, name: str, raw: Any) -> None:
    """Raises SettingError where a file gives a constructor an argument that it does not have."""
    *above, key = name.split(".")
    node = raw
    for part in above:
        node = node.get(part) if isinstance(node, Mapping) else None
    named = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(named, str) or "${" in named:
        return
    try:
        if above == ["trainer"] and not key.startswith("_"):
            check_arguments([key])
        check_argument(target(named, f"{name.rpartition('.')[0]}._target_"), key, lambda: name)
    except SettingError as error:
        raise SettingError(f"{file}.yaml: {error}") from None


def _loader() -> ConfigLoaderImpl | None:
    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
    return loader if isinstance(loader, ConfigLoaderImpl) else None


def choosing(words: Sequence[str]) -> tuple[str, ...]:
    """Those of the words that may choose a file to check: all of them where the user has files of their own."""
    loader = _loader()
    own = loader is not None and any(source.provider == USER for source in loader.get_sources())
    return tuple(word for word in words if own or word.lstrip("+").startswith(("sweeps=", "experiments=")))


def files(root: str, words: Sequence[str]) -> Iterator[File]:
    """The files to check among those that these words choose, which are `choosing`.

    Hydra takes a tenth of a second to find them.
    """
    loader = _loader()
    if loader is None or not words:
        return
    for default in loader.compute_defaults_list(root, list(words), RunMode.RUN).defaults:
        path = default.config_path or ""
        found = loader.repository.load_config(path) if not path.startswith("hydra/") else None
        if found and (found.provider == USER or path.startswith(CHECKED)):
            yield path, default.package or "", OmegaConf.to_container(found.config, resolve=False)


def _leaves(content: Any) -> list[str]:
    """The names of all values, without those for Hydra itself."""
    named = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
    names = names_in(named)
    return [name for name in names if not any(other.startswith(f"{name}.") for other in names)]


def _in_schema(name: str, schema: type | None) -> bool:
    hint: Any = schema
    for key in name.split("."):
        if not is_typeddict(hint):
            return False
        hint = get_type_hints(hint).get(key)
    return hint is not None
