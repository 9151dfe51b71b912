"""What is aimed at, by device. Rows without an entry here are reported without a verdict."""

from benchmarks.record import Target

LINEAR = Target(most=1.1)  # within 10 %, of what should not grow with length
EVERYWHERE = {
    "time per token": LINEAR,
    "memory per token": LINEAR,
    "bare loop": Target(most=1.03),
    "loader": Target(least=1),
}
TARGETS = {
    "cpu": {
        **EVERYWHERE,
        "transformers Mamba2Mixer": Target(least=4),
        "transformers MambaMixer": Target(least=80),
        "mambapy MambaBlock": Target(least=3),
        "two projections": Target(most=1.8),
        "mixer of equal parameters": Target(most=1.05),
        "two blocks in sequence": Target(least=1.15),
    },
    "cuda": {
        **EVERYWHERE,
        "mamba-ssm Mamba2": Target(most=1.02),
        "training step": Target(most=1.03),
        "generation at batch 64": Target(least=0.98, most=1.02),
    },
}
