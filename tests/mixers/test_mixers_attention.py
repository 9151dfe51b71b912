"""Attention, ordinary and differential: against its formulas, and in decoding."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from formulas import lambda_, lambda_init, rms
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffmamba.errors import SettingError
from diffmamba.mixers import Attention, MapDifference, OneMap
from diffmamba.mixers.attention import Cache, rotate

D_MODEL, HEADDIM, INNER, DEPTH = 10, 8, 24, 4
HEADS = INNER // HEADDIM

Combine = Callable[..., nn.Module]
FORMS = ("scalar", "reparam", "reparam_bounded", "channel", "exp", "exp_printed", "fixed")
BOTH = pytest.mark.parametrize("combine", [OneMap, MapDifference])


def attention(combine: Combine, dtype: torch.dtype = torch.float64) -> Attention:
    """A mixer whose parameters are all moved away from neutral values."""
    torch.manual_seed(0)
    mixer = Attention(D_MODEL, DEPTH, HEADDIM, INNER, combine)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer.to(dtype)


def inputs(length: int, batch: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, length, D_MODEL, dtype=dtype, generator=torch.Generator().manual_seed(1))


def turned(x: Tensor) -> Tensor:
    """Channels 2i and 2i + 1 of position p as a complex number, times exp(i p 10000^(-2i / width))."""
    width = x.shape[-1]
    angles = [[p * 10_000 ** (-2 * i / width) for i in range(width // 2)] for p in range(x.shape[-2])]
    numbers = torch.complex(x[..., 0::2], x[..., 1::2]) * torch.exp(1j * torch.tensor(angles, dtype=torch.float64))
    return torch.view_as_real(numbers).reshape(x.shape)


def softmax_map(query: Tensor, key: Tensor) -> Tensor:
    """The matrix `(batch, length, length)` of weights, nothing above the diagonal."""
    scores = turned(query) @ turned(key).mT / math.sqrt(query.shape[-1])
    weights = scores.exp() * torch.ones_like(scores).tril()
    return weights / weights.sum(-1, keepdim=True)


def by_formula(x: Tensor, p: dict[str, Tensor], form: str | None) -> Tensor:
    """Heads one by one; `form` None is ordinary attention. Rows of in_proj: q, k, v; in each heads; in q and k maps."""
    heads = []
    for head in range(HEADS):
        rows = slice(head * HEADDIM, (head + 1) * HEADDIM)
        q, k, v = (x @ weight[rows].T for weight in p["in_proj.weight"].chunk(3))
        if form is None:
            heads.append(softmax_map(q, k) @ v)
            continue
        (q1, q2), (k1, k2) = q.chunk(2, -1), k.chunk(2, -1)
        read = softmax_map(q1, k1) @ v - lambda_(form, p, DEPTH) * (softmax_map(q2, k2) @ v)
        heads.append((1 - lambda_init(DEPTH)) * rms(read) * p["combine.norm.weight"])
    return torch.cat(heads, -1) @ p["out_proj.weight"].T


def by_name(function: Callable[..., Tensor], x: Tensor, p: dict[str, Tensor]) -> dict[str, Tensor]:
    """The output, and the gradients of x and of all parameters for a random linear function of it."""
    y = function(x.requires_grad_(), p)
    towards = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    return {"y": y} | dict(zip(["x", *p], torch.autograd.grad((y * towards).sum(), [x, *p.values()]), strict=True))


@pytest.mark.parametrize(("form", "length"), [(None, 1), (None, 19), ("exp", 1), *((form, 19) for form in FORMS)])
def test_it_is_its_formula_and_so_are_its_gradients(form: str | None, length: int) -> None:
    mixer = attention(OneMap if form is None else partial(MapDifference, lambda_form=form))
    p = dict(mixer.named_parameters())
    found = by_name(lambda x, _: mixer(x), inputs(length), p)
    expected = by_name(lambda x, p: by_formula(x, p, form), inputs(length), p)
    assert expected["y"].abs().max() > 0.1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


@BOTH
def test_gradients_are_differences(combine: Combine) -> None:
    mixer = Attention(3, 2, 4, 8, combine).double()
    names = [name for name, _ in mixer.named_parameters()]

    def output(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(mixer, dict(zip(names, values, strict=True)), x)

    x = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(output, (x, *(p.detach().requires_grad_() for p in mixer.parameters())))


@BOTH
def test_the_gradient_of_a_map_lies_in_memory_as_the_map_does(
    combine: Combine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else cuDNN's backward kernel, compiled for one layout and used again for another, gives wrong gradients.

    What the combination gives back is made contiguous first, as the fused norm does on a GPU.
    """
    layouts = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def watched(*arguments: Tensor, **settings: float) -> Tensor:
        output = fused(*arguments, **settings)
        output.grad_fn.register_prehook(lambda gradients: layouts.append((gradients[0].stride(), output.stride())))
        return output

    def as_on_a_gpu(_: nn.Module, maps: tuple[list[Tensor]]) -> None:
        for output in maps[0]:
            output.register_hook(Tensor.contiguous)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    mixer = attention(combine, torch.float32)
    mixer.combine.register_forward_pre_hook(as_on_a_gpu)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        mixer(inputs(5, dtype=torch.float32)).square().sum().backward()
    assert len(layouts) == combine.maps
    assert all(gradient == output for gradient, output in layouts)


