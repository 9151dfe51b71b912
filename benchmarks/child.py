"""A function in a process of its own: for peak memory, and for libraries that would disturb others."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]


def call(function: Callable[..., Any], **arguments: Any) -> Any:
    """What a function returns, or raises, in a fresh process with as many threads as this one has."""
    fresh, threads = multiprocessing.get_context("spawn"), (torch.get_num_threads(),)
    with ProcessPoolExecutor(1, fresh, torch.set_num_threads, threads) as executor:
        return executor.submit(function, **arguments).result()
