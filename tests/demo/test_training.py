"""The training loop: the same plan gives the same weights, cut off or not; and what the networks are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from xdyna_unianimate.demo import train as demo_train
from xdyna_unianimate.demo.architectures import AUTOENCODER, TEXT, UNIANIMATE, VISION
from xdyna_unianimate.demo.data import HELD_OUT, draw_clip, draw_pair, draw_scene
from xdyna_unianimate.demo.training import Data, Plan, train
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet
from xdyna_unianimate.video_core.clip import ClipText, ClipVision
from xdyna_unianimate.video_core.savings import PLAIN_LAYERS, LayerSavings, set_savings
from xdyna_unianimate.video_core.vae import Vae

PLAN = Plan(60, learning_rate=1e-2, warmup=5, batch=4, bf16=False)


def line_loss(model: nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
    noise = 0.01 * torch.randn(len(batch), generator=generator)
    return ((model(batch)[:, 0] - batch.sum(1) - noise) ** 2).mean()


def lines(first: int) -> Iterator[Tensor]:
    for seed in count(first):
        yield torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def batches_by_iteration(first: int) -> Iterator[Tensor]:
    """Data seeds advance by the batch size, so a resumed run reads on where the cut one stopped."""
    for seed in count(first, PLAN.batch):
        yield next(lines(seed))


def test_learns_and_saves_its_curve(tmp_path: Path) -> None:
    heard: list[float] = []
    model = train(
        fresh(), line_loss, batches_by_iteration, replace(PLAN, iterations=400, learning_rate=3e-2), tmp_path,
        lambda done, total, loss: heard.append(loss),
    )  # fmt: skip
    assert heard[-1] < 0.2 * heard[0]
    assert torch.allclose(model.weight, torch.ones(1, 3), atol=0.3)
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_run_that_was_cut_off_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = train(fresh(), line_loss, batches_by_iteration, PLAN, tmp_path / "whole")

    class Cut(Exception):
        pass

    def cut(done: int, total: int, loss: float) -> None:
        if done == 40:
            raise Cut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xdyna_unianimate.demo.training.STATE_EVERY_SECONDS", -1)
        with pytest.raises(Cut):
            train(fresh(), line_loss, batches_by_iteration, PLAN, tmp_path / "cut", cut)
    again = train(fresh(), line_loss, batches_by_iteration, PLAN, tmp_path / "cut")
    assert torch.equal(whole.weight, again.weight)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"seed": 1}, r"\(seed 0\); this one has seed 1"),
        ({"data": Data("own data 'd'", "/d", "1 videos")}, "drawn puppets.*own data 'd'"),
        ({"figure_weight": 3.0}, r"\(figure_weight None\); this one has figure_weight 3.0"),
    ],
)
def test_another_plan_does_not_go_on_from_a_state(other, sentence: str, tmp_path: Path) -> None:
    train(fresh(), line_loss, batches_by_iteration, PLAN, tmp_path)
    with pytest.raises(ValueError, match=f"belongs to another plan .*{sentence}"):
        train(fresh(), line_loss, batches_by_iteration, replace(PLAN, **other), tmp_path)


def test_a_state_that_does_not_say_what_it_was_shown_is_refused(tmp_path: Path) -> None:
    train(fresh(), line_loss, batches_by_iteration, PLAN, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["plan"]["data"], state["plan"]["figure_weight"]
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="older version, which did not keep data and figure_weight"):
        train(fresh(), line_loss, batches_by_iteration, PLAN, tmp_path)


@pytest.mark.parametrize("iterations", [0, -5])
def test_a_training_takes_an_iteration(iterations: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 iteration; {iterations} were asked for"):
        replace(PLAN, iterations=iterations)


# ---- what is shown ---------------------------------------------------------------------------------------


def test_the_scene_of_a_reference_goes_on_in_the_clip() -> None:
    clip = draw_clip(3, 4)
    corner = np.s_[:24, :24]
    assert np.abs(clip.reference[corner].astype(int) - clip.frames[0][corner]).max() == 0


def test_a_scene_alone_moves_and_shows_nobody() -> None:
    moving = next(
        seed for seed in range(20) if (np.diff(draw_scene(seed, 3).frames.astype(int), axis=0)).any()
    )
    scene = draw_scene(moving, 4)
    assert not scene.points.any() and not scene.reference_points.any()
    assert (scene.reference == scene.frames[0]).all()


def test_a_pair_shows_one_puppet_twice() -> None:
    one, other = draw_pair(5)
    assert one.shape == other.shape == (192, 128, 3)
    assert (one != other).mean() > 0.2


def test_training_never_reaches_the_held_out_puppets() -> None:
    for batch in (0, 1, 2, 124_999, 125_000, 1_000_003):
        seeds, _ = demo_train._numbers(batch)
        assert max(seeds) < HELD_OUT


# ---- every loss reaches every weight that is to learn -------------------------------------------------------


@pytest.fixture(scope="module")
def encoders() -> tuple[Vae, Tensor, Tensor, ClipVision]:
    """Autoencoder, both features of the empty prompt, image tower, all as drawn."""
    torch.manual_seed(0)
    units = replace(AUTOENCODER, latents_mean=(0.0,) * 4, latents_std=(0.2,) * 4)
    text = ClipText(TEXT)
    empty = text.encode(text.config.empty())
    vae, vision = Vae(units).requires_grad_(False), ClipVision(VISION).requires_grad_(False)
    return vae, empty.penultimate.detach(), empty.last.detach(), vision


def small(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Two clips of the batch."""
    return {name: tensor[:2] for name, tensor in batch.items()}


