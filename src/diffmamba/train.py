"""`python -m diffmamba.train model=diff_mamba data=pydoc8 scale=smoke seed=0`: one run, or a sweep with sweeps=NAME."""

import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from diffmamba import configuration
from diffmamba.errors import SettingError

statuses: list[str] = []
"""How the runs of this process ended: finished, running (elsewhere) or failed."""


@hydra.main(version_base="1.3", config_path=configuration.CONF, config_name="train")
def main(config: DictConfig) -> str:
    """Trains one run and says how it ended; a failure does not keep a sweep from its other runs."""
    from diffmamba import ranks
    from diffmamba.run import run  # here: --help, and a sweep that runs elsewhere, need none of it
    from diffmamba.runs import RunTakenError

    single = HydraConfig.get().mode == RunMode.RUN
    status = "failed"
    try:
        record = run(configuration.resolved(config), progress_bar=single)
        status, line = record["status"], _summary(record, Path(config.runs))
    except RunTakenError as error:
        status, line = "running", str(error)
    except SettingError as error:
        line = f"error: {error}"
        if single:
            print(line, file=sys.stderr)
            sys.exit(2)  # SystemExit is what passes through Hydra without a traceback
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    if ranks.rank() == 0:
        print(line, file=sys.stderr if status == "failed" else sys.stdout, flush=True)
    statuses.append(status)
    return status


def _summary(record: dict[str, Any], store: Path) -> str:
    place = store / record["id"]
    if record["status"] == "failed":
        error = record["error"]
        return (
            f"error: run {record['id']} failed at step {error['step']}: {error['message']} "
            f"(traceback in {place}/result.json; retry_failed=true goes on with it)"
        )
    last = record["evaluations"][-1]
    return (
        f"{place}: test PPL {last['test/ppl']:.3f}, val PPL {last['val/ppl']:.3f} after {last['step']} steps, "
        f"{record['parameters']['total']:,} parameters, {record['wall_seconds']:.0f} s, "
        f"{record['tokens_per_second']:,.0f} symbols/s"
    )


if __name__ == "__main__":
    main()
    sys.exit(1 if "failed" in statuses else 0)
