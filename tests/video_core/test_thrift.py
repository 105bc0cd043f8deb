"""Memory that runs out in the middle of a run: the call is repeated with less at once, and the run goes on so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from xdyna_unianimate.video_core.savings import PLAIN_LAYERS, LayerSavings
from xdyna_unianimate.video_core.thrift import SMALLEST, Way, thrifty

WINDOWS = [[0, 1], [2, 3], [4, 5], [6, 7]]
LATENTS = torch.arange(4.0)[:, None, None, None, None].expand(4, 1, 2, 1, 1)


class Device:
    """Something that finds room for so many rows, and layers' parts of so many values, in one call."""

    def __init__(self, rows: int, values: int = 2**40) -> None:
        self.rows, self.values = rows, values
        self.calls: list[tuple[bool, int]] = []
        self.ways: list[Way] = []

    def denoiser(self, way: Way):
        self.ways.append(way)

        def denoise(latents: Tensor, t: int, windows: list[list[int]]) -> Tensor:
            assert len(latents) == len(windows)
            rows = (2 if way.together else 1) * len(windows)
            if rows > self.rows or (way.layers.group or 2**40) > self.values:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nOf which")
            self.calls.append((way.together, len(windows)))
            return torch.stack([latents, -latents])

        return denoise


@pytest.mark.parametrize("rows", [8, 7, 4, 3, 2, 1])
def test_what_fits_gives_the_same(rows: int) -> None:
    device = Device(rows)
    denoise = thrifty(device.denoiser, Way(together=True, layers=LayerSavings()))
    assert torch.equal(denoise(LATENTS, 7, WINDOWS), torch.stack([LATENTS, -LATENTS]))
    assert max((1 + together) * windows for together, windows in device.calls) <= rows


def test_branches_come_apart_before_windows_and_layers() -> None:
    device = Device(rows=1, values=2**20)
    thrifty(device.denoiser, Way(together=True, layers=LayerSavings()))(LATENTS, 7, WINDOWS)
    tried = [(way.together, way.windows) for way in device.ways]
    assert tried[:4] == [(True, None), (False, None), (False, 2), (False, 1)]
    assert device.ways[-1].layers.group <= 2**20 and device.ways[3].layers == LayerSavings()


def test_a_run_stays_with_the_way_that_fits(caplog: pytest.LogCaptureFixture) -> None:
    device = Device(rows=4)
    denoise = thrifty(device.denoiser, Way(together=True, layers=LayerSavings()))
    for t in (9, 5, 1):
        denoise(LATENTS, t, WINDOWS)
    assert len(device.ways) == 2 and device.calls == [(False, 4)] * 3
    (said,) = caplog.messages
    assert "going on with one branch of guidance at a time" in said and "Of which" not in said


def test_published_layers_are_cut_too() -> None:
    device = Device(rows=8, values=2**30)
    thrifty(device.denoiser, Way(together=False, layers=PLAIN_LAYERS, windows=1))(LATENTS, 7, WINDOWS)
    layers = device.ways[-1].layers
    assert layers.group <= 2**30
    assert replace(layers, feed_forward=None, group=None, scores=None) == PLAIN_LAYERS


def test_where_nothing_fits_the_allocators_own_error_is_raised() -> None:
    device = Device(rows=0)
    with pytest.raises(torch.OutOfMemoryError, match=r"2\.00 GiB"):
        thrifty(device.denoiser, Way(together=True, layers=LayerSavings()))(LATENTS, 7, WINDOWS)
    assert min(device.ways[-1].layers.group, device.ways[-1].layers.feed_forward) <= SMALLEST


def test_other_errors_are_not_tried_again() -> None:
    def denoiser(way: Way):
        def denoise(latents: Tensor, t: int, windows: list[list[int]]) -> Tensor:
            raise RuntimeError("shapes do not fit")

        return denoise

    with pytest.raises(RuntimeError, match="shapes"):
        thrifty(denoiser, Way(together=True, layers=LayerSavings()))(LATENTS, 7, WINDOWS)
