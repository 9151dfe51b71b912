"""What a measure is: given a network with its weights, it yields rows.

A new measure is a dataclass with `rows`, and with the metrics it gives. Its fields are its settings, and with them its
identity.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from diffmamba.data import Data
from diffmamba.metric import Metric, described


@dataclass(frozen=True)
class Row:
    """One measured value. Without coordinates it is a figure of the whole, such as the PPL of a split."""

    measure: str
    value: float
    coordinates: Mapping[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Args:
        network: in evaluation mode, on its device, in the precision of its training.
        data: what it is measured on.
        to_device: brings tensors to the network's device.
        progress: told how much is done of how much.
        keep: writes a file of this name and content into the run's directory, beside the rows.
    """

    network: nn.Module
    data: Data
    to_device: Callable[[Any], Any] = lambda tensors: tensors
    progress: Callable[[int, int], None] = lambda done, total: None
    keep: Callable[[str, bytes], None] = lambda name, content: None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        first: Tensor | None = next(self.network.parameters(), None)
        return torch.device("cpu") if first is None else first.device


class Measure(ABC):
    """A measure; subclasses are frozen dataclasses."""

    version: ClassVar[int] = 1
    """Raised when the meaning of a result changes: measurements of another version are other runs."""
    reads_corpus_alone: ClassVar[bool] = False
    """Whether it reads nothing of its data but the corpus, so that the other settings of the data change no result."""
    reads_data: ClassVar[bool] = True
    """Whether it reads its data at all. If not, they are no part of its identity: all that counts is the network."""
    of_machine: ClassVar[bool] = False
    """Whether the result depends on the machine. Then the device, threads and operators that were chosen count too."""
    in_float64: ClassVar[bool] = False
    """Whether it computes in float64, whatever the precision of the weights is."""
    metrics: ClassVar[Mapping[str, Metric]]
    """The figures without coordinates."""
    headline: ClassVar[str]
    """The figure that tables show."""

    @property
    def compiled(self) -> bool:
        """Whether it has the network compiled."""
        return False

    def completed(self, settings: Mapping[str, Any]) -> Self:
        """The measure with the values that depend on the configuration of the training, so that no setting is open."""
        return self

    def over(self, facts: Mapping[str, Any]) -> Self:
        """The measure with what these data make of it: settings that they leave without effect at their default."""
        return self

    def check(self, data: Data) -> None:  # noqa: B027 - most measures can take all data
        """Raises SettingError where its settings do not fit these data, before anything is computed."""

    def check_network(self, network: nn.Module) -> None:  # noqa: B027 - most measures can take all networks
        """Raises SettingError where it cannot measure this network, before anything is computed.

        The network is on PyTorch's meta device: it has shapes and no numbers.
        """

    def check_device(self, on_gpu: bool) -> None:  # noqa: B027 - most measures can be taken on all devices
        """Raises SettingError where it cannot be taken on a GPU, or on a CPU, before anything is computed."""

    def check_weights(self, network: Callable[[], nn.Module]) -> None:  # noqa: B027 - most measures can take all weights
        """Raises SettingError where it cannot measure these weights. `network` opens them; those of a training that has
        not run yet cannot be asked for."""

    @abstractmethod
    def rows(self, subject: Subject) -> Iterator[Row]:
        """Everything that is measured. Rows without coordinates are the figures of `metrics`."""

    @classmethod
    def described(cls) -> dict[str, Any]:
        """What a record says of this measure."""
        return described(cls.__name__, cls.version, cls.headline, cls.metrics)
