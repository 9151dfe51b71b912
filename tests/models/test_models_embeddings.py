"""The adaptive embedding and softmax against the definition, PyTorch's version, and published parameter counts."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffmamba import configuration
from diffmamba.errors import SettingError
from diffmamba.models import AdaptiveEmbedding, LanguageModel, TiedEmbedding, embedding, generate
from diffmamba.runs.work import shapes_of
from diffmamba.tasks.optimization import parameter_groups

Build = Callable[..., LanguageModel]
Resolve = Callable[..., dict[str, Any]]
TABLE1 = OmegaConf.load(configuration.CHECKOUT / "src" / "diffmamba" / "paper" / "published.yaml").table1.rows
D_MODEL, VOCABULARY = 8, 13
SHAPES = [((5,), 1), ((5,), 4), ((1, 4, 12), 2), ((3, 4, 10), 1)]
EVERY_SHAPE = pytest.mark.parametrize(("cutoffs", "div_val"), SHAPES)
ADAPTIVE = ("model/embedding=adaptive", "model.embedding.cutoffs=[2,4]")  # of the 7 symbols of the tiny models


def made(cutoffs: Sequence[int], div_val: int) -> AdaptiveEmbedding:
    """In float64, with biases that are not zero."""
    torch.manual_seed(0)
    embedding = AdaptiveEmbedding(VOCABULARY, D_MODEL, cutoffs, div_val).double()
    for bias in (embedding.bias, embedding.clusters.bias):
        nn.init.normal_(bias)
    return embedding


def probabilities(embedding: AdaptiveEmbedding, hidden: Tensor) -> Tensor:
    """The definition: p of every symbol `(..., vocabulary)`, by the two steps."""
    borders = [*embedding.cutoffs.tolist(), VOCABULARY]
    vectors, bias, clusters = embedding.vectors, embedding.bias, embedding.clusters
    projected = hidden @ embedding.head_projection
    scores = [projected @ vectors[0].T + bias[: borders[0]], projected @ clusters.weight.T + clusters.bias]
    weights = torch.cat(scores, dim=-1).exp()
    first = weights / weights.sum(-1, keepdim=True)
    found = [first[..., : borders[0]]]
    for i in range(1, len(borders)):
        scores = hidden @ embedding.projections[i] @ vectors[i].T + bias[borders[i - 1] : borders[i]]
        within = scores.exp() / scores.exp().sum(-1, keepdim=True)
        found.append(first[..., borders[0] + i - 1, None] * within)
    return torch.cat(found, dim=-1)


def defined_nats(embedding: AdaptiveEmbedding, hidden: Tensor, targets: Tensor) -> Tensor:
    predicted = targets != -100
    chosen = probabilities(embedding, hidden).gather(-1, targets.where(predicted, 0)[..., None])[..., 0]
    return -chosen.log() * predicted


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Hidden states and targets: all clusters, ignored targets, clusters without a target, one cluster alone, none."""
    generator = torch.Generator().manual_seed(1)
    for low, high, ignored in ((0, 13, 0.0), (0, 13, 0.4), (0, 4, 0.0), (5, 13, 0.2), (12, 13, 0.0), (0, 13, 1.0)):
        for length in (1, 7):
            targets = torch.randint(low, high, (3, length), generator=generator)
            targets[torch.rand(3, length, generator=generator) < ignored] = -100
            yield torch.randn(3, length, D_MODEL, generator=generator, dtype=torch.float64), targets


@EVERY_SHAPE
@torch.no_grad()
def test_probabilities_sum_to_one_and_are_those_of_the_definition(cutoffs: Sequence[int], div_val: int) -> None:
    embedding = made(cutoffs, div_val)
    for hidden, _ in batches():
        found = embedding.logits(hidden).exp()
        assert found.shape == (*hidden.shape[:-1], VOCABULARY)
        torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]), rtol=0, atol=1e-13)
        torch.testing.assert_close(found, probabilities(embedding, hidden), rtol=1e-11, atol=0)


