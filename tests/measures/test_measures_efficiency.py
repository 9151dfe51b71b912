"""Speed and memory: rows that agree with each other and with computed sizes, what does not fit, names of measurements.

Nothing here asks how fast anything is.
"""

from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from diffmamba import free_memory
from diffmamba.configuration import composed
from diffmamba.data import RandomSymbols
from diffmamba.errors import SettingError
from diffmamba.measures import Memory, Subject, Throughput, throughput
from diffmamba.measures.live import taken
from diffmamba.measures.need import Need
from diffmamba.measures.passes import Load, passes
from diffmamba.models import LanguageModel
from diffmamba.runs.execution import work_of
from diffmamba.runs.work import build_network, shapes_of

TINY = ("experiments=efficiency", "trainer=cpu", "scale.efficiency.d_model=64", "scale.efficiency.n_layers=2")
TINY += ("scale.efficiency.vocabulary=48", "scale.efficiency.d_state=8", "scale.efficiency.transformer_layers=1")
CPU = torch.device("cpu")
MODELS = ("mamba", "diff_mamba_hybrid", "diff_mamba", "transformer")
COUNTED_M = {"mamba": 368.3, "diff_mamba_hybrid": 375.5, "diff_mamba": 382.7}


@cache
def network_of(model: str) -> LanguageModel:
    torch.manual_seed(0)
    return build_network(composed([f"model={model}", *TINY]), 48).eval()


def rows_of(measure, network) -> tuple[list, dict[str, float]]:
    """The rows with coordinates, and the figures of the whole."""
    found = list(measure.rows(Subject(network, SimpleNamespace())))
    return [row for row in found if row.coordinates], {row.measure: row.value for row in found if not row.coordinates}


def named(rows, name: str, **at) -> list[float]:
    return [row.value for row in rows if row.measure == name and at.items() <= row.coordinates.items()]


@pytest.fixture(scope="module")
def mamba() -> LanguageModel:
    return network_of("mamba")


@pytest.mark.parametrize("mode", ["inference", "forward", "training", "generation"])
def test_symbols_per_second_are_symbols_by_seconds_and_the_spread_is_that_of_the_rows(mamba, mode):
    before = {name: weight.clone() for name, weight in mamba.state_dict().items()}
    measure = Throughput(mode, batches=(1, 3), lengths=(8, 20), new=4, warm_up=0, repeats=3)
    rows, figures = rows_of(measure, mamba)
    for batch in (1, 3):
        for length in (8, 20):
            at = {"mode": mode, "batch": batch, "length": length}
            seconds = [named(rows, "seconds", **at, repeat=repeat) for repeat in (1, 2, 3)]
            assert all(len(one) == 1 and one[0] > 0 for one in seconds)
            tokens = batch * (4 if mode == "generation" else length)
            speeds = named(rows, "tokens_per_second", **at)
            assert speeds == pytest.approx([tokens / one for (one,) in seconds], rel=1e-12)
            for word, percent in (("low", 25), ("median", 50), ("high", 75)):
                assert named(rows, f"tokens_per_second_{word}", **at) == pytest.approx([np.percentile(speeds, percent)])
            first, later = (named(rows, name, **at) for name in ("first_symbol_seconds", "decoding_tokens_per_second"))
            if mode == "generation":
                rests = [whole - one for (whole,), one in zip(seconds, first, strict=True)]
                assert later == pytest.approx([batch * 3 / rest for rest in rests], rel=1e-9)
            else:
                assert first == later == []
    medians = [row.value for row in rows if row.measure == "tokens_per_second_median"]
    assert figures == {"tokens_per_second": max(medians), "loads": 4, "out_of_memory": 0, "busy": figures["busy"]}
    assert all(torch.equal(weight, before[name]) for name, weight in mamba.state_dict().items())
    assert not mamba.training


