"""Tensors of long clips on disk: the same values, and memory that does not grow."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from xdyna_unianimate.video_core.guidance import guided
from xdyna_unianimate.video_core.noise import draws
from xdyna_unianimate.video_core.progress import Reached
from xdyna_unianimate.video_core.samplers import NonFiniteError, sample
from xdyna_unianimate.video_core.schedule import Schedule, linear_schedule, zero_terminal_snr_schedule
from xdyna_unianimate.video_core.solvers import SOLVERS, solver_named
from xdyna_unianimate.video_core.storage import (
    IN_MEMORY,
    OnDisk,
    all_finite,
    array_in,
    by_frames,
)
from xdyna_unianimate.video_core.windows import uniform_windows, windowed

FRAMES = 11
TIMESTEPS = [901, 601, 301, 1]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.uint8]
SCHEDULES = {"epsilon": linear_schedule(), "v_prediction": zero_terminal_snr_schedule()}


@pytest.fixture
def disk(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path / "clips", stretch=4)


def normal(seed: int, frames: int = FRAMES) -> Tensor:
    return torch.randn(1, 4, frames, 3, 2, generator=torch.Generator().manual_seed(seed))


# ---- tensors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_on_disk_is_a_tensor(disk: OnDisk, dtype: torch.dtype) -> None:
    clip = disk.zeros((1, 4, FRAMES, 3, 2), dtype)
    assert (clip.shape, clip.dtype) == ((1, 4, FRAMES, 3, 2), dtype)
    assert not clip.any()
    clip[:, :, 3:5] = 7
    disk.tidy()
    assert clip.sum() == 7 * 4 * 2 * 6
    assert disk.zeros((2, 0, 3)).shape == (2, 0, 3)


def test_nothing_is_left_on_the_disk(disk: OnDisk) -> None:
    clip = disk.zeros((1, 4, FRAMES, 3, 2))
    clip += 1
    assert list(disk.folder.iterdir()) == [] or os.name == "nt"
    view = clip[0, 0]
    del clip
    gc.collect()
    assert view.sum() == FRAMES * 6, "a view holds it"
    del view
    gc.collect()
    assert not list(disk._maps)
    assert list(disk.folder.iterdir()) == []


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("at", ["posix_fallocate", "TemporaryFile", "mmap"])
def test_a_full_disk_costs_a_warning(disk: OnDisk, at: str, monkeypatch, caplog) -> None:
    module = {"posix_fallocate": os, "TemporaryFile": tempfile, "mmap": mmap}[at]
    monkeypatch.setattr(module, at, lambda *args, **more: full(), raising=False)
    clip = disk.zeros((1, 4, FRAMES, 3, 2))
    assert not clip.any() and not disk.zeros((1, 4, FRAMES, 3, 2)).any()
    assert caplog.text.count("could not be put into") == 1
    assert str(disk.folder) in caplog.text


def test_a_system_that_cannot_reserve_writes_the_file(disk: OnDisk, monkeypatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    clip = disk.zeros((3 * 2**20 + 5,), torch.uint8)
    clip[-1] = 9
    assert clip.sum() == 9


def test_memory_is_given_back(disk: OnDisk) -> None:
    """64 MB are written; what of them stays in the process's memory is little."""
    if not Path("/proc/self/statm").exists() or not hasattr(mmap, "MADV_DONTNEED"):
        pytest.skip("needs Linux, which tells what a process holds and takes pages back")

    def shared_pages() -> float:
        return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE / 2**20

    before = shared_pages()
    clip = disk.zeros((1, 4, 4096, 32, 32))
    made = by_frames(lambda x: x + 1, clip, storage=disk)
    assert shared_pages() < before + 8
    assert made.mean() == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_an_array_on_disk(disk: OnDisk, dtype: type) -> None:
    array = np.random.default_rng(0).uniform(0, 255, (5, 134, 2)).astype(dtype)
    moved = array_in(disk, array)
    assert moved.dtype == array.dtype
    assert np.array_equal(moved, array)
    assert len(list(disk._maps)) == 1


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 8, 11])
def test_stretches_hold_every_frame_once(disk: OnDisk, frames: int) -> None:
    for storage in (disk, IN_MEMORY):
        found = [i for part in storage.stretches(frames) for i in range(part.start, part.stop)]
        assert found == list(range(frames))


