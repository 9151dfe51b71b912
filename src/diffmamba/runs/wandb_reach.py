"""Whether W&B's server answers."""

import os
from contextlib import suppress
from urllib.error import HTTPError, URLError
from urllib.request import urlopen


def reach(seconds: float) -> None:
    """Raises OSError where it does not answer within this time, in the place of W&B's own minutes of trying."""
    try:
        with suppress(HTTPError):  # an answer
            urlopen(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"), timeout=seconds).close()
    except URLError as error:  # which wraps the reason
        raise ConnectionError(str(error.reason)) from error
