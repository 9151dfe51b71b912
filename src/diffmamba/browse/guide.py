"""What `diffmamba runs` can do, and its help."""

from typing import NamedTuple


class Command(NamedTuple):
    """A command: the module that does it, what it does, and whether it takes ids of runs."""

    module: str
    what: str
    usage: str
    ids: bool = False


CHOOSING = """\
Words that choose runs:
  model=diff_mamba seed=0,1      a setting by its dotted name, or a group by the choice made in it; a comma means or
  model=diff_*                   a pattern; != for those that it does not fit
  optimizer.learning_rate>=1e-3  <, <=, >, >= with a number, in quotes for the shell; also of a figure: 'test/ppl<5.5'
  status=failed error=memory     also kind, group, name, host, id, seconds, step, steps, speed, parameters
  older=7d newer=12h             by the time it ended, or else began: s, min, h, d, w
  runs=DIR                       the run store; else $DIFFMAMBA_RUNS, or runs"""

COMMANDS = {
    "list": Command(
        "listing",
        "one row a run, with the settings that tell them apart",
        """\
diffmamba runs list [WORD ...]

  columns=model,seed,test/ppl    these columns, in place of those that differ
  sort=test/ppl                  the smallest first, sort=-test/ppl the largest; else the most recent last
  limit=20                       the first 20 of the sorted, or the 20 most recent
  format=table                   or json, csv""",
    ),
    "show": Command(
        "showing",
        "all that is known of one run",
        """\
diffmamba runs show ID

ID is an id, its first letters where no other begins so, or ID.before-1.""",
        True,
    ),
    "diff": Command(
        "differences",
        "what differs between runs: settings, sources, versions, results",
        "diffmamba runs diff ID ID ...",
        True,
    ),
    "curves": Command(
        "curves",
        "evaluations and logged values of runs, drawn in the terminal",
        """\
diffmamba runs curves ID ... [WORD ...]

  metric=test/ppl,train/loss     which; else the headline
  format=plot                    or csv, json""",
        True,
    ),
    "prune": Command(
        "pruning",
        "what may be removed; yes=true removes it",
        """\
diffmamba runs prune what=checkpoints,runs,logs,aside [WORD ...] [yes=true]

  what=checkpoints               of trainings that ended well
  what=runs                      whole runs; needs a word that chooses them
  what=logs                      csv/ and wandb/ of runs that ended
  what=aside                     what was set aside or left behind: ID.before-1, damaged records, logs of sweeps
  needed=true                    also what a table or figure of sweeps/ needs
  yes=true                       removes it; without, it only says what""",
    ),
    "export": Command(
        "exporting",
        "all settings and figures of runs, as a table for other programs",
        """\
diffmamba runs export [WORD ...] [out=FILE]

  format=csv                     or json
  curves=true                    a row for each figure of each evaluation
  out=FILE                       else to standard output""",
    ),
}
CHOOSES = ("list", "curves", "prune", "export")


def help_of_all() -> str:
    """What `diffmamba runs` says by itself."""
    lines = [f"  {name:8} {command.what}" for name, command in COMMANDS.items()]
    return "\n".join(["diffmamba runs COMMAND [ID ...] [name=value ...]\n", *lines, "", CHOOSING])


def help_of(name: str) -> str:
    """What `diffmamba runs NAME --help` says."""
    usage = COMMANDS[name].usage
    return f"{usage}\n\n{CHOOSING}" if name in CHOOSES else f"{usage}\n\n{CHOOSING.splitlines()[-1].strip()}"
