"""X-Dyna's nodes as graphs on the embedded networks, against the pipeline called directly."""

from __future__ import annotations

import copy
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ..fakes.executor import Executor, NodeError
from ..fakes.without import Show

DEMO = "demo (embedded)"
SIZE = {"width": 64, "height": 96}
FRAMES = 6


def node(class_type: str, /, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


@pytest.fixture(scope="module")
def classes(comfy) -> dict[str, type]:
    """The pack, core, and a node that gives the demo's encoders."""
    from xdyna_unianimate.demo import checkpoints
    from xdyna_unianimate.nodes import encoders
    from xdyna_unianimate.video_core.clip import load_clip_text, load_clip_vision
    from xdyna_unianimate.video_core.vae import load_vae

    text, vision = (load(checkpoints.CLIP, torch.float32) for load in (load_clip_text, load_clip_vision))
    vae = encoders.OurVae(load_vae(checkpoints.VAE, torch.float32))
    given = vae, encoders.OurClip(text), encoders.OurVision(vision)

    class Encoders:
        INPUT_TYPES = classmethod(lambda cls: {"required": {}})
        RETURN_TYPES = ("VAE", "CLIP", "CLIP_VISION")
        FUNCTION = "give"

        def give(self):
            return given

    return {**comfy.classes, "Encoders": Encoders, "Show": Show}


@pytest.fixture(scope="module")
def installed(comfy):
    """Files in ComfyUI's model folder; of the ControlNets no output is zero, as in one not yet trained."""
    from xdyna_unianimate.demo import checkpoints
    from xdyna_unianimate.video_core.weights import open_checkpoint, save_checkpoint

    folder = comfy.base / "models" / "xdyna"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(checkpoints.XDYNA, folder / "unet.safetensors")
    shutil.copy(checkpoints.XDYNA_RESAMPLER, folder / "ip-adapter.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name, source in (("pose", checkpoints.XDYNA_POSE), ("face", checkpoints.XDYNA_FACE)):
        file = open_checkpoint(source)
        tensors = dict(file)
        for key, tensor in tensors.items():
            if key.startswith(("controlnet_down_blocks", "controlnet_mid_block", "controlnet_cond")):
                tensors[key] = torch.randn(tensor.shape, generator=generator).to(tensor) * 0.3
        save_checkpoint(folder / f"{name}.safetensors", tensors, file.metadata)
    forget_listing()
    yield folder
    shutil.rmtree(folder)
    forget_listing()


def forget_listing() -> None:
    """The real program keeps lists of files for as long as folders look unchanged."""
    import folder_paths

    getattr(folder_paths, "filename_list_cache", {}).clear()


SPAN = {
    "strength": 1.0,
    "start_percent": 0.0,
    "end_percent": 1.0,
    "stretch": "to the clip's range (as published)",
}
SAMPLER = {
    "seed": 3, "steps": 2, "guidance": 3.0, "strength": 1.0, "window": 4, "overlap": 1,
    "loop": "closed (as published)", "fuse": "uniform", "noise": "per frame", "batch": 1, "together": True,
}  # fmt: skip
DRAWN = {
    "style": "xdyna", "scale_strokes": True, "jpeg": False, "hands": True, "feet": True, "head": True, "face": False,
}  # fmt: skip


@pytest.fixture
def graph(installed) -> dict:
    """Reference and drawn poses to latents; node "sampler" is what tests look at."""
    return {
        "demo": node("XDUA_DemoInputs", frames=FRAMES),
        "encoders": node("Encoders"),
        "xdyna": node(
            "XDUA_LoadXDyna", unet=DEMO, base="none", motion_module="none", ip_adapter="none", precision="auto"
        ),
        "pose_net": node("XDUA_LoadXDynaControlNet", kind="pose", controlnet="pose.safetensors", precision="auto"),
        "drawn": node("XDUA_DrawPose", poses=["demo", 3], **SIZE, **DRAWN),
        "prompt": node("CLIPTextEncode", text="dance", clip=["encoders", 1]),
        "negative": node("CLIPTextEncode", text="", clip=["encoders", 1]),
        "told": node(
            "XDUA_XDynaConditioning", xdyna=["xdyna", 0], clip_vision=["encoders", 2], vae=["encoders", 0],
            reference=["demo", 0], positive=["prompt", 0], negative=["negative", 0], **SIZE,
        ),
        "posed": node(
            "XDUA_ApplyPoseControl", conditions=["told", 0], controlnet=["pose_net", 0], poses=["drawn", 0], **SPAN
        ),
        "sampler": node("XDUA_XDynaSampler", xdyna=["xdyna", 0], conditions=["posed", 0], **SAMPLER),
        "show": node("Show", anything=["sampler", 0]),
    }  # fmt: skip


@pytest.fixture
def face_graph(graph) -> dict:
    """The same with the driving face."""
    return {
        **graph,
        "face_net": node("XDUA_LoadXDynaControlNet", kind="face", controlnet="face.safetensors", precision="auto"),
        "faces": node(
            "XDUA_FaceMaps", frames=["demo", 1], poses=["demo", 3], **SIZE, fidelity="robust", aligned=["demo", 3]
        ),
        "faced": node(
            "XDUA_ApplyFaceControl", conditions=["posed", 0], controlnet=["face_net", 0], local=["faces", 0],
            whole=["faces", 1], **SPAN,
        ),
        "sampler": changed(graph["sampler"], conditions=["faced", 0]),
    }  # fmt: skip


def changed(one: dict, **inputs) -> dict:
    return {**one, "inputs": {**one["inputs"], **inputs}}


@pytest.fixture
def run(classes):
    """Runs prompts with one executor; gives the sampler's samples."""
    executor = Executor(classes)

    def samples(prompt: dict) -> torch.Tensor:
        return executor.run(prompt).outputs["sampler"][0]["samples"]

    samples.executor = executor
    return samples


def told_by(classes, prompt: dict, node_id: str):
    """What a node gives first."""
    return Executor(classes).run({**prompt, "show": node("Show", anything=[node_id, 0])}).outputs[node_id][0]


# ---- the whole path ------------------------------------------------------------------------------------


def direct(folder, drawn, faces=None) -> torch.Tensor:
    """LATENT samples of the pipeline itself for the graph's inputs."""
    from xdyna_unianimate.demo import checkpoints, inputs
    from xdyna_unianimate.video_core.clip import load_clip_text, load_clip_vision
    from xdyna_unianimate.video_core.images import read_picture
    from xdyna_unianimate.video_core.tokenizer import tokenize
    from xdyna_unianimate.video_core.vae import load_vae
    from xdyna_unianimate.xdyna_core import load, pipeline
    from xdyna_unianimate.xdyna_core.sample import SampleSettings

    fp32, text = torch.float32, load_clip_text(checkpoints.CLIP, torch.float32)
    prompt, negative = (text.encode(tokenize(words, text.config)).last for words in ("dance", ""))
    models = pipeline.Models(
        load.load_unet([checkpoints.XDYNA], fp32),
        load_vae(checkpoints.VAE, fp32),
        load_clip_vision(checkpoints.CLIP, fp32),
        load.load_resampler(checkpoints.XDYNA_RESAMPLER, fp32),
        negative,
        load.load_controlnet(folder / "pose.safetensors", 3, fp32),
        load.load_controlnet(folder / "face.safetensors", 6, fp32),
    )
    caught = []

    def keep(done, total, latents, x0):
        caught.append(latents)

    given = pipeline.Inputs(read_picture(inputs.REFERENCE), drawn, faces, prompt, negative)
    sampling = SampleSettings(steps=2, guidance=3.0, window=4, overlap=1)
    chosen = pipeline.Settings(seed=3, size=(64, 96), sampling=sampling)
    for _ in pipeline.animate(models, given, chosen, on_step=keep):
        break
    return models.vae.from_sampler(caught[-1])


def uint8(pictures: torch.Tensor) -> list[np.ndarray]:
    return list((pictures * 255).round().to(torch.uint8).numpy())


def test_the_graph_gives_what_the_command_line_gives(run, classes, graph, installed):
    drawn = uint8(told_by(classes, graph, "drawn"))
    torch.testing.assert_close(run(graph), direct(installed, drawn), atol=1e-5, rtol=1e-5)


def test_with_the_face_too(run, classes, graph, face_graph, installed):
    from xdyna_unianimate.xdyna_core.face import FaceMaps

    found = Executor(classes).run({**face_graph, "show": node("Show", anything=["faces", 0])})
    local, whole = (np.stack(uint8(maps)) for maps in found.outputs["faces"])
    maps = FaceMaps(local, whole, np.ones(FRAMES, bool), ())
    expected = direct(installed, uint8(told_by(classes, graph, "drawn")), maps)
    with_face = run(face_graph)
    torch.testing.assert_close(with_face, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(with_face, run(graph), atol=1e-3)


def test_latents_are_cores_and_become_frames(classes, graph):
    graph["frames"] = node("VAEDecode", samples=["sampler", 0], vae=["encoders", 0])
    graph["show"] = node("PreviewImage", images=["frames", 0])
    found = Executor(classes).run(graph)
    samples = found.outputs["sampler"][0]["samples"]
    assert samples.shape == (FRAMES, 4, 12, 8) and samples.dtype == torch.float32
    frames = found.outputs["frames"][0]
    assert frames.shape == (FRAMES, 96, 64, 3) and frames.min() >= 0 and frames.max() <= 1


def test_one_seed_gives_one_result(run, classes, graph):
    first = run(graph)
    assert torch.equal(Executor(classes).run(graph).outputs["sampler"][0]["samples"], first)
    assert not torch.equal(run({**graph, "sampler": changed(graph["sampler"], seed=4)}), first)
    assert not torch.equal(run({**graph, "sampler": changed(graph["sampler"], noise="original")}), first)


def test_below_a_guidance_of_one_the_negative_prompt_is_not_asked(run, graph):
    def found(guidance: float, no: str) -> torch.Tensor:
        sampler = changed(graph["sampler"], guidance=guidance)
        return run({**graph, "negative": changed(graph["negative"], text=no), "sampler": sampler})

    assert torch.equal(found(0.0, "blurred"), found(0.0, ""))
    assert not torch.equal(found(3.0, "blurred"), found(3.0, ""))


def test_how_much_runs_at_once_changes_rounding_only(run, graph):
    plain = run(graph)
    for changes in ({"together": False}, {"batch": 3}):
        once = run({**graph, "sampler": changed(graph["sampler"], **changes)})
        torch.testing.assert_close(once, plain, atol=1e-4, rtol=1e-4)


# ---- strengths -----------------------------------------------------------------------------------------


def strengths(adapter: float, image_prompt: float, source: list) -> dict:
    shares = {"start_percent": 0.0, "end_percent": 1.0}
    values = {f"adapter_{k}": v for k, v in {"strength": adapter, **shares}.items()}
    values |= {f"image_prompt_{k}": v for k, v in {"strength": image_prompt, **shares}.items()}
    return node("XDUA_XDynaStrengths", conditions=source, **values)


def test_strengths_of_one_change_nothing_and_others_do(run, graph):
    plain = run(graph)
    through = {**graph, "sampler": changed(graph["sampler"], conditions=["strengths", 0])}
    found = {
        pair: run({**through, "strengths": strengths(*pair, ["posed", 0])})
        for pair in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0))
    }
    assert torch.equal(found[1.0, 1.0], plain)
    assert not torch.allclose(found[0.0, 1.0], plain, atol=1e-3)
    assert not torch.allclose(found[1.0, 0.0], plain, atol=1e-3)


def test_a_control_of_strength_zero_is_as_none(run, graph, monkeypatch):
    """And its network is not loaded."""
    import comfy.model_management as mm
    from xdyna_unianimate.xdyna_core.controlnet import ControlNet

    loaded, load = [], mm.load_models_gpu
    monkeypatch.setattr(
        mm, "load_models_gpu", lambda models, **more: loaded.extend(models) or load(models, **more)
    )
    off = run({**graph, "posed": changed(graph["posed"], strength=0.0)})
    assert not any(isinstance(patcher.model.network, ControlNet) for patcher in loaded)
    alone = {
        **graph,
        "empty": node("EmptyLatentImage", **SIZE, batch_size=FRAMES),
        "sampler": changed(graph["sampler"], conditions=["told", 0], latent=["empty", 0]),
    }
    assert torch.equal(off, run(alone))
    never = run({**graph, "posed": changed(graph["posed"], start_percent=0.6, end_percent=0.9)})
    half = run({**graph, "posed": changed(graph["posed"], end_percent=0.5)})
    assert not torch.equal(half, off) and not torch.equal(half, run(graph)) and not torch.equal(never, half)


# ---- where a run starts, and windows -------------------------------------------------------------------


def test_encoded_latents_are_where_a_short_run_starts(run, graph):
    sampler = changed(graph["sampler"], strength=0.5, latent=["start", 0])
    encoded = {**graph, "sampler": sampler}
    encoded["small"] = node("XDUA_DrawPose", poses=["demo", 3], **SIZE, **DRAWN)
    encoded["start"] = node("VAEEncode", pixels=["small", 0], vae=["encoders", 0])
    empty = {**encoded, "start": node("EmptyLatentImage", **SIZE, batch_size=FRAMES)}
    plain = {**graph, "sampler": changed(graph["sampler"], strength=0.5)}
    assert torch.equal(run(empty), run(plain))
    start = run.executor.run(encoded).outputs["start"][0]["samples"]
    found, other = run(encoded), run(plain)
    assert (found - start).abs().mean() < (other - start).abs().mean()


def test_lengths_and_sizes_that_disagree_are_sentences(run, graph):
    def refused(match: str, **empty) -> None:
        latent = node("EmptyLatentImage", **{**SIZE, "batch_size": FRAMES, **empty})
        prompt = {**graph, "latent": latent, "sampler": changed(graph["sampler"], latent=["latent", 0])}
        with pytest.raises(NodeError, match=match):
            run(prompt)

    refused("different numbers of frames: 6, 5", batch_size=5)
    refused("frames of 128 x 96 were given, and the conditions are of 64 x 96", width=128)
    with pytest.raises(NodeError, match="Nothing says how many frames to make"):
        run({**graph, "sampler": changed(graph["sampler"], conditions=["told", 0])})
    with pytest.raises(NodeError, match="multiples of 8; 65 x 96"):
        run({**graph, "told": changed(graph["told"], width=65)})


def evolved(**changes) -> SimpleNamespace:
    """AnimateDiff-Evolved's CONTEXT_OPTIONS by its attributes."""
    one = {
        "context_length": 4, "context_stride": 1, "context_overlap": 1, "context_schedule": "looped_uniform",
        "closed_loop": True, "fuse_method": "flat", "use_on_equal_length": False, "view_options": None,
        "start_percent": 0.0, "guarantee_steps": 1,
    }  # fmt: skip
    return SimpleNamespace(contexts=[SimpleNamespace(**{**one, **changes})])


@pytest.fixture
def with_options(classes, graph):
    """Samples with CONTEXT_OPTIONS connected."""

    def samples(options) -> torch.Tensor:
        give = type(
            "Options",
            (),
            {
                "INPUT_TYPES": classmethod(lambda cls: {"required": {}}),
                "RETURN_TYPES": ("CONTEXT_OPTIONS",),
                "FUNCTION": "give",
                "give": lambda self: (options,),
            },
        )
        sampler = changed(graph["sampler"], window=24, overlap=0, context_options=["options", 0])
        prompt = {**graph, "options": node("Options"), "sampler": sampler}
        return Executor({**classes, "Options": give}).run(prompt).outputs["sampler"][0]["samples"]

    return samples


def test_context_options_stand_for_the_window_widgets(run, graph, with_options):
    assert torch.equal(with_options(evolved()), run(graph))
    opened = run({**graph, "sampler": changed(graph["sampler"], loop="open")})
    assert torch.equal(with_options(evolved(context_schedule="standard_uniform")), opened)
    assert torch.equal(with_options(evolved(closed_loop=False)), opened)
    faded = run({**graph, "sampler": changed(graph["sampler"], fuse="pyramid")})
    assert torch.equal(with_options(evolved(fuse_method="pyramid")), faded)
    still = with_options(evolved(context_schedule="standard_static"))
    assert not torch.equal(still, opened)


def test_context_options_that_we_have_not_are_sentences(with_options):
    for changes, match in (
        ({"context_stride": 2}, "set the stride to 1 instead of 2"),
        ({"fuse_method": "relative"}, "the fuse method 'relative' is not known here; use flat or pyramid"),
        ({"context_schedule": "view_as_context"}, "the schedule 'view_as_context' is not known here"),
    ):
        with pytest.raises(NodeError, match=match):
            with_options(evolved(**changes))
    with pytest.raises(NodeError, match="views inside windows and extras .* are not known here"):
        with_options(evolved(view_options=SimpleNamespace(context_length=2)))
    reusing = SimpleNamespace(
        contexts=evolved().contexts, extras=SimpleNamespace(get_extras_list=lambda: [1])
    )
    with pytest.raises(NodeError, match="views inside windows and extras"):
        with_options(reusing)
    with pytest.raises(NodeError, match="one context is taken, and 2 follow each other"):
        with_options(SimpleNamespace(contexts=evolved().contexts * 2))


def test_context_options_are_read_by_their_words(comfy):
    from xdyna_unianimate.nodes.context import ContextWindows, read

    assert read(evolved()) == ContextWindows(4, 1, 1, loop=True, moving=True, fuse="uniform")
    assert read(evolved(context_schedule="batched")) == ContextWindows(4, 0, 1, False, False, "uniform")
    assert read(evolved(context_schedule="uniform")) == read(evolved()), "the older name"
    [alone] = evolved(context_schedule="uniform_standard", fuse_method=None, context_overlap=None).contexts
    assert read(alone) == ContextWindows(4, 0, 1, loop=False, moving=True, fuse=None)


# ---- in ComfyUI ----------------------------------------------------------------------------------------


@pytest.fixture
def bar(comfy):
    import comfy.utils

    seen = []
    comfy.utils.set_progress_bar_global_hook(
        lambda done, total, preview, node_id=None, **_: seen.append((done, total))
    )
    yield seen
    comfy.utils.set_progress_bar_global_hook(None)


def test_the_bar_moves_with_every_window_of_every_step(run, graph, bar):
    run(graph)
    windows = 2  # 6 frames in windows of 4 that share 1
    shown = [done for done, total in bar if total == 2 * windows]
    assert shown == sorted(shown) and set(shown) == {1, 2, 3, 4}


def test_cancel_takes_effect_before_the_next_forward_and_leaves_nothing(
    run, classes, graph, monkeypatch, interrupt
):
    import comfy.model_management as mm
    from xdyna_unianimate.xdyna_core.unet import XDynaUNet

    expected, calls, forward = run(graph), [], XDynaUNet.forward

    def cancelled_in_the_second(net, *given, **more):
        calls.append(1)
        if len(calls) == 2:
            mm.interrupt_current_processing(True)
        return forward(net, *given, **more)

    monkeypatch.setattr(XDynaUNet, "forward", cancelled_in_the_second)
    again = Executor(classes)
    with pytest.raises(NodeError) as caught:
        again.run({**graph, "sampler": changed(graph["sampler"], together=False)})
    assert isinstance(caught.value.__cause__, interrupt) and len(calls) == 2
    monkeypatch.setattr(XDynaUNet, "forward", forward)
    assert torch.equal(again.run(graph).outputs["sampler"][0]["samples"], expected)


def test_nan_keeps_the_last_finite_latents(run, comfy, graph, monkeypatch):
    from xdyna_unianimate.xdyna_core.unet import XDynaUNet

    calls, forward = [], XDynaUNet.forward

    def nan_in_the_second_step(net, *given, **more):
        calls.append(1)
        return forward(net, *given, **more) * (float("nan") if len(calls) > 2 else 1)

    monkeypatch.setattr(XDynaUNet, "forward", nan_in_the_second_step)
    with pytest.raises(NodeError, match=r"finite latents, after 1 steps, are in .*\.latent"):
        run(graph)
    assert list((comfy.base / "output" / "latents").glob("unfinished_*.latent"))


def test_only_what_depends_on_a_change_runs_again(run, face_graph):
    run(face_graph)
    late = copy.deepcopy(face_graph)
    late["sampler"]["inputs"]["guidance"] = 2.0
    assert run.executor.run(late).executed == ["sampler", "show"]
    late["faced"]["inputs"]["strength"] = 0.5
    assert run.executor.run(late).executed == ["faced", "sampler", "show"]
    assert run.executor.run(late).executed == []


def test_nothing_given_is_changed(classes, graph):
    """Sampling twice from one conditions object gives the same, and strengths make a copy."""
    scene = told_by(classes, graph, "posed")
    before = scene.told
    classes["XDUA_XDynaStrengths"].execute(scene, 0.0, 0.0, 1.0, 0.5, 0.0, 1.0)
    assert scene.told is before and scene.told.adapter.strength == 1.0 and len(scene.told.controls) == 1


# ---- loaders -------------------------------------------------------------------------------------------


def test_files_are_listed_and_loaded(run, classes, graph, installed):
    options = classes["XDUA_LoadXDyna"].INPUT_TYPES()["required"]
    assert "unet.safetensors" in (options["unet"][1].get("options") or options["unet"][0])
    own = changed(graph["xdyna"], unet="unet.safetensors")
    with pytest.raises(NodeError, match="ip_adapter: choose ip-adapter-plus_sd15"):
        run({**graph, "xdyna": own})
    whole = changed(own, ip_adapter="ip-adapter.safetensors", precision="fp32")
    with pytest.raises(NodeError, match="ip-adapter.safetensors"):
        # A Resampler alone is no part of the UNet.
        run({**graph, "xdyna": whole})


def test_a_missing_file_says_what_and_where_from(classes, installed):
    loader = classes["XDUA_LoadXDyna"]
    with pytest.raises(
        FileNotFoundError, match="unet-checkpoint-epoch-5.ckpt is missing .X-Dyna UNet.*Boese0601"
    ):
        loader.execute("unet-checkpoint-epoch-5.ckpt", "none", "none", "ip-adapter.safetensors", "auto")


def test_a_fingerprint_follows_the_file(classes, installed):
    loader, other = classes["XDUA_LoadXDyna"], classes["XDUA_LoadXDynaControlNet"]
    first = loader.fingerprint_inputs("unet.safetensors", "none", "none", "none")
    assert first == loader.fingerprint_inputs("unet.safetensors", "none", "none", "none")
    with (installed / "unet.safetensors").open("ab") as file:
        file.write(b"x")
    assert first != loader.fingerprint_inputs("unet.safetensors", "none", "none", "none")
    folder = installed.parent / "checkpoints"
    folder.mkdir(exist_ok=True)
    shutil.copy(installed / "ip-adapter.safetensors", folder / "unet.safetensors")
    forget_listing()
    try:
        two = loader.fingerprint_inputs("unet.safetensors", "unet.safetensors", "none", "none")
        assert all(str(place / "unet.safetensors") in two for place in (installed, folder))
    finally:
        (folder / "unet.safetensors").unlink()
    assert other.fingerprint_inputs(DEMO) == DEMO
    assert "face.safetensors" in other.fingerprint_inputs("face.safetensors")


def test_a_controlnet_of_the_other_kind_is_a_sentence(run, graph, installed):
    wrong = changed(graph["pose_net"], controlnet="face.safetensors")
    with pytest.raises(NodeError, match="pictures of 6 channels"):
        run({**graph, "pose_net": wrong})
    other = node("XDUA_LoadXDynaControlNet", kind="face", controlnet="face.safetensors", precision="fp32")
    with pytest.raises(NodeError, match="this node takes the kind pose, of 3. Choose pose in Load"):
        run({**graph, "pose_net": other})


def test_values_that_no_list_offers_are_sentences(classes):
    """0.3.64 lets them through."""
    with pytest.raises(ValueError, match="kind: there is no 'hand'; choose one of pose, face"):
        classes["XDUA_LoadXDynaControlNet"].execute("hand", DEMO, "auto")
    with pytest.raises(ValueError, match="Precision 'fp4' is unknown"):
        classes["XDUA_LoadXDyna"].execute(DEMO, "none", "none", "none", "fp4")


# ---- face maps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fidelity", "aligned"), [("robust", True), ("robust", False), ("original", True)])
def test_face_maps_are_those_of_the_command_line(classes, face_graph, fidelity, aligned):
    from xdyna_unianimate.app.faces import maps_in_place, maps_on_reference
    from xdyna_unianimate.demo import inputs
    from xdyna_unianimate.video_core.video import open_video

    prompt = {**face_graph, "faces": changed(face_graph["faces"], fidelity=fidelity)}
    if not aligned:
        del prompt["faces"]["inputs"]["aligned"]
    prompt["show"] = node("Show", anything=["faces", 0])
    local, whole = Executor(classes).run(prompt).outputs["faces"]
    frames = list(open_video(inputs.DRIVING).frames(max_frames=FRAMES))
    poses = inputs.driving_poses()[:FRAMES]
    if aligned and fidelity == "robust":
        expected = maps_on_reference(frames, poses, poses, (64, 96))
    else:
        expected = maps_in_place(frames, poses, (64, 96), fidelity)
    assert np.array_equal(uint8(local), expected.local) and np.array_equal(uint8(whole), expected.whole)
    assert expected.found.all() and local.any()


def test_poses_of_another_resolution_still_find_the_face(classes, face_graph):
    from xdyna_unianimate.app.faces import on_canvas

    poses = told_by(classes, face_graph, "demo")  # the reference picture: only its presence matters
    assert poses.shape[0] == 1
    cls = classes["XDUA_FaceMaps"]
    found = Executor(classes).run({**face_graph, "show": node("Show", anything=["faces", 0])})
    frames, driving = found.outputs["demo"][1], found.outputs["demo"][3]
    smaller = on_canvas(driving, (128, 192))
    again = cls.execute(frames, smaller, 64, 96, "robust", driving)
    assert torch.equal(again.result[0], found.outputs["faces"][0])


# ---- grid ----------------------------------------------------------------------------------------------


def grid(classes, **inputs):
    return classes["XDUA_GridCompare"].execute(**inputs).result[0]


def test_a_grid_has_a_column_per_clip_and_the_length_of_the_shortest(classes):
    first, second, still = torch.rand(3, 20, 16, 3), torch.rand(5, 40, 16, 3), torch.rand(1, 20, 8, 3)
    found = grid(classes, images_1=first, labels="", images_3=second, images_5=still)
    assert found.shape == (3, 24, 2 + 16 + 2 + 8 + 2 + 8 + 2, 3)
    assert torch.allclose(found[2, 2:22, 2:18], first[2], atol=0.5 / 255 + 1e-6)
    labelled = grid(classes, images_1=first, labels="ours\n\ntheirs\n", images_2=first)
    assert labelled.shape[1] > found.shape[1]


def test_labels_are_one_per_column(classes):
    with pytest.raises(ValueError, match="2 columns are connected and 1 different labels given"):
        grid(classes, images_1=torch.rand(1, 8, 8, 3), labels="a", images_2=torch.rand(1, 8, 8, 3))


def test_a_grid_runs_in_a_graph(classes, graph):
    prompt = {
        "demo": graph["demo"],
        "grid": node(
            "XDUA_GridCompare", images_1=["demo", 1], labels="driving\nreference", images_2=["demo", 0]
        ),
        "show": node("PreviewImage", images=["grid", 0]),
    }
    found = Executor(classes).run(prompt)
    assert len(found.outputs["grid"][0]) == FRAMES and len(found.ui["show"]["images"]) == FRAMES
