"""`python -m diffmamba.dashboard what=table2`: the pages of W&B, created or brought up to date."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from diffmamba import atomic, command_line
from diffmamba.errors import SettingError
from diffmamba.exit_status import tell
from diffmamba.terminal import say, terminal


def main() -> None:
    """The entry point."""
    sys.exit(command_line.application("dashboard", run))


def run(settings: dict[str, Any]) -> int:
    """0 if all pages are as the descriptions say, or if only their data were to be written; else 1."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise SettingError("dashboards need the library wandb-workspaces: pip install -e '.[dashboard]'")
    from diffmamba.reports.pages import writing  # here: --help needs none of it

    with writing(Path(settings["reports"])):
        return _run(settings)


def _run(settings: dict[str, Any]) -> int:
    with command_line.importing():
        from diffmamba.dashboard import offline, sending
        from diffmamba.runs.store import RunStore

    store, console, reports = RunStore(settings["runs"]), terminal(), Path(settings["reports"])
    shown = _shown(store, reports, settings["what"], settings["scale"]["name"])
    for page in shown:
        _say_shared(page, console)
    without = settings["dry"] or offline.is_offline()
    sender, trouble = None, ""
    try:
        sender = None if without else sending.Sender(settings["entity"], settings["project"])
    except sending.SendingError as error:
        trouble = str(error)
    made = [(page, _made(page, sender, settings)) for page in shown]
    for page, one in made:
        _write(reports, page, one, console)
        try:
            if sender and not trouble:
                say(console, f"{page.name}: {sender.send(one)}")
        except sending.SendingError as error:
            trouble = f"{page.name}: {error}"
    if trouble:
        tell(f"error: W&B: {trouble}; what was to be sent is in {reports / 'dashboard'}")
    if without or trouble:
        _look_now(shown, store, reports, console)
    return int(bool(trouble))


def _shown(store: Any, reports: Path, what: str, scale: str) -> list[Any]:
    """The pages that are asked for, with their runs."""
    from diffmamba.dashboard import choice, members, variants
    from diffmamba.runs import index

    store.require_directory()
    entries = index.entries(store)
    groups = variants.groups(entries.values())
    if what == "all":
        plans = members.planned(choice.sweeps(), scale, entries, store, reports)
        told = {name: choice.find(name, groups) for name in choice.names(groups, plans)}
        sweeps = choice.sweeps_of(told)
    else:
        told = {what: choice.find(what, groups)}
        sweeps = choice.sweeps_of(told)
        asked = {sweep: told[name].group for name, sweep in sweeps.items()}
        plans = members.planned(asked, scale, entries, store, reports)
    return [
        variants.shown(name, one, entries.values(), scale, plans.get(sweeps.get(name, ""), ()))
        for name, one in told.items()
    ]


def _say_shared(page: Any, console: Console) -> None:
    """Says which runs of a sweep another one has trained, and which of its group are not in its plan."""
    from diffmamba.dashboard import members

    others = members.elsewhere(page.entries, page.description.group) if page.runs else {}
    for group, count in others.items():
        were = "was" if count == 1 else "were"
        say(console, f"{page.name}: {count} of its runs {were} trained {group}; the page shows all of its plan")
    if page.left:
        are = "is" if page.left == 1 else "are"
        say(console, f"{page.name}: {page.left} of the group's runs {are} left out: not in the plan at this scale")


def _made(page: Any, sender: Any, settings: dict[str, Any]) -> Any:
    """The object of a page, which knows the one that there is on W&B if there is somebody to send it."""
    from diffmamba.dashboard import pages

    try:
        if sender:
            return sender.made(page)
        make = pages.report if page.description.group else pages.workspace
        return make(page, settings["entity"] or "", settings["project"])
    except ValidationError as error:  # of the library, such as for an emoji in the name of a workspace
        wrong = error.errors()[0]
        raise SettingError(f"the page {page.name}: W&B does not take {wrong['input']!r}: {wrong['msg']}") from error


def _write(reports: Path, page: Any, made: Any, console: Console) -> None:
    """Writes what saving a page sends."""
    from diffmamba.dashboard import offline, pages

    name = "-".join(filter(None, [offline.name_of(page.name), page.scale]))
    path = reports / "dashboard" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, pages.sent(made))
    say(console, f"{page.name}: written to {path}")


def _look_now(shown: Any, store: Any, reports: Path, console: Console) -> None:
    """Says how to look at the runs on this machine, and how to send them later."""
    from diffmamba.dashboard import offline

    folders = {page.description.group: page.entries for page in shown if page.description.group and page.entries}
    made = [folder for group, runs in folders.items() if (folder := offline.link(reports, group, runs, store))]
    apart = [entry for page in shown if not page.description.group for entry in page.entries]
    without = [path for one in apart if one.setting("group") is None for path in offline.sessions(store, one.id)]
    for folder in made:
        say(console, f"to see its runs now: wandb leet {folder}")
        if any(folder.glob("offline-run-*")):
            say(console, f"to send them later, after wandb login: wandb sync {folder}/offline-run-*")
    if without:
        what = f"of runs without a group are {len(without)} sessions, each in the folder of its run"
        say(console, f"{what}: wandb leet {without[-1].parent}")
    if not made and not without:
        say(console, "no run of these pages has a session of W&B and a group, so there is nothing to look at yet")


if __name__ == "__main__":
    main()
