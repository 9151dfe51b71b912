"""At what sizes everything is measured, by device, and how long a comparison may take.

On a CPU one mixer is measured at batch 4, length 512, d_model 256 in float32. On a GPU it has the width of the paper's
language models (d_model 1024, head dimension 128, 64 states) under bfloat16 autocast, the way these are trained there;
a whole run takes four to five minutes on an H100 and stays within its memory. `QUICK` is for trying the command out:
its numbers mean nothing.
"""

from dataclasses import dataclass
from itertools import product

from benchmarks.passes import MODES
from benchmarks.timing import Patience
from benchmarks.variants import D_STATE_1, Scale

ONE_MIXER = ("scale.n_layers=1", "model.layer=[mixer,ffn]", "scale.length=64")
PURE = ("mixer",)  # layers of the paper's models of 370M: no feed-forward


@dataclass(frozen=True)
class Sizes:
    """Sizes of one full run."""

    mixer: Scale  # of a single mixer, in the sections on mixers and on length
    batch: int
    length: int
    training: Scale  # of a network that is trained
    training_batch: int
    training_length: int
    lengths: tuple[int, ...]  # of single sequences; the first but one is what the others are compared with
    memory_lengths: tuple[int, ...]  # relative to the first, which is long enough for fixed megabytes not to matter
    attention_up_to: int  # length from which attention is left out, as its time grows with the square
    decoding: Scale  # of a network that generates
    medium: Scale  # of the paper's networks without feed-forward layers
    memory_batches: tuple[int, ...]
    loops: dict[str, tuple[str, ...]]  # settings of runs whose step takes about 20 ms
    patience: Patience
    patience_with_networks: Patience
    tokens: int = 65_536  # per call, where lengths are compared at equal work
    memory_of: tuple[tuple[str, str], ...] = tuple(product(("mamba", "diff_mamba"), MODES))  # each a process on a CPU
    batches: tuple[int, ...] = (1, 4, 16, 64)  # of sequences that are generated
    prompt: int = 2048
    new: int = 128
    positions: tuple[int, ...] = (100, 1000, 10_000, 50_000)
    steps: int = 32  # decoding steps in one measurement of a position
    loop_steps: int = 300
    loader_share: int = 1  # one in how many symbols of the published corpora the loader is measured with
    latency_lengths: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
    memory_length: int = 2048

    @property
    def of_a_mixer(self) -> str:
        """In words, for the sections on a single mixer."""
        at = self.mixer
        return (
            f"Batch {self.batch}, length {self.length:,}, d_model {at.d_model:,}, expand 2, head dimension "
            f"{at.headdim}, {at.d_state} states (Mamba-1: {D_STATE_1})."
        )


CPU = Sizes(
    mixer=Scale(d_model=256, headdim=64, d_state=64),
    batch=4,
    length=512,
    training=Scale(d_model=256, headdim=64, d_state=64, n_layers=3),
    training_batch=8,
    training_length=256,
    lengths=(512, 1024, 4096, 16_384, 65_536),
    memory_lengths=(8192, 16_384, 65_536),
    attention_up_to=4096,
    decoding=Scale(d_model=128, headdim=64, d_state=64, n_layers=1),
    medium=Scale(d_model=256, headdim=64, d_state=64, n_layers=2, layer=PURE, residual="pre_norm"),
    memory_batches=(1, 4, 16),
    loops={
        "width 256": ("scale.d_model=256", "scale.headdim=64", "scale.d_state=64", *ONE_MIXER, "scale.batch_size=3"),
        "width 64": ("scale.d_model=64", "scale.n_layers=1", "scale.length=64", "scale.batch_size=8"),
    },
    patience=Patience(seconds=4, least=3, most=25, ceiling=125, sample=0.05),
    patience_with_networks=Patience(seconds=15, least=3, most=15, ceiling=125, sample=0.1),
)

CUDA = Sizes(
    mixer=Scale(d_model=1024, headdim=128, d_state=64),
    batch=2,  # transformers' Mamba-2 stores 4 GB at a time for each sequence of this length
    length=2048,
    training=Scale(d_model=1024, headdim=128, d_state=64, n_layers=3),
    training_batch=16,
    training_length=512,
    lengths=(512, 1024, 4096, 16_384, 65_536),
    memory_lengths=(8192, 16_384, 65_536),
    attention_up_to=65_536,
    decoding=Scale(d_model=1024, headdim=128, d_state=64, n_layers=6),
    medium=Scale(
        d_model=1024, headdim=64, d_state=128, n_layers=48, layer=PURE, residual="pre_norm", vocabulary=50_280
    ),
    memory_batches=(1, 2, 4, 8),
    loops={"width 512": ("scale.d_model=512", "scale.n_layers=3", "scale.headdim=64", "scale.batch_size=32")},
    patience=Patience(seconds=3, least=3, most=41, ceiling=12, sample=0.02),
    patience_with_networks=Patience(seconds=8, least=3, most=25, ceiling=24, sample=0.1),
)

QUICK = Sizes(
    mixer=Scale(d_model=64, headdim=32, d_state=8),
    batch=2,
    length=32,
    training=Scale(d_model=64, headdim=32, d_state=8),
    training_batch=2,
    training_length=32,
    lengths=(32, 64, 256),
    memory_lengths=(128, 1024),
    attention_up_to=64,
    decoding=Scale(d_model=64, headdim=32, d_state=8),
    medium=Scale(d_model=64, headdim=32, d_state=8, layer=PURE, residual="pre_norm"),
    memory_batches=(1,),
    loops={"width 64": ("scale.d_model=64", *ONE_MIXER, "scale.batch_size=2", "logger=csv")},
    patience=Patience(seconds=0.05, least=2, most=3, ceiling=1, sample=0.0005),
    patience_with_networks=Patience(seconds=0.05, least=2, most=2, ceiling=1, sample=0.0005),
    tokens=256,
    memory_of=(("diff_mamba", "forward+backward"),),
    batches=(1, 2),
    prompt=32,
    new=4,
    positions=(10, 100),
    steps=2,
    loop_steps=5,
    loader_share=1000,
    latency_lengths=(512,),
)
