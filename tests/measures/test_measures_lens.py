"""The logit lens and the tuned lens: equal to the network where they must be, and trained without touching it."""

import gc
import json
import math
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from diffmamba.configuration import composed
from diffmamba.data.streams import IGNORED
from diffmamba.errors import SettingError
from diffmamba.measures import Lens, Subject, lens, sequences, tuned_lens
from diffmamba.measures.tuned_lens import Descent, Kept, TunedLens
from tests.models.conftest import VOCABULARY, build  # noqa: F401 - a fixture

MODELS = {
    "tied": ["model=diff_mamba"],
    "pre_norm": ["model=mamba", "model.residual=pre_norm"],
    "untied": ["model=diff_s6", "model/embedding=untied", "model.residual=pre_norm"],
    "adaptive": ["model=mamba", "model/embedding=adaptive", "model.embedding.cutoffs=[2,5]"],
}
BLOCKS = 3
STEPS = 12
SYMBOLS = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (6, 12)))
CORPUS = np.random.default_rng(1).integers(0, VOCABULARY, 400)
TEXT = SimpleNamespace(
    corpus=SimpleNamespace(split={"train": CORPUS[:200], "val": CORPUS[200:300], "test": CORPUS[300:]}.get),
    facts={"name": "any", "fingerprint": "f"},
    vocabulary_size=VOCABULARY,
    symbols={"system": "text8", "size": VOCABULARY, "symbols": " abcdef"},
)
SHORT = Lens(length=12, batch=4, sequences=6, steps=5, learning_rate=0.1)


@pytest.fixture(params=list(MODELS))
def network(request, build):  # noqa: F811
    return build(*MODELS[request.param]).double().eval()


@pytest.fixture
def mamba(build):  # noqa: F811
    return build("model=mamba").double().eval()


def everywhere(symbols):
    return torch.ones_like(symbols, dtype=torch.bool)


def drawn(network):
    """A lens with numbers in all its maps."""
    made, random = TunedLens.of(network), torch.Generator().manual_seed(3)
    for weight in made.parameters():
        weight.data = torch.randn(weight.shape, generator=random, dtype=torch.float64) / 20
    return made


def measured(network, measure=SHORT, data=TEXT, **more):
    return list(measure.rows(Subject(network, data, **more)))


def values(rows, name="probability", of="tuned"):
    """The values of a quantity by layer."""
    found = [
        (row.coordinates["layer"], row.value) for row in rows if row.measure == name and "layer" in row.coordinates
    ]
    named = [row.coordinates["lens"] for row in rows if row.measure == name and "layer" in row.coordinates]
    return {layer: value for (layer, value), which in zip(found, named, strict=True) if which == of}


def test_the_last_layer_is_the_network_and_an_untrained_lens_the_logit_lens(network):
    said = network(SYMBOLS).log_softmax(-1).flatten(0, 1)
    found = {
        (one.layer, one.lens): one
        for one in tuned_lens.readings(network, TunedLens.of(network), SYMBOLS, everywhere(SYMBOLS))
    }
    assert list(found) == [(layer, name) for layer in range(BLOCKS + 1) for name in ("logit", "tuned")]
    for name in ("logit", "tuned"):
        assert torch.equal(found[BLOCKS, name].said, said)
        assert not found[BLOCKS, name].kl.any()
    for layer in range(BLOCKS):
        assert torch.equal(found[layer, "logit"].said, found[layer, "tuned"].said)
        assert found[layer, "logit"].kl.mean() > 1e-3
        torch.testing.assert_close(found[layer, "logit"].said.exp().sum(-1), torch.ones(SYMBOLS.numel()).double())


def test_a_lens_that_is_trained_leaves_the_last_layer_to_the_network(mamba):
    said = mamba(SYMBOLS).log_softmax(-1).flatten(0, 1)
    found = list(tuned_lens.readings(mamba, drawn(mamba), SYMBOLS, everywhere(SYMBOLS)))
    assert torch.equal(found[-1].said, said)
    assert all(
        not torch.equal(logit.said, tuned.said) for logit, tuned in zip(found[:-2:2], found[1:-2:2], strict=True)
    )


