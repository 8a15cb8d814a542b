"""Time, arithmetic, launches and memory of a step, on the CPU and on GPUs."""

import ctypes
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Step = Callable[[], object]

# Operators that launch nothing: they make views, or room.
_NO_WORK = {"as_strided", "view", "empty", "empty_strided", "resize_", "detach", "_unsafe_view"}
_NO_WORK |= {"alias", "lift_fresh", "reshape", "result_type", "unbind", "split_with_sizes"}


@dataclass(frozen=True)
class Spread:
    """Milliseconds over the repeats."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f} to {self.high:.1f})"

    def ratio(self, other: "Spread") -> str:
        """Of the medians, then of the minima, which other users of the machine disturb least."""
        return f"{self.median / other.median:.2f}, {self.low / other.low:.2f}"


@dataclass(frozen=True)
class Rates:
    """What the machine can do: floating-point operations and bytes in a second."""

    flops: float
    bytes: float


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Timer:
    """How to time.

    Attributes:
        repeats: rounds that count, after some that do not.
        clock: a key of `CLOCKS`. "cpu" is the processor's time in this process, for a machine that
            others use too; with more than one thread it would count their waiting as work.
    """

    device: torch.device
    repeats: int
    clock: str = "wall"
    warm_up: int = 2

    def interleaved(self, steps: Mapping[str, Step]) -> dict[str, Spread]:
        """Each step once a round, so that what disturbs the machine disturbs all alike."""
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(-self.warm_up, self.repeats):
            for name, step in steps.items():
                milliseconds = self._time(step)
                if turn >= 0:
                    taken[name].append(milliseconds)
        return {
            name: Spread(min(values), statistics.median(values), max(values))
            for name, values in taken.items()
        }

    def _time(self, step: Step) -> float:
        read = CLOCKS[self.clock]
        synchronise(self.device)
        began = read()
        step()
        synchronise(self.device)
        return 1e3 * (read() - began)


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_rates(side: int, timer: Timer) -> Rates:
    """The best product of side x side by any library at hand, and the best copy."""
    device = timer.device
    a, b = torch.randn(2, side, side, device=device)
    products: dict[str, Step] = {"matmul": lambda: a @ b}
    if device.type == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        onednn = torch.ops.mkldnn._linear_pointwise
        products["oneDNN"] = lambda: onednn(a, b, None, "none", [], "")
    source, goal = torch.randn(2, 16 * side * side, device=device)
    steps = products | {"copy": lambda: goal.copy_(source)}
    spreads = timer.interleaved(steps)
    best = min(spreads[name].low for name in products)
    copied = 2 * source.numel() * source.element_size()
    return Rates(2e3 * side**3 / best, 1e3 * copied / spreads["copy"].low)


def count_flops(step: Step) -> int:
    """Floating-point operations of all products and convolutions."""
    mapping: dict[Any, Any] = {}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        mapping[torch.ops.mkldnn._linear_pointwise] = _linear_flops
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        step()
    return int(counter.get_total_flops())


def _linear_flops(x: Any, w: Any, *_: Any, **__: Any) -> int:
    return int(2 * x[0] * x[1] * w[0])


def count_launches(step: Step, device: torch.device) -> int:
    """Kernels on a GPU; on the CPU operators that do work."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=activities, acc_events=True) as profiler:
        step()
        synchronise(device)
    events: Any = profiler.events()
    if on_gpu:
        return sum(event.device_type.name == "CUDA" for event in events)
    return sum(not event.cpu_children and _works(event.name) for event in events)


def _works(name: str) -> bool:
    library, _, operator = name.partition("::")
    return bool(operator) and library in ("aten", "mkldnn") and operator not in _NO_WORK


def profile_operators(step: Step, repeats: int, rows: int) -> list[tuple[str, float, int]]:
    """The operators that take longest: name, share of the processor's time, calls a step."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for _ in range(repeats):
            step()
    averages: list[Any] = sorted(profiler.key_averages(), key=lambda a: -a.self_cpu_time_total)
    total = sum(average.self_cpu_time_total for average in averages)
    return [
        (str(average.key), average.self_cpu_time_total / total, average.count // repeats)
        for average in averages[:rows]
    ]


def measure_memory(step: Step, device: torch.device) -> float | None:
    """Megabytes at the step's peak beyond those after it; None where the system does not say."""
    step()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        step()
        synchronise(device)
        return (torch.cuda.max_memory_allocated(device) - allocated) / 1e6
    if not sys.platform.startswith("linux") or not os.access("/proc/self/clear_refs", os.W_OK):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # else the heap's free room would hide what the step takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _resident("VmRSS")
    step()
    return max(_resident("VmHWM") - before, 0.0)


def _resident(name: str) -> float:
    """A line of /proc/self/status, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1]) * 1024 / 1e6
    return 0.0
