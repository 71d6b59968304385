"""Time convolutions along a sequence: `torch.nn.Conv1d`, and the channels-last form that the context network uses.

    python benchmarks/context_network.py

Prints milliseconds per call and GFLOP/s of each form in float32 and bfloat16, the dilated convolutions of one sequence
as a matrix product and by torch, and the bases per second of the whole network, for inference and for a training step.
First, the network on one thread as Python runs it, and as the command line does, which keeps freed memory.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from zflipon.cli.memory import keep_freed_memory
from zflipon.models.heads.context_network import ContextNetwork, Convolution

SHAPES = [(4, 128, 17, 2, 8192), (128, 128, 5, 1, 4096), (160, 160, 5, 1, 1024), (224, 224, 3, 1, 64)]
"""Inputs, outputs, kernel, stride and length of some layers."""

WINDOWS, BASES = 8, 8192


def seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Return the median time of a call."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return sorted(times)[repeats // 2]


def time_memory() -> None:
    """Print milliseconds and page faults of a call of the network on one thread, without and with freed memory kept."""
    network = ContextNetwork().to(memory_format=torch.channels_last)
    x, threads = torch.rand(4, BASES, 4), torch.get_num_threads()
    torch.set_num_threads(1)
    for memory in ("returned", "kept"):
        if memory == "kept":
            keep_freed_memory()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            spent = seconds(lambda: network(x), 15)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            network(x)
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        print(f"freed memory {memory}: {1e3 * spent:.1f} ms and {faults:,} page faults for 4 windows")
    torch.set_num_threads(threads)


def time_layers() -> None:
    """Print the time of each layer in both forms."""
    for inputs, outputs, kernel, stride, length in SHAPES:
        flop = 2 * WINDOWS * (length // stride) * inputs * outputs * kernel
        for dtype in (torch.float32, torch.bfloat16):
            plain = nn.Conv1d(inputs, outputs, kernel, stride, padding=kernel // 2).to(dtype)
            ours = Convolution(inputs, outputs, kernel, stride=stride).to(
                dtype, memory_format=torch.channels_last
            )
            x = torch.rand(WINDOWS, length, inputs, dtype=dtype)
            forms = {
                "Conv1d": (plain, x.transpose(1, 2).contiguous()),
                "channels last": (ours, x.transpose(1, 2).unsqueeze(2)),
            }
            for name, (layer, values) in forms.items():
                with torch.inference_mode():
                    spent = seconds(partial(layer, values))
                shape = f"{inputs}→{outputs} kernel {kernel} stride {stride}"
                speed = f"{1e3 * spent:8.2f} ms {flop / spent / 1e9:7.0f} GFLOP/s"
                print(f"{shape:30s} {str(dtype)[6:]:9s} {name:14s} {speed}")


def time_one_sequence() -> None:
    """Print the time of dilated convolutions of one sequence, as a matrix product and by torch."""
    for dilation in (1, 4, 16):
        for dtype in (torch.float32, torch.bfloat16):
            layer = Convolution(224, 224, 3, dilation).to(dtype, memory_format=torch.channels_last)
            x = torch.rand(1, 64, 224, dtype=dtype).transpose(1, 2).unsqueeze(2)
            with torch.inference_mode():
                product = seconds(partial(layer, x), 51)
                by_torch = seconds(partial(nn.Conv2d.forward, layer, x), 51)
            print(
                f"one sequence, dilation {dilation:2d}, {str(dtype)[6:]:9s}: "
                f"matrix product {1e3 * product:.2f} ms, torch {1e3 * by_torch:.2f} ms"
            )


def time_network() -> None:
    """Print the bases per second of the whole network."""
    network = ContextNetwork().to(memory_format=torch.channels_last)
    x = torch.rand(WINDOWS, BASES, 4)

    def step() -> None:
        states = network(x)
        (states.fine.mean() + states.coarse.mean()).backward()

    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            trained = seconds(step, 3)
            with torch.inference_mode():
                inferred = seconds(lambda: network(x), 3)
        size = WINDOWS * BASES / 1e6
        print(
            f"network, {str(dtype)[6:]}: inference {size / inferred:.2f} Mb/s, training step {size / trained:.2f} Mb/s"
        )


if __name__ == "__main__":
    time_memory()
    time_layers()
    time_one_sequence()
    time_network()
