"""Long sequences window by window: the same as at once, and each block is shown what it reads."""

import pytest
import torch

from diffmamba.measures.streamed import streamed
from diffmamba.mixers import Mixer
from tests.models.conftest import VOCABULARY, build  # noqa: F401 - a fixture

MODELS = (
    ["model=mamba"],
    ["model=diff_mamba", "model.residual=pre_norm"],
    ["model=diff_s6", "model.ssm=mamba1"],
    ["model=transformer"],
)


@pytest.mark.parametrize("words", MODELS, ids=" ".join)
@pytest.mark.parametrize("lengths", [[23], [8, 8, 7], [1, 21, 1]], ids=str)
@torch.no_grad()
def test_windows_give_what_one_pass_gives(build, words, lengths):  # noqa: F811
    network = build(*words).double().eval()
    symbols = torch.randint(VOCABULARY, (2, 23), generator=torch.Generator().manual_seed(1))
    shown = []
    found = streamed(network, symbols.split(lengths, dim=1), lambda index, *_: shown.append(index))
    logits = network.predicted(torch.cat(list(found), dim=1), None)
    torch.testing.assert_close(logits, network(symbols), rtol=0, atol=1e-12)
    assert shown == list(range(len(network.backbone.blocks))) * len(lengths)


@pytest.mark.parametrize("words", MODELS, ids=" ".join)
@torch.no_grad()
def test_a_block_is_shown_with_its_input_and_what_its_layer_reads(build, words):  # noqa: F811
    network = build(*words).double().eval()
    symbols = torch.randint(VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(1))
    hidden, read, shown = network.backbone.hidden(network.embedding.embed(symbols)), {}, {}
    for index, block in enumerate(network.backbone.blocks):
        block.layer.register_forward_pre_hook(lambda _, inputs, index=index: read.__setitem__(index, inputs[0]))
    network(symbols)
    list(streamed(network, [symbols], lambda index, block, x, state: shown.update({index: (block, x, state)})))
    for index, (block, x, state) in shown.items():
        torch.testing.assert_close(x, hidden[index], rtol=0, atol=1e-12)
        torch.testing.assert_close(block.read(x), read[index], rtol=0, atol=1e-12)
        assert (state is None) != isinstance(block.layer, Mixer)
