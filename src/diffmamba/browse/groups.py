"""Which files a group of settings has. Some lie in folders: those of `data=mad/compression` are named `compression`."""

from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache

from diffmamba.errors import SettingError


@cache
def options(group: str) -> tuple[str, ...]:
    """The files of a group, ours and the user's: those of its folders come last, as `FOLDER/NAME`."""
    from hydra.core.global_hydra import GlobalHydra  # here: a fifth of a second
    from hydra.core.object_type import ObjectType

    from diffmamba.configuration import composing

    with composing("train"):
        loader = GlobalHydra.instance().config_loader()
        folders = loader.get_group_options(group, ObjectType.GROUP)
        inner = [f"{folder}/{name}" for folder in folders for name in loader.get_group_options(f"{group}/{folder}")]
        return (*loader.get_group_options(group), *inner)


@cache
def option(group: str, name: str) -> str:
    """The file that makes the choice of this name, as the command line has it. The name itself where there is none."""
    return next((one for one in options(group) if one.rpartition("/")[2] == name), name)


@cache
def named(group: str, given: str) -> tuple[str, ...]:
    """The names of the choices that a file of a group stands for: of a pattern, those of all files that fit."""
    if "/" not in given:
        return (given,)
    return tuple(one.rpartition("/")[2] for one in options(group) if fnmatchcase(one, given)) or (given,)


@cache
def experiment(published: frozenset[str]) -> str | None:
    """The experiment whose `published` has these keys, which tell it from all others."""
    from hydra import compose

    from diffmamba.configuration import composing

    for name in options("experiments") if published else ():
        with suppress(SettingError), composing("train"):  # one of the user's own may be wrong
            found = compose("train", overrides=[f"experiments={name}"]).published
            if found is not None and frozenset(map(str, found)) == published:
                return name
    return None