def test_gradients_are_those_of_the_sum_over_all_layers(network):
    """One layer at a time, in two parts, against one graph of everything."""
    ours, plain = drawn(network), drawn(network)
    where = everywhere(SYMBOLS)
    where[0, 3:] = where[4] = False
    counted = int(where.sum())
    loss = sum(
        tuned_lens.accumulate(ours, network, SYMBOLS[part], where[part], counted) for part in (slice(4), slice(4, 6))
    )
    said = network(SYMBOLS).log_softmax(-1)[where].detach()
    total = torch.zeros(())
    for layer, state in enumerate(network.backbone.hidden(network.embedding.embed(SYMBOLS))[:-1]):
        mapped = state.detach() + state.detach() @ plain.weight[layer].T + plain.bias[layer]
        read = network.predicted(network.backbone.final_norm(mapped), None).log_softmax(-1)[where]
        total = total + (said.exp() * (said - read)).sum() / counted
    total.backward()
    assert loss == pytest.approx(total.item(), rel=1e-12)
    for found, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        assert expected.grad.abs().max() > 0
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-10, atol=1e-14)


def test_the_logits_of_a_layer_are_gone_before_those_of_the_next(mamba, monkeypatch):
    made, alive, real = [], [], tuned_lens.log_probabilities

    def watched(network, hidden):
        gc.collect()
        alive.append(sum(one() is not None for one in made))
        found = real(network, hidden)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(tuned_lens, "log_probabilities", watched)
    tuned_lens.accumulate(drawn(mamba), mamba, SYMBOLS, everywhere(SYMBOLS), SYMBOLS.numel())
    assert alive == [0, *[1] * BLOCKS]  # what the network says stays


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_brings_the_lens_to_the_network_and_changes_the_lens_alone(network, optimizer):
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    lens, batch = TunedLens.of(network), (SYMBOLS, everywhere(SYMBOLS))
    descent = Descent(STEPS, optimizer, {"sgd": 0.3, "adam": 2e-2}[optimizer], 0.9, 1e-3, 1.0)
    losses = tuned_lens.train(lens, network, [[batch]] * STEPS, descent)
    assert losses[-1] < 0.7 * losses[0]
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    found = list(tuned_lens.readings(network, lens, *batch))
    assert all((one.kl > -1e-12).all() for one in found)
    assert sum(one.kl.mean() for one in found if one.lens == "tuned") < sum(one.kl.mean() for one in found[::2])


def test_the_steps_are_those_of_pytorch_with_a_rate_that_falls_to_nothing(mamba):
    """Nesterov momentum by its formula, in float64; the clip is on."""
    batch, descent = (SYMBOLS, everywhere(SYMBOLS)), Descent(3, "sgd", 0.2, 0.9, 1e-2, 0.05)
    ours, plain = TunedLens.of(mamba), TunedLens.of(mamba)
    tuned_lens.train(ours, mamba, [[batch]] * 3, descent)
    momenta = [torch.zeros_like(weight) for weight in plain.parameters()]
    for step in range(3):
        plain.zero_grad()
        tuned_lens.accumulate(plain, mamba, *batch, SYMBOLS.numel())
        norm = torch.stack([weight.grad.norm() for weight in plain.parameters()]).norm()
        assert norm > descent.clip
        for weight, momentum in zip(plain.parameters(), momenta, strict=True):
            gradient = weight.grad * descent.clip / (norm + 1e-6) + descent.weight_decay * weight.data
            momentum.mul_(0.9).add_(gradient) if step else momentum.copy_(gradient)
            weight.data -= 0.2 * (1 - step / 3) * (gradient + 0.9 * momentum)
    for found, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


def test_quantities_by_hand(mamba):
    """Of each position, against probabilities and loops; -Σ p ln q is entropy and KL together."""
    where, targets = everywhere(SYMBOLS), SYMBOLS.roll(1).flatten()
    shares = torch.bincount(targets, minlength=VOCABULARY).double() / len(targets)
    *_, reading, _, last, _ = tuned_lens.readings(mamba, drawn(mamba), SYMBOLS, where)
    said = reading.said.exp()
    ce, kl, entropy, target, other = lens._quantities(reading, targets, shares)
    right = said[range(len(targets)), targets]
    torch.testing.assert_close(ce, -right.log2())
    torch.testing.assert_close(target, 100 * right)
    torch.testing.assert_close(entropy, -(said * said.log2()).sum(1))
    crossed = -(last.said.exp() * said.log2()).sum(1)
    torch.testing.assert_close(crossed, lens._quantities(last, targets, shares)[2] + kl)
    for at in (0, 17, 40):
        others = [v for v in range(VOCABULARY) if v != targets[at]]
        weights = np.array([shares[v] for v in others])
        expected = (weights * np.array([100 * said[at, v] for v in others])).sum() / weights.sum()
        assert other[at].item() == pytest.approx(expected)