def silent(model: nn.Module) -> list[str]:
    return [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]


def test_the_autoencoder_learns_everywhere() -> None:
    torch.manual_seed(0)
    vae = Vae(AUTOENCODER)
    batch = demo_train._draw_pixels(0)[None]
    loss = demo_train.reconstruction_loss(vae, batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss) and not silent(vae)


def test_the_image_tower_tells_puppets_apart() -> None:
    torch.manual_seed(0)
    vision = ClipVision(VISION)
    batch = torch.stack([demo_train._draw_pair(seed) for seed in range(4)])
    loss = demo_train.vision_loss(vision, batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss) and vision.network.visual_projection.weight.grad.any()


def test_unianimate_is_shown_every_kind_of_input(encoders) -> None:
    vae, penultimate, _, vision = encoders
    told: list[frozenset[str]] = []

    def listen(x: Tensor, t: Tensor, *, zero_y: Tensor, **given: Tensor) -> Tensor:
        assert x.shape[:2] == (2, 4) and zero_y.shape[-1] == UNIANIMATE.context_dim
        told.append(frozenset(given))
        return torch.zeros_like(x)

    loss_of = demo_train.unianimate_loss(vae, penultimate, vision)
    batch = small(demo_train._draw_unianimate(0))
    for seed in range(40):
        assert torch.isfinite(loss_of(listen, batch, torch.Generator().manual_seed(seed)))
    poses = {"dwpose", "image"}
    first, reference = frozenset(poses | {"local_image"}), frozenset(poses | {"randomref"})
    assert set(told) == {frozenset(), first, reference, first | reference}


def test_unianimate_learns() -> None:
    torch.manual_seed(0)
    unet = UniAnimateUNet(UNIANIMATE)
    with torch.no_grad():
        unet.out[-1].weight.normal_(0, 0.02)  # starts silent, which would hide every gradient behind it
    x, pictures = torch.randn(1, 4, 2, 24, 16), torch.rand(1, 3, 3, 192, 128)
    told = {"dwpose": pictures, "local_image": pictures[:, :, :1], "randomref": x[:, :, :1]}
    unet(
        x, torch.tensor([500]), zero_y=torch.randn(1, 77, 64), image=torch.randn(1, 1, 64), **told
    ).sum().backward()
    towers = (
        unet.dwpose_embedding,
        unet.local_image_embedding,
        unet.randomref_embedding2,
        unet.pre_image_condition,
    )
    assert all(tower[0].weight.grad is not None for tower in towers)


@pytest.mark.parametrize("stage", demo_train.STAGES, ids=lambda stage: stage.name)
def test_every_stage_of_xdyna_trains_its_own_networks(stage, encoders) -> None:
    vae, _, last, vision = encoders
    torch.manual_seed(0)
    model = demo_train.XDynaNetworks()
    model.requires_grad_(not stage.face)
    model.face.requires_grad_(stage.face)
    loss_of = demo_train.xdyna_loss(vae, last, vision, stage)
    loss = loss_of(model, small(demo_train._draw_xdyna(0)), torch.Generator().manual_seed(0))
    loss.backward()
    learns = {part: any(p.grad is not None and p.grad.any() for p in getattr(model, part).parameters())
              for part in ("unet", "pose", "face", "resampler")}  # fmt: skip
    assert torch.isfinite(loss)
    assert learns == {
        "unet": not stage.face, "pose": stage.adapter and not stage.face, "face": stage.face,
        "resampler": not stage.face,
    }  # fmt: skip
    asked = model.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_out_ff.weight.grad
    assert (asked is not None) == (stage.adapter and not stage.face)


