"""What determines a result, and the name that follows from it.

The identity of a work is the hash of what is handed to constructors: the parts that its configuration was turned into,
not the words that it was written in. So two ways of writing one work are one run: `naive_diff` is `diff_s6` without its
outer norm, and a vanilla model is the same run whatever its unused form of λ.

- A constructor counts by the name of its class, without the module that holds it: moving a class renames no run. A
  class from outside this package counts with the name of its top package, since two people may choose the same name.
  A class that is renamed keeps its old name in an attribute `known_as`.
- An argument with the default of its constructor is left out: a new option with a neutral default renames no run.
- Numbers are normalised: 0 and 0.0 are one.
- The arguments on the list `NEUTRAL` are left out, each for the reason given there. Every other one counts.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

NEUTRAL = {
    "lightning.Trainer.accelerator": "the same arithmetic on another device, within rounding",
    "lightning.Trainer.devices": "a step's batch is the same, however it is divided among devices",
    "lightning.Trainer.num_nodes": "the same for machines",
    "lightning.Trainer.strategy": "the same for weights and optimiser",
    "lightning.Trainer.log_every_n_steps": "how often the loss is logged",
    "lightning.Trainer.profiler": "measures time",
    "lightning.Trainer.detect_anomaly": "checks, and changes nothing",
    "lightning.Trainer.benchmark": "chooses among kernels of the same result, within rounding",
    "LanguageModellingData.eval_batch_size": "an evaluation sums over all windows",
    "LanguageModellingData.parts": "is trainer.accumulate_grad_batches, which counts",
    "SyntheticData.eval_batch_size": "an evaluation is of all examples",
    "SyntheticData.parts": "is trainer.accumulate_grad_batches, which counts",
    "ImplicitAttention.batch": "a measurement sums over all windows",
    "LossByPosition.batch": "a measurement sums over all stretches",
    "LossByPosition.window": "the state is carried on from window to window",
    "Perplexity.batch": "a measurement sums over all windows",
    "Lens.batch": "a step and a measurement sum over all sequences",
    "Lens.lens": "its content counts, in lens_is",
    "Lens.prompts": "their content counts, in prompts_are",
    "Lens.store": "where a lens lies, whose content counts",
}
"""Arguments of constructors that leave the result as it is, with the reason."""


def name_of(content: Mapping[str, Any]) -> str:
    """The first letter of the kind and 11 hexadecimal digits of the hash of what determines a result.

    With the letter no name looks like a number, which YAML would make it.
    """
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{content['kind'][0]}{digest[:11]}"


def canonical(part: Any) -> Any:
    """Plain data of a part. Two parts have equal data if and only if they give the same result.

    A part is a number, text, None, a sequence or mapping of parts, a class, a `functools.partial` of a class, or an
    instance of a dataclass. Raises TypeError for anything else.
    """
    if part is None or isinstance(part, bool | str):
        return part
    if isinstance(part, int | float):
        return int(part) if part == part // 1 and abs(part) < 2**53 else part
    if isinstance(part, Path):
        return str(part)
    if isinstance(part, Mapping):
        return {str(key): canonical(value) for key, value in part.items()}
    if isinstance(part, Sequence):
        return [canonical(value) for value in part]
    if isinstance(part, partial):
        return _constructed(part.func, part.keywords)
    if isinstance(part, type):
        return _constructed(part, {})
    if is_dataclass(part):
        return _constructed(type(part), {field.name: getattr(part, field.name) for field in fields(part)})
    raise TypeError(f"{type(part).__name__} has no identity: hand over numbers, text, partials or dataclasses")


def _constructed(constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's name, and those of its arguments that count."""
    name, defaults = _stable_name(constructor), _defaults(constructor)
    counted = {}
    for key, value in arguments.items():
        if f"{name}.{key}" in NEUTRAL:
            continue
        plain = canonical(value)
        if key in defaults and json.dumps(plain, sort_keys=True) == defaults[key]:  # where True and 1 are not the same
            continue
        counted[key] = plain
    return {"is": name, **counted}


@cache
def _defaults(constructor: Callable[..., Any]) -> dict[str, str]:
    """The defaults of a constructor's arguments, as canonical JSON. One that is no part has none."""
    found = {}
    for parameter in inspect.signature(constructor).parameters.values():
        with suppress(TypeError):
            if parameter.default is not parameter.empty:
                found[parameter.name] = json.dumps(canonical(parameter.default), sort_keys=True)
    return found


def _stable_name(constructor: Callable[..., Any]) -> str:
    top = constructor.__module__.partition(".")[0]
    name = constructor.__qualname__ if top == "diffmamba" else f"{top}.{constructor.__qualname__}"
    return vars(constructor).get("known_as", name)