def kept_by_saved_tensors(network: nn.Module, symbols: torch.Tensor) -> int:
    """Bytes of the logits and of all storages that autograd saves, but those of weights and symbols."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {one.untyped_storage().data_ptr() for one in (symbols, *network.parameters(), *network.buffers())}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network(symbols)
        pack(logits)
    return sum(size for place, size in storages.items() if place not in own)


@pytest.mark.parametrize("model", MODELS)
def test_memory_is_that_of_what_is_kept(model):
    network = network_of(model)
    rows, figures = rows_of(Memory("forward", batches=(1, 2), lengths=(40,)), network)
    weights = sum(one.nbytes for one in (*network.parameters(), *network.buffers()))
    for batch in (1, 2):
        symbols = torch.zeros(batch, 40, dtype=torch.int64)
        (kept,), (peak,) = (named(rows, name, batch=batch) for name in ("kept_bytes", "peak_bytes"))
        assert kept == kept_by_saved_tensors(network, symbols)
        assert peak >= kept
        assert named(rows, "weights_bytes", batch=batch) == [weights]
    assert figures["peak_mb"] == pytest.approx((weights + peak) / 1e6)


def test_memory_of_a_chain_of_layers_is_what_its_sizes_say():
    """A linear layer keeps its input and a tanh its output; without a graph only the last output stays."""
    layers = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4))
    x = torch.zeros(5, 6)
    with_graph = taken(x.device, lambda: layers(x))
    assert with_graph.kept == 4 * 5 * (10 + 4)  # the output of tanh once, though two layers keep it
    assert with_graph.peak == 4 * 5 * (10 + 10 + 4) - 4 * 5 * 4  # before: that of the first layer, and of tanh
    with torch.no_grad():
        without = taken(x.device, lambda: layers(x))
    assert (without.kept, without.peak) == (4 * 5 * 4, 4 * 5 * 20)
    view = taken(x.device, lambda: (x.t(), x[1:], x.clone()[1:]))
    assert view.kept == x.nbytes


def test_training_keeps_gradients_and_both_moments(mamba):
    rows, _ = rows_of(Memory("training", lengths=(16,)), mamba)
    (kept,) = named(rows, "kept_bytes")
    symbols, parameters = torch.zeros(1, 16, dtype=torch.int64), [*mamba.parameters()]
    mamba(symbols, symbols).mean().backward()
    storages = (weight.grad.untyped_storage() for weight in parameters)  # small gradients share one
    gradients = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    mamba.zero_grad()
    moments, steps = 2 * sum(weight.nbytes for weight in parameters), 4 * len(parameters)
    assert kept == gradients + moments + steps


@pytest.mark.parametrize("mode", ["inference", "forward", "training", "generation"])
@pytest.mark.parametrize("model", MODELS)
def test_the_need_that_is_computed_before_is_that_of_the_pass(model, mode):
    """In training the moments of AdamW are there already when a pass is repeated."""
    network, new = network_of(model), 8 if mode == "generation" else 0
    need = Need(network, CPU, mode, longest=1000)
    held = 2 * sum(weight.nbytes for weight in network.parameters()) if mode == "training" else 0
    for load in (Load(1, 96, new), Load(3, 250, new)):
        repeated = passes(network, load.symbols(48, CPU), mode, new)
        if held:
            [*repeated()]
        peak = held + taken(CPU, lambda repeated=repeated: [*repeated()]).peak
        assert 0.9 * peak <= need.bytes(load) <= 1.5 * peak


def test_where_even_short_passes_find_no_memory_nothing_fits(mamba, monkeypatch):
    def forward(symbols, targets=None):
        raise MemoryError

    monkeypatch.setattr(mamba, "forward", forward)
    rows, figures = rows_of(Throughput(lengths=(8, 16)), mamba)
    assert [row.measure for row in rows] == ["out_of_memory"] * 2
    assert figures["loads"] == 0


@pytest.mark.parametrize("model", ["diff_mamba", "transformer"])
def test_a_pass_under_autocast_keeps_its_own_casts_of_weights_and_no_others(model):
    network, symbols = network_of(model), torch.zeros(1, 40, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        of_bf16 = kept_by_saved_tensors(network, symbols)
    logits, weights = 2 * 48 * 40, sum(weight.nbytes for weight in network.parameters())
    with torch.autocast("cpu", torch.bfloat16):  # one context for all passes, as a measurement has it
        for _ in range(2):
            (kept,) = named(rows_of(Memory("forward", lengths=(40,)), network)[0], "kept_bytes")
            assert kept == of_bf16
        (kept,) = named(rows_of(Memory("inference", lengths=(40,)), network)[0], "kept_bytes")
        assert kept == logits
        (kept,) = named(rows_of(Memory("training", lengths=(40,)), network)[0], "kept_bytes")
    assert 3 * weights <= kept <= 3.1 * weights  # gradients and moments, no casts


class Embedded(LanguageModel):
    """The least that can be compiled: logits that are rows of a table."""

    def __init__(self):
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(5, 5))

    @property
    def vocabulary_size(self) -> int:
        return 5

    def forward(self, symbols, targets=None):
        return self.weight[symbols]


def test_every_shape_is_compiled():
    """PyTorch goes on without a compiler after some shapes of one function, and says nothing."""
    compiled, network = [], Embedded()

    def backend(graph, examples):
        compiled.append(graph)
        return graph.forward

    network.compile = partial(network.compile, backend=backend)
    with torch._dynamo.config.patch(recompile_limit=2):
        rows, _ = rows_of(Throughput(lengths=(4, 5, 6, 7), compile=True, repeats=1), network)
    assert len(named(rows, "seconds")) == len(compiled) == 4


def test_what_needs_more_than_is_free_is_a_row_and_what_is_larger_is_not_tried(mamba, monkeypatch):
    tried = []
    monkeypatch.setattr(Throughput, "measured", lambda self, network, load, repeated: tried.append(load) or [])
    monkeypatch.setattr(free_memory, "free", lambda: 3_000_000)
    loads = {"batches": (1, 10_000), "lengths": (16, 10_000, 20_000)}
    rows, figures = rows_of(Throughput(**loads, repeats=1), mamba)
    assert [(load.batch, load.length) for load in tried] == [(1, 16)]
    lost = [(1, 10_000), (1, 20_000), *[(10_000, length) for length in loads["lengths"]]]
    assert {row.measure for row in rows} == {"out_of_memory"}
    assert [(row.coordinates["batch"], row.coordinates["length"]) for row in rows] == lost
    assert figures == {"tokens_per_second": 0.0, "loads": 1, "out_of_memory": 5, "busy": figures["busy"]}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried 9"),
    ],
)
def test_memory_that_runs_out_meanwhile_ends_a_row_and_other_errors_end_the_measurement(mamba, monkeypatch, error):
    def forward(symbols, targets=None):
        if symbols.shape == (2, 100):
            raise error
        return LanguageModel.forward(mamba, symbols, targets)

    monkeypatch.setattr(mamba, "forward", forward)
    rows, figures = rows_of(Throughput(batches=(1, 2), lengths=(50, 100), repeats=1), mamba)
    (lost,) = [row for row in rows if row.measure == "out_of_memory"]
    assert (lost.coordinates["batch"], lost.coordinates["length"]) == (2, 100)
    assert len(named(rows, "seconds")) == figures["loads"] == 3
    error = ValueError("another")
    with pytest.raises(ValueError, match="another"):
        rows_of(Throughput(batches=(2,), lengths=(100,), repeats=1), mamba)


@pytest.fixture(scope="module")
def settings() -> dict:
    """A measurement of a small Mamba, as a resolved configuration."""
    return composed(["weights=fresh", *TINY, "model=mamba", "measure=throughput"], "measure")


def work(settings: dict, measure: dict | None = None, trainer: dict | None = None, **others):
    """The measurement with these settings in the place of others."""
    changed = {"measure": settings["measure"] | (measure or {}), "trainer": settings["trainer"] | (trainer or {})}
    return work_of({**settings, **changed, **others})


def test_what_is_chosen_of_the_machine_makes_another_measurement_and_what_is_found_does_not(settings, monkeypatch):
    plain = work(settings).identity()
    for changes in (
        {"threads": 1},
        {"model": settings["model"] | {"backend": "torch"}},
        {"measure": {"compile": True}},
        {"measure": {"machine": "here"}},
        {"trainer": {"accelerator": "auto"}},
    ):
        assert work(settings, **changes).identity() != plain
    on_gpu = {word: work(settings, trainer={"accelerator": word}).identity() for word in ("gpu", "cuda", "auto")}
    assert on_gpu["gpu"] == on_gpu["cuda"] != on_gpu["auto"]
    assert work(settings, {"new": 7}).identity() == plain  # nothing is generated
    generated = [work(settings, {"mode": "generation", "new": new}).identity() for new in (7, 8)]
    assert len({plain, *generated}) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert work(settings, trainer={"accelerator": "auto"}).identity() == on_gpu["auto"]


def test_other_measurements_do_not_depend_on_the_machine(settings):
    facts = {"fingerprint": "x", "sizes": {}, "vocabulary": 27}
    perplexity = {"_target_": "diffmamba.measures.Perplexity", "window": 8, "stride": 8, "batch": 1}
    found = [
        work_of({**settings, "measure": perplexity, "threads": threads}).content(lambda work: facts)
        for threads in (None, 1)
    ]
    assert found[0] == found[1]
    assert "machine" not in found[0]


@pytest.mark.parametrize("model", MODELS)
def test_the_shapes_of_scale_paper_have_the_parameters_of_the_published_models(model):
    config = composed([f"model={model}", "experiments=efficiency", "scale=paper"])
    network = shapes_of(config, config["data"]["vocabulary"])
    count = sum(weight.numel() for weight in network.parameters()) / 1e6
    if model in COUNTED_M:
        assert round(count, 1) == COUNTED_M[model]
    else:
        assert abs(count / COUNTED_M["mamba"] - 1) < 0.01


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (Throughput("generation", compile=True), "measure.compile=true compiles forward passes"),
        (Throughput(batches=()), r"measure.batches=\[\]"),
        (Memory(lengths=()), r"measure.lengths=\[\]"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(measure, message):
    with pytest.raises(SettingError, match=f"^{message}") as caught:
        measure.check(RandomSymbols(vocabulary=5))
    assert "\n" not in str(caught.value)


def test_these_passes_are_of_language_models():
    with pytest.raises(SettingError, match=r"^measure: a Linear is no language model"):
        Throughput().check_network(nn.Linear(2, 2, device="meta"))


def test_symbols_cannot_be_trained_on():
    with pytest.raises(SettingError, match=r"^data=symbols has nothing to train on"):
        work_of(composed(["data=symbols"])).check()


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "none-such")


@pytest.mark.parametrize(
    ("measure", "others", "message"),
    [
        (
            {"_target_": "diffmamba.measures.Memory", "compile": True, "repeats": None},
            {},
            r"measure\.compile=true: on a CPU",
        ),
        ({}, {"compile": True}, r"compile=true compiles a training.*; use measure\.compile=true$"),
    ],
)
def test_a_way_to_compile_that_does_not_work_is_refused_before_anything_is_done(settings, measure, others, message):
    changed = {**settings["measure"], **measure}
    if "repeats" in measure:
        changed = {name: value for name, value in changed.items() if name not in ("repeats", "warm_up")}
    with pytest.raises(SettingError, match=f"^{message}"):
        work_of({**settings, "measure": changed, **others}).check()


def test_the_setting_that_needs_a_compiler_is_called_by_its_name(settings, no_compiler):
    with pytest.raises(
        SettingError, match=r"^measure\.compile=true needs a C\+\+ compiler .* use measure\.compile=false$"
    ):
        work(settings, {"compile": True}).check()


def test_the_spread_of_repeats_is_that_of_the_clock(mamba, monkeypatch):
    """A clock of normal noise, 5 % of each pass: quartiles lie 1.349 standard deviations apart, and medians within."""
    noise = np.random.default_rng(0)
    monkeypatch.setattr(throughput, "_marks", lambda repeated, device: [noise.normal(2.0, 0.1)])
    found = []
    for _ in range(2):
        rows, _ = rows_of(Throughput(lengths=(4,), repeats=400), mamba)
        found.append([named(rows, f"seconds_{word}")[0] for word in ("low", "median", "high")])
    for (low, _, high), (_, median, _) in (found, found[::-1]):
        assert high - low == pytest.approx(1.349 * 0.1, rel=0.15)
        assert low < median < high