def taught(system: str, encoders, savings: LayerSavings) -> tuple[float, dict[str, Tensor]]:
    """The loss of a batch and what it teaches every parameter, in float32."""
    vae, penultimate, last, vision = encoders
    torch.manual_seed(0)
    if system == "unianimate":
        model = UniAnimateUNet(UNIANIMATE)
        loss_of, batch = demo_train.unianimate_loss(vae, penultimate, vision), demo_train._draw_unianimate(0)
    else:
        model = demo_train.XDynaNetworks()
        loss_of = demo_train.xdyna_loss(vae, last, vision, demo_train.STAGES[1])
        batch = demo_train._draw_xdyna(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():  # outputs that start silent would hide what is behind them
                parameter.normal_(0, 0.02)
    set_savings(model, savings)
    loss = loss_of(model, small(batch), torch.Generator().manual_seed(3))
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("system", ["unianimate", "xdyna"])
def test_savings_teach_what_the_plain_path_teaches(system: str, encoders) -> None:
    plain_loss, plain = taught(system, encoders, PLAIN_LAYERS)
    for savings in LayerSavings(), LayerSavings(feed_forward=4096, group=4096):
        loss, found = taught(system, encoders, savings)
        assert loss == pytest.approx(plain_loss, rel=1e-5)
        assert found.keys() == plain.keys() and len(found) > 300
        whole = sum(gradient.square().sum() for gradient in plain.values()).sqrt()
        assert sum((found[name] - plain[name]).square().sum() for name in plain).sqrt() < 1e-4 * whole


def test_an_adapter_and_a_face_network_grow_silently(encoders) -> None:
    torch.manual_seed(0)
    model = demo_train.XDynaNetworks()
    with torch.no_grad():
        for parameter in model.pose.parameters():
            parameter.normal_(0, 0.1)
    demo_train._grow_adapter(model)
    demo_train._grow_face(model)
    attention = model.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    assert (
        torch.equal(attention.to_q_ff.weight, attention.to_q.weight) and not attention.to_out_ff.weight.any()
    )
    x, hints = torch.randn(1, 4, 1, 24, 16), torch.rand(1, 6, 192, 128)
    _, _, last, _ = encoders
    added = model.face(x, torch.tensor([5]), last, model.face.embed(hints))
    assert not added.mid.any() and not any(down.any() for down in added.down)


# ---- what goes on ----------------------------------------------------------------------------------------


def test_the_decoder_learns_alone_and_sees_faces_best(encoders) -> None:
    vae, *_ = encoders
    model = deepcopy(vae)
    for part in (model.network.post_quant_conv, model.network.decoder):
        part.requires_grad_(True)
    drawn = [demo_train._draw_picture_with_face(seed) for seed in range(4)]
    batch = {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}
    share = batch["face"].mean()
    assert 0.005 < share < 0.2 and set(batch["face"].unique().tolist()) <= {0.0, 1.0}
    loss = demo_train.decoder_loss(model, batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert not silent(model)
    assert all(p.grad is None for p in model.network.encoder.parameters())


def test_an_error_in_a_face_costs_more() -> None:
    pictures, face = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    face[..., 4:8, 4:8] = 1
    inside, outside = pictures.clone(), pictures.clone()
    inside[..., 5, 5] = outside[..., 12, 12] = 0.5
    weight = 1 + (demo_train.FACE_WEIGHT - 1) * face
    assert demo_train.picture_error(inside, pictures, weight) == pytest.approx(
        demo_train.FACE_WEIGHT * demo_train.picture_error(outside, pictures, weight)
    )
    assert demo_train.picture_error(inside, pictures) == demo_train.picture_error(outside, pictures)


def test_errors_near_figures_cost_more() -> None:
    poses = torch.zeros(1, 1, 32, 32, 3, dtype=torch.uint8)
    poses[0, 0, 9, 9] = 255
    weight = demo_train._weight_near_figures(poses, 3.0)
    assert weight.shape == (1, 1, 1, 4, 4) and weight[0, 0, 0, 3, 3] == 1
    assert (weight[0, 0, 0, :3, :3] == 3.0).all()


def test_stored_networks_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun: list[nn.Module] = []

    def keep(model, loss, stream, plan, folder, report):
        begun.append(deepcopy(model))
        return model

    monkeypatch.setattr(demo_train, "train", keep)
    monkeypatch.setattr(demo_train, "store", lambda *args: None)
    for what, networks in (
        ("xdyna", 2),
        ("unianimate", 1),
        ("vision", 1),
        ("decoder", 1),
    ):
        begun.clear()
        assert demo_train.main([what, str(tmp_path), "--go-on", "--iterations", "1"]) == 0
        assert len(begun) == networks
        if what == "xdyna":
            stored = demo_train._stored_xdyna().state_dict()
            assert all(torch.equal(value, stored[name]) for name, value in begun[0].state_dict().items())
            assert any(p.abs().max() > 0 for p in begun[0].face.net.controlnet_mid_block.parameters())


def test_what_does_not_fit_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo_train.main(["unianimate", str(tmp_path), "--go-on", "--data", str(tmp_path / "none")]) == 1
    said = capsys.readouterr().err
    assert "none" in said and "Traceback" not in said
