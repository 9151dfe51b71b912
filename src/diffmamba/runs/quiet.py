"""What libraries say in a training that says nothing to a user. Everything else that they say is shown."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

EXPECTED = {
    r"`isinstance\(treespec, LeafSpec\)` is deprecated": "Lightning's own use of PyTorch",
    r"Checkpoint directory .* exists and is not empty": "a run that goes on, or is tried again, has its checkpoints",
    r"It is recommended to use `self\.log\(.*sync_dist=True": "the means are taken over all devices before",
    r"You passed `(Trainer|Fabric)\(accelerator='cpu', precision='16-mixed'\)`": "refused in one line instead",
    r"The number of training batches .* is smaller than the logging interval": "steps are counted over all epochs",
    r"FSDP2-wrapped module": "of views that are changed in place; ours are not",
}
"""The start of each warning, a regular expression; and why it says nothing."""


@contextmanager
def quiet() -> Iterator[None]:
    """Leaves out the expected warnings, and what Lightning tells of devices and tips."""
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message)
        yield
