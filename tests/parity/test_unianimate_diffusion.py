"""UniAnimate's schedule, timesteps, DDIM steps and noise prior against the golden tensors (spec 2.3, 4,
5).
"""

from __future__ import annotations

import re

import pytest
import torch
from xdyna_unianimate.unianimate_core import noise
from xdyna_unianimate.video_core import guidance, samplers, schedule

from .golden import Golden, cases, count

SYSTEM, FILES = "unianimate", "diffusion"


def our_schedule(golden: Golden) -> schedule.Schedule:
    config = golden.meta["config"]
    assert config["zero_terminal_snr"] and config["mean_type"] == "v"
    return schedule.zero_terminal_snr_schedule(
        config["init_beta"], config["last_beta"], config["num_timesteps"]
    )


def tables(golden: Golden) -> dict[str, torch.Tensor]:
    """Every float64 table of the original, from ours."""
    config, ours = golden.meta["config"], our_schedule(golden)
    alphas, betas = ours.alphas_cumprod, ours.betas
    before = torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    return {
        "raw_betas_before_rescale": schedule.scaled_linear_betas(
            config["init_beta"], config["last_beta"], config["num_timesteps"]
        ),
        "betas": betas,
        "alphas_cumprod": alphas,
        "sqrt_alphas_cumprod": alphas.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - alphas).sqrt(),
        "sqrt_recip_alphas_cumprod": (1 / alphas).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / alphas - 1).sqrt(),
        "posterior_variance": betas * (1 - before) / (1 - alphas),
    }


def table_names(golden: Golden) -> list[str]:
    return [name for name in tables(golden) if name in golden]


@pytest.mark.parametrize(("file", "table"), cases(SYSTEM, FILES, table_names))
def test_tables(file: str, table: str) -> None:
    golden = Golden(SYSTEM, file)
    ours, expected = tables(golden)[table], golden[table]
    assert ours.dtype == torch.float64
    finite = expected.isfinite()
    assert torch.equal(ours[~finite], expected[~finite])
    golden.check(table, ours[finite], expected[finite], rule={"rel": 1e-12})


@pytest.mark.parametrize(("file", "steps"), cases(SYSTEM, FILES, lambda golden: golden.meta["timesteps"]))
def test_timesteps(file: str, steps: str) -> None:
    golden = Golden(SYSTEM, file)
    row, train_steps = golden.meta["timesteps"][steps], golden.meta["config"]["num_timesteps"]
    ours = schedule.strided_timesteps(int(steps), train_steps)
    assert (len(ours), ours[0], ours[-1]) == (row["count"], row["first"], row["last"])
    assert row["list"] is None or ours == row["list"]
    assert ours[0] - ours[1] == row["stride"] if len(ours) > 1 and ours[0] < train_steps - 1 else True
    if row["reference_gives_nan"] is not None:
        assert row["reference_gives_nan"] == (ours[0] == train_steps - 1)
    count(golden)


@pytest.mark.parametrize("file_and_index", cases(SYSTEM, FILES, lambda g: range(len(g.meta["single"]))))
def test_single_steps(file_and_index: tuple[str, str]) -> None:
    file, index = file_and_index
    golden = Golden(SYSTEM, file)
    row, ours = golden.meta["single"][int(index)], our_schedule(golden)
    t, t_next = row["t"], max(row["t"] - row["stride"], 0)
    name = f"single.n{row['ddim_timesteps']}.t{t}."
    x, v, drawn = golden["single.xt"], golden["single.v"], golden[f"{name}eta_noise"]

    x0, eps = samplers.split_prediction(ours, x, v, t)
    golden.check(f"{name}x0", x0)
    golden.check(f"{name}eps", eps)
    timesteps = schedule.strided_timesteps(row["ddim_timesteps"], ours.train_steps)
    step = samplers.ddim()(ours, timesteps)
    golden.check(f"{name}xt_prev", step(x, v, timesteps.index(t))[0])
    eta = row["eta_for_xt_prev_eta"]
    golden.check(f"{name}xt_prev_eta", samplers.ddim_step(ours, x, v, t, t_next, eta=eta, noise=drawn)[0])
    step = samplers.ddim(eta, lambda _: drawn)(ours, timesteps)
    golden.check(f"{name}xt_prev_eta", step(x, v, timesteps.index(t))[0])


@pytest.mark.parametrize(("file", "steps"), cases(SYSTEM, FILES, lambda golden: golden.meta["toy"]["runs"]))
def test_guided_toy_loop(file: str, steps: str) -> None:
    golden = Golden(SYSTEM, file)
    ours, toy, c = our_schedule(golden), golden.meta["toy"], golden["toy.c"]
    formulas = "sin(1.3 x + 0.002 t) + c", "0.5 cos(0.7 x - 0.001 t)"
    assert (toy["v_cond"], toy["v_uncond"]) == formulas, "the golden's toy network is another one"

    def network(x: torch.Tensor, step: int) -> torch.Tensor:
        t = torch.tensor([step])
        return torch.cat([0.5 * torch.cos(0.7 * x - 0.001 * t), torch.sin(1.3 * x + 0.002 * t) + c])

    timesteps = schedule.strided_timesteps(int(steps), ours.train_steps)
    denoise = guidance.guided(network, toy["guide_scale"])
    golden.check(f"toy.final.n{steps}", samplers.sample(denoise, golden["toy.noise"], ours, timesteps))


def prior_names(golden: Golden) -> list[str]:
    return [name for name in golden.tensors if re.fullmatch(r"prior\.(short|long)_order\.t\d+", name)]


@pytest.mark.parametrize(("file", "name"), cases(SYSTEM, FILES, prior_names))
def test_noise_prior(file: str, name: str) -> None:
    golden = Golden(SYSTEM, file)
    _, order, t = name.split(".")
    base = golden["prior.base_noise"]
    drawn = noise.ClipDraws(base[:, :, 0], base, golden["prior.offset_noise"])
    settings = noise.NoiseSettings(prior=int(t[1:]), flow=order.removesuffix("_order"))
    ours = noise.unified_noise(drawn, golden["prior.ref_latent_one_frame"], our_schedule(golden), settings)
    golden.check(name, ours.latents)


def seeds(golden: Golden) -> list[str]:
    return sorted({name.split(".")[1] for name in golden.tensors if name.startswith("rng.")})


@pytest.mark.parametrize(("file", "seed"), cases(SYSTEM, FILES, seeds))
def test_order_of_draws(file: str, seed: str) -> None:
    golden = Golden(SYSTEM, file)
    shape = golden[f"rng.{seed}.noise_draw"].shape[1:]
    ours = noise.draw(int(seed.removeprefix("seed")), tuple(shape), "original")
    golden.check(f"rng.{seed}.vae_posterior_draw", ours.posterior, rule="exact")
    golden.check(f"rng.{seed}.noise_draw", ours.base, rule="exact")