@EVERY_SHAPE
def test_nats_and_every_gradient_are_those_of_the_definition(cutoffs: Sequence[int], div_val: int) -> None:
    embedding = made(cutoffs, div_val)
    parameters = dict(embedding.named_parameters())
    for hidden, targets in batches():
        hidden.requires_grad_()
        weights = torch.rand(targets.shape, dtype=torch.float64)  # so that exchanged positions are noticed
        both = []
        for nats in (embedding.nats(hidden, targets), defined_nats(embedding, hidden, targets)):
            gradients = torch.autograd.grad((nats * weights).sum(), [hidden, *parameters.values()], allow_unused=True)
            both.append([nats, *gradients])
        assert not both[0][0][targets == -100].any()
        for name, one, other in zip(["nats", "hidden", *parameters], *both, strict=True):
            assert (one is None) == (name == "projections.0"), name  # only the input uses it
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_numeric_gradients() -> None:
    model = LanguageModel(VOCABULARY, nn.Identity(), D_MODEL, lambda *_: made((1, 4, 12), 2))
    names = [name for name, _ in model.named_parameters()]
    symbols = torch.tensor([[0, 12, 4], [5, 0, 3]])
    targets = torch.tensor([[4, 12, -100], [0, 3, 5]])

    def nats(*values: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, values, strict=True)), (symbols, targets))

    assert torch.autograd.gradcheck(nats, tuple(p.detach().clone().requires_grad_() for p in model.parameters()))


@EVERY_SHAPE
def test_embed_is_vector_times_projection_times_root_d_model(cutoffs: Sequence[int], div_val: int) -> None:
    embedding = made(cutoffs, div_val)
    borders = [0, *cutoffs, VOCABULARY]
    parameters = list(embedding.parameters())
    for _, targets in batches():
        symbols = targets.clamp(min=0)
        rows = []
        for symbol in symbols.flatten().tolist():
            i = sum(symbol >= border for border in cutoffs)
            rows.append(embedding.projections[i] @ embedding.vectors[i][symbol - borders[i]] * D_MODEL**0.5)
        both, weights = [], torch.randn(*symbols.shape, D_MODEL, dtype=torch.float64)
        for embedded in (embedding.embed(symbols), torch.stack(rows).view(*symbols.shape, D_MODEL)):
            gradients = torch.autograd.grad((embedded * weights).sum(), parameters, allow_unused=True)
            both.append([embedded, *gradients])
        for one, other in zip(*both, strict=True):
            if other is not None:
                torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
            else:
                assert one is None or not one.any()  # None: only the output uses it


@EVERY_SHAPE
def test_without_tail_biases_it_is_pytorchs_adaptive_softmax(cutoffs: Sequence[int], div_val: int) -> None:
    embedding = made(cutoffs, div_val)
    theirs = nn.AdaptiveLogSoftmaxWithLoss(D_MODEL, VOCABULARY, list(cutoffs), div_val, head_bias=True).double()
    with torch.no_grad():
        embedding.bias[cutoffs[0] :] = 0
        theirs.head.weight.copy_(
            torch.cat([embedding.vectors[0], embedding.clusters.weight]) @ embedding.head_projection.T
        )
        theirs.head.bias.copy_(torch.cat([embedding.bias[: cutoffs[0]], embedding.clusters.bias]))
        for i, (down, up) in enumerate(theirs.tail, start=1):
            down.weight.copy_(embedding.projections[i].T)
            up.weight.copy_(embedding.vectors[i])
    for hidden, targets in batches():
        rows, symbols = hidden.flatten(0, 1), targets.flatten().clamp(min=0)
        torch.testing.assert_close(embedding.nats(rows, symbols), -theirs(rows, symbols).output, rtol=1e-11, atol=0)
        torch.testing.assert_close(embedding.logits(rows), theirs.log_prob(rows), rtol=1e-11, atol=0)


