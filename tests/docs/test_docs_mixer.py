"""The examples of new mixers, from the pages' own text. The README's is one Python file and one YAML file."""

import pages
import pytest
import torch

from diffmamba.configuration import composed
from diffmamba.reports import designs
from diffmamba.runs.work import build_network


@pytest.fixture(params=["retention", "diff_retention"])
def network(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(composed([f"model={request.param}"]), 27).double()


def test_example_is_two_files() -> None:
    files = [block.file for block in pages.blocks(pages.PAGES[0]) if "retention" in block.file]
    assert files == ["src/diffmamba/mixers/retention.py", "conf/model/retention.yaml"]


def test_example_mixer_decodes_as_it_trains(network: torch.nn.Module) -> None:
    symbols = torch.randint(27, (2, 37))
    logits = network(symbols)
    state = network.allocate_state(2)
    prefix, state = network.extend(symbols[:, :20], state)
    stepped = [prefix]
    for t in range(20, 37):
        one, state = network.extend(symbols[:, t : t + 1], state)
        stepped.append(one)
    torch.testing.assert_close(torch.cat(stepped, dim=1), logits, rtol=1e-9, atol=1e-9)


def test_example_mixer_trains(network: torch.nn.Module) -> None:
    symbols = torch.randint(27, (4, 33))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = network(symbols[:, :-1], symbols[:, 1:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize(
    ("words", "row"),
    [
        ("model=retention", "retention"),
        ("model=diff_retention", "diff_retention, outer norm, scalar"),
        ("model=diff_retention model.outer_norm=false model.lambda_form=reparam", "diff_retention, reparam"),
    ],
)
def test_example_mixers_have_rows_of_their_own_in_table_2(words: str, row: str) -> None:
    key = designs.find("table", "table2").key(composed(["experiments=table2", *words.split()]))
    assert (key.label, key.is_baseline, key.published.value) == (row, False, None)