def test_errors_are_those_of_independent_sequences():
    """With as many positions in each, that of a mean of their means; a sequence without positions changes nothing."""
    sums = torch.tensor([[2.0, 4.0, 9.0]]).double().expand(5, 3)
    found = lens._estimates(sums, torch.full((3,), 4.0).double())
    assert found["kl"] == pytest.approx(15 / 12)
    assert found["kl_error"] == pytest.approx(np.std([0.5, 1.0, 2.25], ddof=1) / math.sqrt(3))
    alone = lens._estimates(sums[:, :1], torch.tensor([4.0]).double())
    assert "kl_error" not in alone


def test_rows_are_of_every_layer_and_repeat(mamba):
    kept = {}
    rows = measured(mamba, keep=kept.__setitem__)
    assert rows == measured(mamba)
    assert list(kept) == ["lens.safetensors"]
    figures = {row.measure: row.value for row in rows if not row.coordinates}
    assert list(figures) == list(Lens.metrics)
    kl, logit = values(rows, "kl"), values(rows, "kl", "logit")
    assert list(kl) == list(range(BLOCKS + 1))
    assert figures["kl"] == pytest.approx(sum(kl.values()) / BLOCKS)
    assert figures["logit_kl"] == pytest.approx(sum(logit.values()) / BLOCKS)
    assert figures["kl"] < figures["logit_kl"]
    assert kl[BLOCKS] == logit[BLOCKS] == 0
    windows = CORPUS[300:396].reshape(8, 12), CORPUS[301:397].reshape(8, 12)
    nats = mamba(*map(torch.from_numpy, windows))
    assert figures["bits"] == pytest.approx(nats.mean().item() / math.log(2))
    assert figures["symbols"] == 96
    assert values(rows)[BLOCKS] == pytest.approx(100 * (-nats).exp().mean().item())
    assert values(measured(mamba, Lens(**{**vars(SHORT), "seed": 1})), "kl") != kl
    batched = values(measured(mamba, Lens(**{**vars(SHORT), "batch": 5})), "kl")
    assert batched == pytest.approx(kl, rel=1e-9)


def test_without_training_there_is_the_logit_lens_alone(mamba):
    kept = {}
    rows = measured(mamba, Lens(length=12, batch=4, steps=0), keep=kept.__setitem__)
    figures = {row.measure: row.value for row in rows if not row.coordinates}
    assert values(rows) == {}
    assert kept == {}
    assert figures["kl"] == figures["logit_kl"] == pytest.approx(sum(values(rows, "kl", "logit").values()) / BLOCKS)


def test_the_published_numbering_is_one_less_and_lacks_two_layers(mamba):
    rows = measured(mamba, Lens(length=12, batch=4, steps=0))
    published = measured(mamba, Lens(length=12, batch=4, steps=0, numbering="published"))
    own = values(rows, of="logit")
    assert values(published, of="logit") == {k: own[k + 1] for k in range(1, BLOCKS)}
    assert [row for row in published if not row.coordinates] == [row for row in rows if not row.coordinates]


def test_only_the_answers_of_a_task_are_measured(mamba):
    """And it is trained on all that the training examples have as targets."""
    answers = np.where(np.arange(12) % 4 == 3, SYMBOLS.roll(-1, 1).numpy(), IGNORED)
    examples = SimpleNamespace(inputs=SYMBOLS.numpy(), targets=answers)
    data = SimpleNamespace(**{**vars(TEXT), "corpus": None}, splits={"train": examples, "test": examples})
    rows = measured(mamba, SHORT, data)
    nats = mamba(SYMBOLS, torch.from_numpy(answers))
    assert next(row.value for row in rows if row.measure == "symbols") == 18
    assert values(rows, "cross_entropy")[BLOCKS] == pytest.approx(nats.sum().item() / 18 / math.log(2))


def test_all_prompts_are_measured_unless_a_number_is_given():
    words = ["model=mamba", "measure=lens", "weights=trained", "measure.prompts=x.csv"]
    for further, limit in (([], None), (["measure.limit=7"], 7), (["measure.prompts=null"], 128)):
        assert composed([*words, *further], "measure")["measure"]["limit"] == limit