def test_parameters_are_those_of_ordinary_attention_but_for_lambda_and_one_gain() -> None:
    ordinary, differential = (dict(attention(combine).named_parameters()) for combine in (OneMap, MapDifference))
    shapes = {name: tuple(parameter.shape) for name, parameter in ordinary.items()}
    assert shapes == {"in_proj.weight": (3 * INNER, D_MODEL), "out_proj.weight": (D_MODEL, INNER)}
    own = {f"combine.weight.{name}": (HEADDIM // 2,) for name in ("q1", "k1", "q2", "k2")}
    expected = shapes | own | {"combine.norm.weight": (HEADDIM,)}
    assert {name: tuple(parameter.shape) for name, parameter in differential.items()} == expected


@BOTH
@pytest.mark.parametrize("cut", [1, 7, 14])
@torch.no_grad()
def test_later_positions_and_other_rows_leave_an_output_alone(combine: Combine, cut: int) -> None:
    mixer, x = attention(combine), inputs(15)
    y, changed = mixer(x), x.clone()
    changed[0, cut:] += 1
    found = mixer(changed)
    torch.testing.assert_close(found[0, :cut], y[0, :cut], rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], y[1], rtol=0, atol=1e-12)
    assert ((found[0, cut:] - y[0, cut:]).abs().amax(-1) > 1e-4).all()


def test_scores_of_rotated_vectors_depend_on_their_distance_only() -> None:
    query, key = torch.randn(2, 1, 12, 3, 8, dtype=torch.float64)
    scores = [torch.einsum("blhd,bmhd->bhlm", rotate(query, start), rotate(key, start)) for start in (0, 5, 4000)]
    for other in scores[1:]:
        torch.testing.assert_close(other, scores[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scores[0].diagonal(dim1=-2, dim2=-1).mT, (query * key).sum(-1))
    assert (scores[0] - torch.einsum("blhd,bmhd->bhlm", query, key)).abs().max() > 0.1
    torch.testing.assert_close(rotate(query, 3)[:, :4], rotate(torch.cat([query[:, :3], query], 1), 0)[:, 3:7])


def test_positions_far_out_are_rotated_in_full_precision() -> None:
    x = torch.randn(1, 5, 2, 64).bfloat16()
    found, expected = rotate(x, 3001), rotate(x.double(), 3001)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=2e-3)


@BOTH
@pytest.mark.parametrize("sizes", [[1, 22], [1] * 23, [5, 1, 1, 9, 7]], ids=str)
@torch.no_grad()
def test_pieces_are_the_whole(combine: Combine, sizes: list[int]) -> None:
    mixer, x = attention(combine), inputs(23)
    state, outputs = mixer.allocate_state(2), []
    for piece in x.split(sizes, dim=1):
        if piece.shape[1] > 1:
            y, state = mixer.extend(piece, state)
        else:
            y, state = mixer.step(piece[:, 0], state)
            y = y[:, None]
        outputs.append(y)
        assert state.length == sum(output.shape[1] for output in outputs)
    torch.testing.assert_close(torch.cat(outputs, dim=1), mixer(x), rtol=1e-10, atol=1e-10)


@BOTH
@torch.no_grad()
def test_the_cache_is_copied_only_when_its_length_doubles(combine: Combine) -> None:
    mixer, x = attention(combine), inputs(200)
    _, state = mixer.extend(x[:, :10], mixer.allocate_state(2))
    capacities, buffer = [], None
    for t in range(10, 200):
        _, state = mixer.step(x[:, t], state)
        if state.buffer is not buffer:
            capacities.append(state.buffer.shape[1])
            buffer = state.buffer
    assert len(capacities) <= 1 + math.log2(200 / 10)
    assert all(later >= 2 * earlier for earlier, later in pairwise(capacities))
    assert capacities[-1] <= 2 * 200
    assert state.entries.shape == (2, 200, 2, HEADS, HEADDIM)


@BOTH
@torch.no_grad()
def test_a_state_goes_on_in_several_ways(combine: Combine) -> None:
    """For example in a search over continuations of one prompt. States share their memory."""
    mixer, x = attention(combine), inputs(12)
    prompt, one, other, more = x[:, :6], x[:, 6:8], x[:, 8:10], x[:, 10:]
    _, state = mixer.extend(prompt, mixer.allocate_state(2))
    _, first = mixer.extend(one, state)
    _, second = mixer.extend(other, state)
    for tail, reached in ((one, first), (other, second), (prompt[:, :0], state)):
        y, _ = mixer.extend(more, reached)
        torch.testing.assert_close(y, mixer(torch.cat([prompt, tail, more], 1))[:, -2:], rtol=1e-10, atol=1e-10)


@BOTH
def test_gradients_pass_through_the_state(combine: Combine) -> None:
    mixer, x = attention(combine), inputs(8)
    with torch.no_grad():
        _, prompt = mixer.extend(inputs(9), mixer.allocate_state(2))  # its buffer has room for more
    gradients = []
    for sizes in ([8], [3, 1, 4]):
        state, outputs = prompt, []
        for piece in x.split(sizes, dim=1):
            y, state = mixer.extend(piece, state)
            outputs.append(y)
        gradients.append(torch.autograd.grad(torch.cat(outputs, 1).square().sum(), list(mixer.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@BOTH
def test_what_gradients_need_is_not_written_over(combine: Combine) -> None:
    mixer, x = attention(combine), inputs(8)
    y, state = mixer.extend(x[:, :7], mixer.allocate_state(2))
    with torch.no_grad():
        mixer.step(x[:, 7], state)
    y.sum().backward()  # fails if a tensor that it needs was changed


def test_room_is_left_alone_where_gradients_are_wanted() -> None:
    entries = torch.randn(1, 3, 2, 1, 4)
    cache = Cache(entries.new_empty(1, 0, 2, 1, 4), 0).append(entries)
    room = cache.buffer
    grown = cache.append(entries.clone().requires_grad_())
    assert grown.buffer is not room
    assert grown.entries.requires_grad
    assert torch.equal(cache.entries, entries)


@BOTH
@torch.no_grad()
def test_rows_of_a_batch_decode_by_themselves(combine: Combine) -> None:
    mixer, x = attention(combine), inputs(9, batch=3)

    def decoded(rows: Tensor) -> Tensor:
        y, state = mixer.extend(rows[:, :4], mixer.allocate_state(len(rows)))
        return torch.cat([y, mixer.step(rows[:, 4], state)[0][:, None]], 1)

    for row in range(3):
        torch.testing.assert_close(decoded(x[row : row + 1])[0], decoded(x)[row], rtol=1e-12, atol=1e-12)


@BOTH
@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_trains_and_decodes(combine: Combine, autocast: bool) -> None:
    exact = attention(combine, torch.float32)
    expected = exact(inputs(20, dtype=torch.float32))
    mixer = exact if autocast else attention(combine, torch.bfloat16)
    x = inputs(20, dtype=torch.float32 if autocast else torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = mixer(x)
        start, state = mixer.extend(x[:, :12], mixer.allocate_state(2))
        middle, state = mixer.extend(x[:, 12:19], state)
        last, state = mixer.step(x[:, 19], state)
    assert y.dtype == last.dtype == state.buffer.dtype == torch.bfloat16
    pieces = torch.cat([start, middle, last[:, None]], 1)
    for found in (y, pieces):
        assert (found - expected).abs().max() <= 0.05 * expected.abs().max()
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in mixer.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@BOTH
@torch.no_grad()
def test_precision_is_kept(combine: Combine, dtype: torch.dtype) -> None:
    mixer, x = attention(combine, dtype), inputs(20, dtype=dtype)
    y, state = mixer.extend(x, mixer.allocate_state(2))
    assert mixer(x).dtype == y.dtype == state.buffer.dtype == dtype


@BOTH
def test_no_attention_matrix_is_made(combine: Combine) -> None:
    """Only the fused kernel is allowed here. It raises an error for inputs that it does not support."""
    mixer = attention(combine, torch.float32)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        _, state = mixer.extend(inputs(9, dtype=torch.float32), mixer.allocate_state(2))
        mixer.step(inputs(1, dtype=torch.float32)[:, 0], state)
        mixer(inputs(9, dtype=torch.float32)).sum().backward()


@BOTH
def test_it_can_be_built_and_run_without_memory(combine: Combine) -> None:
    with torch.device("meta"):
        mixer = Attention(D_MODEL, DEPTH, HEADDIM, INNER, combine)
        y, state = mixer.extend(torch.empty(2, 9, D_MODEL), mixer.allocate_state(2))
        assert mixer(torch.empty(2, 9, D_MODEL)).shape == y.shape == (2, 9, D_MODEL)
        assert mixer.step(torch.empty(2, D_MODEL), state)[0].is_meta


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"headdim": 16}, r"model\.headdim=16 must be a multiple of 4 .* model\.inner = 24; .*: 4, 8, 12, 24$"),
        ({"headdim": 6}, r"model\.headdim=6 must be a multiple of 4"),
        ({"headdim": 0}, r"model\.headdim=0 must be"),
        ({"headdim": -4}, r"model\.headdim=-4 must be"),
        ({"headdim": "wide"}, r"model\.headdim=wide must be"),
        ({"inner": 26}, r"model\.inner=26 must be a multiple of 4, and of model\.headdim$"),
    ],
)
def test_bad_settings_are_named_with_what_would_do(settings: dict, message: str) -> None:
    sizes = {"d_model": D_MODEL, "depth": 1, "headdim": HEADDIM, "inner": INNER}
    with pytest.raises(SettingError, match=message) as caught:
        Attention(**sizes | settings)
    assert "\n" not in str(caught.value)