# ---- work ----------------------------------------------------------------------------------------------


def test_work_by_frames(disk: OnDisk) -> None:
    clip, one = normal(0), normal(1, frames=1)

    def work(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a * b, a], dim=1).double()

    assert torch.equal(by_frames(work, clip, one, storage=disk), work(clip, one))
    assert torch.equal(by_frames(work, clip, one, storage=IN_MEMORY), work(clip, one))


@pytest.mark.parametrize("frame", [0, 5, FRAMES - 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_found_in_every_stretch(disk: OnDisk, frame: int, value: float) -> None:
    clip = normal(0)
    assert all_finite(clip, disk)
    clip[0, 2, frame, 1, 1] = value
    assert not all_finite(clip, disk)


@pytest.mark.parametrize("order", ["per_frame", "original"])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_the_same_numbers_are_drawn(disk: OnDisk, order: str, kind: str) -> None:
    """Twice, because one generator goes on where it was; sixteen values and more are drawn in another way."""
    sources = [draws(order, 5, storage) for storage in (IN_MEMORY, disk)]
    for shape in ((1, 4, FRAMES, 3, 2), (1, 4, 3, 2), (1, 1, 2, 1, 1)):
        memory, other = (getattr(source, kind)("a name", shape) for source in sources)
        assert torch.equal(memory, other)


def mixing(x: Tensor, t: int, windows: list[list[int]]) -> Tensor:
    """Two branches in which every frame depends on its window."""
    mean = x.mean(dim=2, keepdim=True)
    return torch.stack([x * (t / 1000) + mean, x.roll(1, 2) - mean])


def sampled(storage, solver: str, schedule: Schedule, **more) -> Tensor:
    def windows_at(t: int) -> list[list[int]]:
        return uniform_windows(FRAMES, 4, 1, offset=t % 4)

    denoise = guided(windowed(mixing, windows_at, storage=storage), 1.7, storage)
    how = {"solver": solver_named(solver), "storage": storage} | more
    return sample(denoise, normal(0), schedule, TIMESTEPS, **how)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_same_clip_is_sampled(disk: OnDisk, solver: str, schedule: Schedule) -> None:
    seen: dict[object, list[Tensor]] = {IN_MEMORY: [], "disk": []}
    expected = sampled(IN_MEMORY, solver, schedule, on_step=lambda *step: seen[IN_MEMORY].extend(step[2:]))
    found = sampled(disk, solver, schedule, on_step=lambda *step: seen["disk"].extend(step[2:]))
    assert torch.equal(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(*seen.values(), strict=True)), "every step and estimate"


class Kept:
    """Progress in memory."""

    def __init__(self, start: Reached | None = None) -> None:
        self.start, self.states = start, []

    def reached(self) -> Reached | None:
        return self.start

    def keep(self, reached: Reached) -> None:
        copies = {name: tensor.clone() for name, tensor in reached.memory.items()}
        self.states.append(Reached(reached.done, reached.latents.clone(), copies))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_run_goes_on_from_what_was_kept(disk: OnDisk, solver: str) -> None:
    first = Kept()
    expected = sampled(IN_MEMORY, solver, SCHEDULES["epsilon"], progress=first)
    for state in first.states:
        assert torch.equal(sampled(disk, solver, SCHEDULES["epsilon"], progress=Kept(state)), expected)


def test_what_is_not_finite_stops_the_run(disk: OnDisk) -> None:
    def denoise(x: Tensor, t: int) -> Tensor:
        return x if t > 301 else x / 0

    with pytest.raises(NonFiniteError) as caught:
        sample(denoise, normal(0), SCHEDULES["epsilon"], TIMESTEPS, storage=disk)
    assert caught.value.done == 2
    assert all_finite(caught.value.latents, disk)