def test_prompts_end_where_the_first_symbol_of_the_target_is_to_come(mamba, tmp_path):
    prompts = [("abc def", "bad"), ("fa", "dab")]
    (tmp_path / "p.csv").write_text("\ufeffprompt,target,task\n" + "".join(f"{p},{t},1\n" for p, t in prompts))
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": p, "target": t}) for p, t in prompts) + "\n\n")
    found = []
    for name in ("p.csv", "p.jsonl"):
        found.append(measured(mamba, Lens(length=12, batch=4, steps=0, prompts=str(tmp_path / name))))
    assert found[0] == found[1]
    expected = [
        100 * mamba(torch.tensor([[" abcdef".index(c) for c in p]]))[0, -1].softmax(-1)[" abcdef".index(t[0])]
        for p, t in prompts
    ]
    assert values(found[0], of="logit")[BLOCKS] == pytest.approx(sum(expected).item() / 2)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.csv", "prompt,answer\na,b\n", "columns prompt and target"),
        ("p.csv", "", "columns prompt and target"),
        ("p.jsonl", '{"prompt": "a"}\n', "columns prompt and target"),
        ("p.jsonl", "{", "columns prompt and target"),
        ("p.csv", "prompt,target\na,b\nc,\n", "target 2 is empty"),
        ("p.csv", "prompt,target\na,b\nc\n", "target 2 is missing"),
        ("p.jsonl", '{"prompt": "a", "target": null}\n', "target 1 is missing"),
    ],
)
def test_a_file_without_prompts_is_told(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(SettingError, match=f"^measure.prompts=.*{name}.*{says}"):
        Lens(length=12, prompts=str(tmp_path / name)).check(TEXT)


def test_data_that_do_not_fit_are_told():
    nothing = SimpleNamespace(**{**vars(TEXT), "corpus": None, "symbols": None})
    with pytest.raises(SettingError, match="needs a corpus or examples, and any is neither"):
        Lens(length=12).check(nothing)
    with pytest.raises(SettingError, match=r"measure.length=100 .* at most 99: test"):
        Lens(length=100).check(TEXT)
    with pytest.raises(SettingError, match="the symbols of any are none"):
        sequences.of_prompts(b"prompt,target\na,b\n", "p.csv", nothing)


def test_a_kept_lens_gives_what_it_gave_and_is_of_its_network_alone(mamba, build, tmp_path):  # noqa: F811
    kept = {}
    rows = [row for row in measured(mamba, keep=kept.__setitem__) if row.measure != "training_kl"]
    path = tmp_path / "lens.safetensors"
    path.write_bytes(kept["lens.safetensors"])
    again = Lens(length=12, batch=4, lens=str(path))
    assert measured(mamba, again, keep=kept.pop) == rows
    again.check_network(mamba)
    with torch.no_grad():
        next(mamba.parameters()).flatten()[0] += 1e-9
    with pytest.raises(SettingError, match=f"measure.lens={path} was trained for other weights"):
        measured(mamba, again)
    wider = build("model=mamba", "scale.d_model=64")
    deeper = build("model=mamba", "scale.n_layers=2")
    for other, has in ((wider, "3 of width 64"), (deeper, "6 of width 32")):
        with pytest.raises(
            SettingError, match=f"lens of another model: of 3 blocks of width 32, and this one has {has}"
        ):
            again.check_network(other)
    with pytest.raises(SettingError, match="needs a language model, and this is a Linear"):
        again.check_network(nn.Linear(2, 2))


def test_the_same_lens_is_the_same_measurement_wherever_it_lies(tmp_path, mamba):
    content = tuned_lens.to_bytes(drawn(mamba), mamba, {})
    for place in ("one", "mabc/lens.safetensors", "mabd/lens.safetensors"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(content)
    settings = {"data": {"length": 12, "eval_batch_size": 4}}
    of_file, of_run = (
        Lens(lens=given, store=str(tmp_path), steps=steps).completed(settings)
        for given, steps in ((str(tmp_path / "one"), 7), ("mabc", 9))
    )
    assert of_file.lens_is == of_run.lens_is
    assert of_file.descent == of_run.descent
    for given, says in {"mab": "2 measurements", "none": "no measurement"}.items():
        with pytest.raises(SettingError, match=f"^measure.lens={given} is no file, and {says} in "):
            Lens(lens=given, store=str(tmp_path)).completed(settings)


@pytest.mark.parametrize("content", [b"", b"lens", b"\x02\0\0\0\0\0\0\0{}", "of a network"])
def test_a_file_that_is_no_lens_is_told(content, mamba):
    from safetensors.torch import save

    content = save(dict(mamba.state_dict())) if isinstance(content, str) else content
    with pytest.raises(SettingError, match=r"^measure.lens=x (is no lens|holds no lens)"):
        Kept.of(content, "measure.lens=x")
