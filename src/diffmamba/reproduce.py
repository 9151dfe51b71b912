"""`python -m diffmamba.reproduce table=table2 scale=smoke`: a table, figure or sweep, from its works to its page."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffmamba import command_line
from diffmamba.errors import SettingError
from diffmamba.page_writing import saved
from diffmamba.terminal import say, terminal

if TYPE_CHECKING:
    from diffmamba.asked import Asked
    from diffmamba.reports import Design


def main() -> None:
    """The entry point."""
    sys.exit(command_line.sweep_application("reproduce", run))


def run(settings: dict[str, Any], words: list[str]) -> int:
    """0 if every run that belongs to what is asked for counts and its page is written, else 1."""
    with command_line.importing():  # here: --help needs none of it
        from diffmamba import asked, file_page, reproduce_all, search_page
        from diffmamba.reports import FileDesign, designs
        from diffmamba.runs.described import describe

    kind, name = asked.wanted(settings)
    if settings["all"]:
        return reproduce_all.run(settings, words)
    design = None if kind == "sweep" else designs.find(kind, name)
    if isinstance(design, FileDesign):
        return file_page.run(design, settings, words)
    if file := settings["predictions"]:
        known = " and ".join(f"figure={one}" for one in designs.of_files("figure"))
        raise SettingError(f"predictions={file} is for {known} alone; leave it out")
    if design:
        return reproduced(asked.of_design(design, words, settings["train"]), settings, words)
    told = describe(name, words)
    if told.search:
        return search_page.run(told, settings, words)
    return reproduced(asked.of_sweep(told, words, settings, settings["train"]), settings, words)


def reproduced(asked: "Asked", settings: dict[str, Any], words: list[str]) -> int:
    """Has the works done that the store lacks, if it is to train, and shows and writes the pages of what is there."""
    from diffmamba import reports
    from diffmamba.runs.engine import Engine
    from diffmamba.runs.sweeping import work_off

    for design, cells in asked.parts:
        reports.results(design, cells, {}, "")  # refuses no runs, and two runs of one cell, before anything is trained
    if settings["train"]:
        reports.pages.check_place(settings["reports"])
        engine = Engine(settings["launcher"], settings["workers"], settings["slurm"])
        work_off(asked.sweep, asked.planned, engine, terminal())
    return max([_page(asked, design, cells, settings, words) for design, cells in asked.parts])


def _page(asked: "Asked", design: "Design", cells: Sequence[Any], settings: dict[str, Any], words: list[str]) -> int:
    """Shows and writes one page: 0 if it is written and every run counts, else 1."""
    from diffmamba import reports
    from diffmamba.asked import scale_of
    from diffmamba.other_settings import other_settings, without_baseline
    from diffmamba.other_sources import source_warnings
    from diffmamba.runs.measured import rows_in
    from diffmamba.runs.sweeping import store_of

    console, scale = terminal(), scale_of(cells)
    told, page = other_settings(design, cells, words), f"{design.name}-{scale}"
    store = store_of(asked.planned)
    results = reports.results(design, cells, store.records(), scale, told, rows_in(store))
    left_out, of_sources = without_baseline(design, results, words), source_warnings(results)
    results = replace(results, without_baseline=left_out, sources=of_sources)
    reports.show(reports.document(design, results), console)
    directory = reports.pages.directory(settings["reports"], page, told)
    if results.counted or settings["train"]:
        return saved(lambda: reports.write(design, results, directory), directory, console) or int(not results.complete)
    say(console, f"no run counts yet, so {directory} is left as it is")
    for other, further in reports.pages.others(settings["reports"], page):
        say(console, f"there is {other}, made with other settings; to see it, add: {further}")
    return 1


if __name__ == "__main__":
    main()