def test_nats_of_a_full_softmax_leave_ignored_targets_out() -> None:
    embedding = TiedEmbedding(VOCABULARY, D_MODEL).double()
    for hidden, targets in batches():
        chosen = embedding.logits(hidden).softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        expected = -chosen.log() * (targets != -100)
        torch.testing.assert_close(embedding.nats(hidden, targets), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("symbols", [[0, 3], [5, 6], [12, 12]], ids=["first", "second", "third"])
@pytest.mark.parametrize("ignored", [False, True], ids=["predicted", "ignored"])
def test_every_parameter_receives_a_gradient_whatever_the_batch(symbols: list[int], ignored: bool) -> None:
    """In distributed training, ranks wait for the gradient of every parameter."""
    embedding = made([5, 9], 2)
    inputs = torch.tensor([symbols])
    targets = torch.full_like(inputs, -100) if ignored else inputs
    embedding.nats(embedding.embed(inputs), targets).sum().backward()
    for name, parameter in embedding.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert not (ignored and parameter.grad.any()), name


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns, in forward and backward."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return result


@pytest.mark.parametrize(("low", "high"), [(0, 2000), (0, 100), (1000, 2000)], ids=["all", "frequent", "rare"])
def test_training_never_has_logits_of_the_whole_vocabulary(low: int, high: int) -> None:
    model = LanguageModel(2000, nn.Identity(), 16, lambda *sizes: AdaptiveEmbedding(*sizes, [100, 300, 1000], 2))
    inputs, targets = torch.randint(low, high, (2, 4, 32))
    rows = targets.numel()
    with Largest() as training:
        model(inputs, targets).mean().backward()
    assert rows < training.elements <= rows * 1000  # the largest cluster, if every target is in it
    with Largest() as decoding:
        model(inputs)
    assert decoding.elements >= rows * 2000
    if high - low == 2000:
        assert training.elements < rows * 1000 * 0.8  # only positions whose target is in a cluster compute its logits


def test_all_clusters_start_with_inputs_and_logits_of_unit_variance() -> None:
    torch.manual_seed(0)
    embedding = AdaptiveEmbedding(3000, 256, [1000, 2000])
    hidden = torch.randn(200, 256)
    for low in (0, 1000, 2000):
        assert embedding.embed(torch.arange(low, low + 1000)[None]).var().item() == pytest.approx(1, rel=0.1)
    for logits in (embedding._first(hidden), embedding._tail(1, hidden), embedding._tail(2, hidden)):
        assert logits.var().item() == pytest.approx(1, rel=0.1)
    assert not embedding.bias.any()
    assert not embedding.clusters.bias.any()


def test_dropouts_are_of_the_inputs_and_of_the_projected_outputs() -> None:
    embedding = AdaptiveEmbedding(VOCABULARY, D_MODEL, [5, 9], 2, embedding_dropout=1.0, softmax_dropout=1.0)
    hidden, symbols = torch.randn(1, VOCABULARY, D_MODEL), torch.arange(VOCABULARY)[None]
    assert not embedding.embed(symbols).any()
    uniform = torch.tensor(5 * [math.log(7)] + 4 * [math.log(7 * 4)] + 4 * [math.log(7 * 4)])[None]
    torch.testing.assert_close(embedding.nats(hidden, symbols), uniform)
    embedding.eval()
    assert embedding.embed(symbols).any(-1).all()
    torch.testing.assert_close(embedding.nats(hidden, symbols), embedding.eval().nats(hidden, symbols), rtol=0, atol=0)
    assert (embedding.nats(hidden, symbols) - uniform).abs().min() > 1e-4


@torch.no_grad()
def test_decoding_is_the_parallel_form_and_generation_takes_the_likeliest(build: Build) -> None:
    network = build("model=diff_mamba", *ADAPTIVE).double().eval()
    symbols = torch.randint(7, (2, 42), generator=torch.Generator().manual_seed(1))
    states, pieces = network.allocate_state(2), []
    for piece in symbols.split([1, 33, 7, 1], dim=1):
        logits, states = network.extend(piece, states)
        pieces.append(logits)
    logits = network(symbols)
    torch.testing.assert_close(torch.cat(pieces, dim=1), logits, rtol=1e-10, atol=1e-10)
    chosen = -logits[:, :-1].gather(-1, symbols[:, 1:, None])[..., 0]
    torch.testing.assert_close(network(symbols[:, :-1], symbols[:, 1:]), chosen, rtol=1e-10, atol=1e-10)
    text = symbols[:1, :3]
    for drawn in generate(network, text, 8, temperature=0):
        assert drawn.item() == network(text)[0, -1].argmax().item()
        text = torch.cat([text, drawn[:, None]], dim=1)


def test_it_trains(build: Build) -> None:
    network = build("model=diff_mamba", *ADAPTIVE)
    symbols = torch.randint(7, (4, 34), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.1), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = network(symbols[:, :-1], symbols[:, 1:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    assert losses[-1] < losses[0] - 0.1


def test_bfloat16_autocast_is_close_and_gives_float32(build: Build) -> None:
    network = build("model=mamba", *ADAPTIVE, layer=["mixer"]).eval()
    symbols = torch.randint(7, (2, 34), generator=torch.Generator().manual_seed(1))
    both = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            nats, logits = network(symbols[:, :-1], symbols[:, 1:]), network(symbols)
        assert nats.dtype == logits.dtype == torch.float32
        both.append([nats, logits, *torch.autograd.grad(nats.mean(), list(network.embedding.parameters()))])
    for one, other in zip(*both, strict=True):
        assert (one - other).norm() <= 0.05 * one.norm()


def test_compiled_it_is_the_eager_one() -> None:
    torch.compiler.reset()
    network = LanguageModel(7, nn.Identity(), 8, embedding([2, 4], div_val=2))
    parameters = list(network.parameters())
    symbols = torch.randint(7, (2, 34), generator=torch.Generator().manual_seed(1))

    def nats_and_gradients() -> list[Tensor]:
        nats = network(symbols[:, :-1], symbols[:, 1:])
        return [nats, *torch.autograd.grad(nats.mean(), parameters)]

    expected = nats_and_gradients()
    network.compile(backend="aot_eager")
    for one, other in zip(nats_and_gradients(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_biases_do_not_decay_and_all_else_does() -> None:
    embedding = made([5, 9], 2)
    names = {id(parameter): name for name, parameter in embedding.named_parameters()}
    decayed, undecayed = ({names[id(p)] for p in group["params"]} for group in parameter_groups(embedding, 0.1))
    assert undecayed == {"bias", "clusters.bias"}
    matrices = [f"{kind}.{i}" for kind in ("vectors", "projections") for i in range(3)]
    assert decayed == {*matrices, "head_projection", "clusters.weight"}


@pytest.mark.parametrize("model", ["mamba", "diff_mamba"])
@pytest.mark.parametrize("row", TABLE1, ids=lambda row: f"{row['data']}-{row['layers']}")
def test_parameters_are_those_of_table_1(resolve: Resolve, row: dict[str, Any], model: str) -> None:
    """Except WikiText-103 with 12 layers, where the paper prints the counts of Text8, 40M of embedding too low."""
    depth = {6: "shallow", 12: "deep"}[row["layers"]]
    words = ("scale=paper", "experiments=table1", f"data={row['data']}", f"published.depth={depth}")
    config = resolve(*words, f"model={model}")
    vocabulary_size = {"text8": 27, "enwik8": 205, "wikitext103": 267_735}[row["data"]]
    network = shapes_of(config, vocabulary_size)
    published = row[model]["params_m"]
    if (row["data"], row["layers"]) == ("wikitext103", 12):
        assert published in (255, 259)
        published += 40
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(published, rel=0.01)
    assert config["data"]["name"] == row["data"]
    assert isinstance(network.embedding, AdaptiveEmbedding if vocabulary_size > 256 else TiedEmbedding)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"cutoffs": []},
            r"cutoffs=\[\] must be .* the corpus's 7 symbols; for example .*cutoffs=\[1,5\]; model/embedding=full .*",
        ),
        ({"cutoffs": [4, 2]}, r"cutoffs=\[4, 2\] must be whole numbers that ascend"),
        ({"cutoffs": [2, 2]}, r"cutoffs=\[2, 2\] must be whole numbers that ascend"),
        ({"cutoffs": [0, 2]}, r"cutoffs=\[0, 2\] must be whole numbers that ascend"),
        ({"cutoffs": [2, 7]}, r"cutoffs=\[2, 7\] must be .* lie below the corpus's 7 symbols"),
        ({"cutoffs": [1.5]}, r"cutoffs=\[1\.5\] must be whole numbers"),
        ({"cutoffs": 3}, r"cutoffs=3 must be whole numbers"),
        ({"cutoffs": None}, r"cutoffs=None must be whole numbers"),
        ({"div_val": 6}, r"div_val=6 leaves the last of 3 clusters no width at d_model=32$"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(SettingError, match=rf"^model\.embedding\.{message}") as caught:
        AdaptiveEmbedding(7, 32, **{"cutoffs": [2, 4]} | settings)
    assert "\n" not in str(caught.value)


def test_cutoffs_choose_the_embedding() -> None:
    assert embedding() is embedding(cutoffs=None, div_val=2) is TiedEmbedding
    adaptive = embedding(cutoffs=[5], div_val=2, softmax_dropout=0.5)
    assert adaptive.func is AdaptiveEmbedding
    assert adaptive.keywords == {"cutoffs": [5], "div_val": 2, "embedding_dropout": 0.0, "softmax_dropout": 0.5}
    assert adaptive(VOCABULARY, D_MODEL).borders == [0, 5, VOCABULARY]


def test_the_defaults_of_the_adaptive_embedding_are_the_papers(resolve: Resolve) -> None:
    settings = resolve("data=wikitext103")["model"]["embedding"]
    assert (settings["cutoffs"], settings["div_val"]) == ([19_997, 39_997, 199_997], 4)
    assert settings["embedding_dropout"] == settings["softmax_dropout"] == 0.25
    assert resolve("data=text8")["model"]["embedding"]["cutoffs"] is None  # a full softmax
