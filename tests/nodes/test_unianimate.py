"""UniAnimate's nodes, run as a graph with the embedded weights: every mode, seeds, stops, core's own sockets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from xdyna_unianimate.demo.architectures import UNIANIMATE

from ..fakes.executor import NodeError

DEMO = "demo (embedded)"
SIZE = {"width": 128, "height": 192}
NOISE = {"noise_prior": -1, "offset_noise": 0.1, "flow": "short", "order": "per frame"}
SAMPLING = {
    "steps": 2, "guidance": 2.5, "mode": "short", "window": 4, "overlap": 2, "fuse": "uniform", "strength": 1.0,
    "batch": 1, "together": False,
}  # fmt: skip
DRAWN = {
    "style": "unianimate", "width": 128, "height": 192, "scale_strokes": True, "jpeg": False, "hands": True,
    "feet": True, "head": True, "face": False,
}  # fmt: skip


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def graph(frames: int = 3, seed: int = 5, noise: dict | None = None, **sampling) -> dict:
    """Demo inputs to decoded frames: 8 the conditions, 9 the noise, 10 the latents, 11 the frames."""
    return {
        "1": node("XDUA_DemoInputs", frames=frames),
        "2": node("XDUA_LoadUniAnimate", unet=DEMO, precision="fp32"),
        "3": node("XDUA_LoadVae", vae=DEMO, precision="fp32"),
        "4": node("XDUA_LoadClip", clip=DEMO, precision="fp32"),
        "5": node("XDUA_LoadClipVision", clip_vision=DEMO, precision="fp32"),
        "6": node("XDUA_DrawPose", poses=["1", 3], **DRAWN),
        "7": node("XDUA_DrawPose", poses=["1", 4], **DRAWN),
        "8": node(
            "XDUA_UniAnimateConditioning",
            unianimate=["2", 0], clip=["4", 0], clip_vision=["5", 0], vae=["3", 0], reference=["1", 0],
            poses=["6", 0], reference_pose=["7", 0], **SIZE,
        ),
        "9": node("XDUA_UnifiedNoise", conditions=["8", 0], seed=seed, **(NOISE | (noise or {}))),
        "10": node(
            "XDUA_UniAnimateSampler",
            unianimate=["2", 0], conditions=["8", 0], noise=["9", 0], **(SAMPLING | sampling),
        ),
        "11": node("VAEDecode", samples=["10", 0], vae=["3", 0]),
        "12": node("PreviewImage", images=["11", 0]),
    }  # fmt: skip


@pytest.fixture(scope="module")
def executor(comfy):
    """One for all tests, so that the loaders run once."""
    return comfy.executor()


def frames_of(run) -> torch.Tensor:
    return run.outputs["11"][0]


# ---- the path ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "frames", "first_frame"),
    [("short", 3, False), ("windows", 7, False), ("continuation", 7, False), ("continuation", 7, True)],
)
def test_the_graph_gives_what_the_pipeline_gives(executor, mode, frames, first_frame):
    """Stage by stage in nodes, or all at once on the command line: the same frames of the same seed."""
    flow = "long" if mode == "windows" else "short"
    prompt = graph(frames, noise={"flow": flow}, mode=mode)
    if first_frame:
        prompt["9"]["inputs"]["first_frame"] = ["1", 0]
    run = executor.run(prompt)
    latents = run.outputs["10"][0]["samples"]
    assert latents.shape == (frames, 4, 24, 16) and frames_of(run).shape == (frames, 192, 128, 3)
    torch.testing.assert_close(frames_of(run), by_the_pipeline(run, mode, first_frame), atol=2e-3, rtol=0)


def by_the_pipeline(run, mode: str, first_frame: bool) -> torch.Tensor:
    from xdyna_unianimate.nodes.images import to_uint8
    from xdyna_unianimate.unianimate_core.pipeline import Inputs, Models, Settings, animate
    from xdyna_unianimate.unianimate_core.sample import SampleSettings

    reference, poses, pose = (
        list(to_uint8(run.outputs[source][slot])) for source, slot in (("1", 0), ("6", 0), ("7", 0))
    )
    text = run.outputs["4"][0].text
    models = Models(
        run.outputs["2"][0].unet,
        run.outputs["3"][0].vae,
        run.outputs["5"][0].vision,
        text.encode(text.config.empty()).penultimate,
    )
    settings = Settings(5, (128, 192), first_frame, None, SampleSettings(2, mode=mode, window=4, overlap=2))
    return torch.cat(list(animate(models, Inputs(reference[0], pose[0], poses), settings)))


def test_a_later_widget_runs_later_nodes_only(executor):
    executor.run(graph())
    assert executor.run(graph()).executed == []
    assert executor.run(graph(guidance=1.0)).executed == ["10", "11", "12"]
    again = executor.run(graph(seed=6))
    assert again.executed == ["9", "10", "11", "12"]


def test_a_seed_fixes_the_clip_and_another_gives_another(executor):
    first, other = executor.run(graph()), executor.run(graph(seed=6))
    again = executor.run(graph())
    assert again.executed and torch.equal(frames_of(again), frames_of(first))
    assert not torch.allclose(frames_of(other), frames_of(first), atol=0.02)


@pytest.mark.parametrize(
    "noise", [{"noise_prior": 999}, {"offset_noise": 0.0}, {"order": "original"}, {"flow": "long"}]
)
def test_every_choice_of_noise_matters(executor, noise):
    plain, changed = (executor.run(graph(noise=choice)).outputs["9"][0].latents for choice in (None, noise))
    assert changed.shape == plain.shape and not torch.allclose(changed, plain, atol=1e-3)


def test_without_the_pose_of_the_reference(executor):
    prompt = graph()
    del prompt["8"]["inputs"]["reference_pose"]
    assert executor.run(prompt).outputs["8"][0].told.reference_pose is None


def test_conditions_lie_on_the_cpu_and_hold_both_branches(executor):
    told = executor.run(graph()).outputs["8"][0].told
    assert told.cond.pose.shape == (1, UNIANIMATE.concat_dim, 3, 24, 16)
    assert told.cond.pose.device.type == "cpu"
    assert told.uncond.pose is None and told.uncond.context.shape == told.cond.context.shape


# ---- refining, windows of other packs ------------------------------------------------------------------


def refined(strength: float, latent: list) -> dict:
    prompt = graph()
    prompt["20"] = node(
        "XDUA_UniAnimateSampler",
        unianimate=["2", 0], conditions=["8", 0], noise=["9", 0], latent=latent,
        **(SAMPLING | {"steps": 10, "strength": strength}),
    )  # fmt: skip
    prompt["21"] = node("VAEDecode", samples=["20", 0], vae=["3", 0])
    prompt["22"] = node("PreviewImage", images=["21", 0])
    return prompt


def test_a_little_strength_stays_near_the_frames_and_all_of_it_forgets_them(executor):
    runs = [executor.run(refined(strength, ["10", 0])) for strength in (0.05, 0.6)]
    near, far = ((run.outputs["21"][0] - frames_of(run)).abs().mean() for run in runs)
    assert near < 0.5 * far
    whole = executor.run(refined(1.0, ["10", 0])).outputs["20"][0]["samples"]
    plain = executor.run(graph(steps=10)).outputs["10"][0]["samples"]
    assert torch.equal(whole, plain)


def test_encoded_frames_of_core_are_refined_and_its_empty_latents_only_say_the_size(executor):
    prompt = refined(0.3, ["23", 0])
    prompt["23"] = node("VAEEncode", pixels=["11", 0], vae=["3", 0])
    assert executor.run(prompt).outputs["20"][0]["samples"].isfinite().all()
    prompt["23"] = node("EmptyLatentImage", width=128, height=192, batch_size=3)
    prompt["20"]["inputs"]["strength"] = 1.0
    assert executor.run(prompt).outputs["20"][0]["samples"].shape == (3, 4, 24, 16)


@pytest.mark.parametrize(
    ("strength", "size", "sentence"),
    [(0.5, (128, 192, 3), "connect encoded ones"), (1.0, (128, 192, 4), "4 frames of latent size 16 x 24")],
)
def test_latents_that_do_not_fit_are_a_sentence(executor, strength, size, sentence):
    prompt = refined(strength, ["23", 0])
    prompt["23"] = node("EmptyLatentImage", width=size[0], height=size[1], batch_size=size[2])
    with pytest.raises(NodeError, match=sentence):
        executor.run(prompt)


def options(schedule: str = "standard_static", stride: int = 1) -> SimpleNamespace:
    context = SimpleNamespace(
        context_length=4, context_overlap=2, context_stride=stride, context_schedule=schedule, closed_loop=False,
        fuse_method="pyramid",
    )  # fmt: skip
    return SimpleNamespace(contexts=[context])


def sampled(comfy, run, **options):
    values = {
        name: run.outputs[key][0] for name, key in (("unianimate", "2"), ("conditions", "8"), ("noise", "9"))
    }
    return comfy.pack["XDUA_UniAnimateSampler"].execute(**values, **(SAMPLING | options)).args[0]["samples"]


def test_windows_of_animatediff_evolved_are_taken(comfy, executor):
    run = executor.run(graph(7, mode="windows", fuse="pyramid"))
    assert torch.equal(sampled(comfy, run, context_options=options()), run.outputs["10"][0]["samples"])


def test_windows_that_loop_are_refused(comfy, executor):
    run = executor.run(graph())
    for unknown in (options(stride=2), options("looped_uniform")):
        unknown.contexts[0].closed_loop = True
        with pytest.raises(ValueError, match="does not loop"):
            sampled(comfy, run, context_options=unknown)


# ---- core's own VAE, CLIP and CLIP_VISION --------------------------------------------------------------


class CoreVae:
    """What a node may count on of core's VAE: the posterior's mean, unscaled (0.18215 is the sampler's)."""

    latent_channels = 4

    def __init__(self, ours) -> None:
        self.ours = ours

    def encode(self, pixels):
        return self.ours.encode(pixels)

    def decode(self, samples):
        return self.ours.decode(samples)


def test_cores_autoencoder_is_taken_in_its_own_units(comfy, executor):
    run = executor.run(graph())
    vae = CoreVae(run.outputs["3"][0])
    values = {name: run.outputs[i][slot] for name, (i, slot) in {
        "unianimate": ("2", 0), "clip": ("4", 0), "clip_vision": ("5", 0), "reference": ("1", 0), "poses": ("6", 0),
    }.items()}  # fmt: skip
    control = comfy.pack["XDUA_UniAnimateConditioning"].execute(vae=vae, **values, **SIZE).args[0]
    assert control.encoded.posterior.std is None
    mean = run.outputs["8"][0].encoded.posterior.mean
    torch.testing.assert_close(control.encoded.posterior.mean, mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        control.encoded.posterior.latents()[0, :, 0], mean[0] * 0.18215, atol=1e-4, rtol=1e-4
    )


# ---- progress, stops, sentences ------------------------------------------------------------------------


@pytest.fixture
def bar(comfy):
    """What the bar is told while a test runs; a callable in ``bar.then`` is called with every update."""
    import comfy.model_management as mm
    import comfy.utils

    seen = SimpleNamespace(updates=[], then=None)

    def hook(done, total, preview, node_id=None, **_):
        seen.updates.append((done, total))
        if seen.then is not None:
            seen.then(done, total)

    comfy.utils.set_progress_bar_global_hook(hook)
    yield seen
    comfy.utils.set_progress_bar_global_hook(None)
    mm.interrupt_current_processing(False)


def test_the_bar_moves_with_every_window_of_every_step(executor, bar):
    executor.run(graph(7, seed=77, mode="windows", steps=2, noise={"flow": "long"}))
    moved = [done for done, total in bar.updates if total == 6]
    assert sorted(set(moved)) == [1, 2, 3, 4, 5, 6] and moved == sorted(moved), "two steps of three windows"


def outputs_named(start: str) -> list[Path]:
    import folder_paths

    folder = Path(folder_paths.get_output_directory(), "latents")
    return [path for path in folder.iterdir() if path.name.startswith(start)] if folder.is_dir() else []


def test_cancel_stops_within_a_forward_and_a_second_run_is_whole(executor, bar, interrupt):
    import comfy.model_management as mm

    run = executor.run(graph())
    unet, calls = run.outputs["2"][0].unet, []
    counter = unet.time_embed.register_forward_hook(
        lambda *_: calls.append(mm.interrupt_current_processing(True))
    )
    try:
        with pytest.raises(NodeError) as caught:
            executor.run(graph(seed=78))
    finally:
        counter.remove()
    assert isinstance(caught.value.__cause__, interrupt) and len(calls) == 1
    assert not unet.time_embed._forward_pre_hooks, "nothing is left behind"
    mm.interrupt_current_processing(False)
    assert frames_of(executor.run(graph())).shape == (3, 192, 128, 3)


def test_finished_segments_are_kept_when_a_later_one_is_cancelled(executor, bar):
    import comfy.model_management as mm
    from safetensors.torch import load_file

    before = set(outputs_named("unfinished"))
    bar.then = lambda done, total: mm.interrupt_current_processing(done == 3 and total == 4)
    with pytest.raises(NodeError):
        executor.run(graph(7, seed=79, mode="continuation", steps=2))
    bar.then = None
    mm.interrupt_current_processing(False)
    [kept] = set(outputs_named("unfinished")) - before
    assert load_file(kept)["latent_tensor"].shape == (4, 4, 24, 16)


def test_nan_is_a_sentence_that_names_the_latents_it_kept(executor):
    from safetensors.torch import load_file

    run = executor.run(graph())
    bias = run.outputs["2"][0].unet.out[-1].bias
    kept = bias.data.clone()
    bias.data.fill_(float("nan"))
    try:
        with pytest.raises(NodeError, match="NaN or infinity in step 1 of .* are in (.*latent)") as caught:
            executor.run(graph(seed=80))
    finally:
        bias.data.copy_(kept)
    file = str(caught.value.__cause__).split(" are in ")[1].rstrip(".")
    assert load_file(file)["latent_tensor"].isfinite().all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"8": {"width": 192, "height": 200}}, "multiples of 32; 192 x 200 was given"),
        ({"10": {"mode": "windows"}, "9": {"first_frame": ["1", 0]}, "1": {"frames": 6}}, "continuation"),
    ],
)
def test_what_cannot_become_a_clip_is_a_sentence(executor, changes, sentence):
    prompt = graph()
    for key, values in changes.items():
        prompt[key]["inputs"] |= values
    with pytest.raises(NodeError, match=sentence):
        executor.run(prompt)


def test_entries_that_are_not_in_a_list_are_sentences(comfy, executor):
    """0.3.64 lets any text through to the node."""
    run = executor.run(graph())
    noise = comfy.pack["XDUA_UnifiedNoise"]
    with pytest.raises(ValueError, match="order: there is no 'sorted'; choose one of per frame, original"):
        noise.execute(run.outputs["8"][0], 1, **(NOISE | {"order": "sorted"}))
    with pytest.raises(ValueError, match="flow: there is no .*; choose one of short, long"):
        noise.execute(run.outputs["8"][0], 1, **(NOISE | {"flow": {"a": {}}}))
    with pytest.raises(ValueError, match="'everything' was given"):
        sampled(comfy, run, mode="everything")


def test_a_missing_file_is_named_with_its_page_and_place(comfy):
    loader = comfy.pack["XDUA_LoadUniAnimate"]
    with pytest.raises(
        FileNotFoundError, match="unianimate_16f_32f.*research.*modelscope.*models.unianimate"
    ):
        loader.execute("unianimate_16f_32f_non_ema_223000.pth", "auto")
