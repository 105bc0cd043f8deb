"""X-Dyna's schedule, timesteps and DDIM steps against the golden tensors (spec 8.1)."""

from __future__ import annotations

import re

import pytest
import torch
from xdyna_unianimate.video_core import samplers, schedule

from .golden import Golden, cases, compare, count

SYSTEM, FILES = "xdyna", "ddim"


def our_schedule(golden: Golden) -> schedule.Schedule:
    config = golden.meta["config"]
    assert config["beta_schedule"] == "linear" and not config["clip_sample"]
    return schedule.linear_schedule(config["beta_start"], config["beta_end"], config["num_train_timesteps"])


def step_counts(golden: Golden) -> list[str]:
    return re.findall(r"timesteps_(\d+)", " ".join(golden.tensors))


@pytest.mark.parametrize("file", [file for file, _ in cases(SYSTEM, FILES, lambda golden: ["once"])])
def test_tables(file: str) -> None:
    golden = Golden(SYSTEM, file)
    ours = our_schedule(golden)
    golden.check("alphas_cumprod", ours.alphas_cumprod)
    assert ours.final_alpha == golden.meta["final_alpha_cumprod"]


@pytest.mark.parametrize(("file", "steps"), cases(SYSTEM, FILES, step_counts))
def test_timesteps(file: str, steps: str) -> None:
    golden = Golden(SYSTEM, file)
    config = golden.meta["config"]
    ours = schedule.leading_timesteps(
        int(steps), train_steps=config["num_train_timesteps"], offset=config["steps_offset"]
    )
    golden.check(f"timesteps_{steps}", torch.tensor(ours), rule="exact")


@pytest.mark.parametrize(("file", "case"), cases(SYSTEM, FILES))
def test_steps(file: str, case: str) -> None:
    golden = Golden(SYSTEM, file)
    row, ours = golden.meta["cases"][case], our_schedule(golden)
    config = golden.meta["config"]
    timesteps = schedule.leading_timesteps(
        row["steps"], train_steps=config["num_train_timesteps"], offset=config["steps_offset"]
    )
    assert timesteps[row["index"]] == row["t"]
    compare(f"{case} abar", ours.alpha(row["t"]), row["abar"], {"rel": 1e-5})
    x, eps = golden[f"{case}.x"], golden[f"{case}.eps"]
    following, x0 = samplers.ddim()(ours, timesteps)(x, eps, row["index"])
    golden.check(f"{case}.prev", following)
    golden.check(f"{case}.x0", x0)


@pytest.mark.parametrize(
    ("file", "number"),
    cases(SYSTEM, "extras_loop", lambda golden: range(len(golden.meta["timestep_table"]))),
)
def test_timesteps_of_a_strength(file: str, number: str) -> None:
    golden = Golden(SYSTEM, file)
    row, config = golden.meta["timestep_table"][int(number)], golden.meta["scheduler"]
    settings = {"train_steps": config["num_train_timesteps"], "offset": config["steps_offset"]}
    if row["used"] == 0:  # F: the original stops with an error about an empty list of tensors
        with pytest.raises(ValueError, match="no step"):
            schedule.leading_timesteps(row["steps"], row["strength"], **settings)
    else:
        ours = schedule.leading_timesteps(row["steps"], row["strength"], **settings)
        assert (len(ours), ours[0]) == (row["used"], row["first"])
        assert row["timesteps"] is None or ours == row["timesteps"]
    count(golden)
