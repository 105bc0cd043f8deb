"""Every way to the networks: which files together make a UNet, and what is said of those that do not."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from xdyna_unianimate.video_core.weights import CheckpointError
from xdyna_unianimate.xdyna_core import keys, load
from xdyna_unianimate.xdyna_core.load import load_controlnet, load_resampler, load_unet, weights_file
from xdyna_unianimate.xdyna_core.motion import position_table

from .tiny import CONFIG, CONTROL, RESAMPLER, tiny_controlnet, tiny_inputs, tiny_resampler, tiny_unet

State = dict[str, Tensor]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def whole() -> State:
    return tiny_unet().state_dict()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a state as a file: safetensors with the tiny architecture in its metadata, or a torch pickle."""

    def write(name: str, state: dict, config: object = CONFIG) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            copies = {k: v.clone().contiguous() for k, v in state.items()}
            save_file(copies, path, {"config": json.dumps(asdict(config))} if config else None)
        else:
            torch.save(state, path)
        return path

    return write


def group(state: State, *names: str) -> State:
    """The tensors of some groups of the UNet."""
    return {k: v for k, v in state.items() if keys.group_of(k).name in names}


def inverse(state: State, modules: dict[str, str], prefix: str = "") -> State:
    """A state under LDM's names."""
    theirs = {ours: ldm for ldm, ours in modules.items()}
    return {prefix + keys.renamed(k, theirs): v for k, v in state.items()}


def base(state: State) -> State:
    return group(state, "SD1.5 UNet")


def ldm_base(state: State, prefix: str = "") -> State:
    return inverse(base(state), keys.ldm_unet_modules(CONFIG), prefix)


def motion(state: State) -> State:
    return group(state, "motion module", "position table")


def motion_adapter(state: State) -> State:
    """The motion modules as diffusers names them."""
    renamed = {}
    for name, tensor in motion(state).items():
        for theirs, ours in keys.MOTION_ADAPTER:
            name = name.replace(ours, theirs)
        name = name.replace("attn1.pos_encoder.pe", "pos_embed.pe").replace("temporal_transformer.", "")
        if ".attn2.pos_encoder" not in name:
            renamed[name] = tensor
    return renamed


def ip_adapter(state: State) -> dict[str, State]:
    """An IP-Adapter-plus as its .bin holds it."""
    layers = {k.removeprefix("ip_adapter."): state[v] for k, v in keys.ip_adapter_names(CONFIG).items()}
    return {"image_proj": tiny_resampler().state_dict(), "ip_adapter": layers}


def flat(nested: dict[str, State]) -> State:
    return {f"{section}.{k}": v for section, state in nested.items() for k, v in state.items()}


def check(paths: list[Path], expected: State) -> None:
    net = load_unet(paths)
    assert net.config == CONFIG
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    state = net.state_dict()
    assert set(state) == set(expected)
    assert [k for k in state if not torch.equal(state[k], expected[k])] == []


# ---- ways to the UNet ----------------------------------------------------------------------------------


def test_the_full_checkpoint(whole: State, write: Write) -> None:
    check([write("xdyna.safetensors", whole)], whole)
    inputs = tiny_inputs()
    assert torch.equal(load_unet([write("again.safetensors", whole)])(**inputs), tiny_unet()(**inputs))


JUNK = {"first_stage_model.decoder.conv_in.bias": torch.zeros(2), "alphas_cumprod": torch.zeros(3)}
"""What a whole LDM checkpoint has besides the UNet."""

BASES = {
    "folder/unet/diffusion_pytorch_model.safetensors": base,
    "unet.ckpt": base,
    "pipeline.ckpt": lambda s: {f"unet.{k}": v for k, v in base(s).items()} | {"vae.x": torch.zeros(1)},
    "whole_ldm.ckpt": lambda s: {"state_dict": {**ldm_base(s, "model.diffusion_model."), **JUNK}},
    "ldm_unet.pth": ldm_base,
}
MOTIONS = {
    "mm_sd_v15.ckpt": motion,
    "mm_wrapped.ckpt": lambda s: {"state_dict": {f"module.{k}": v for k, v in motion(s).items()}},
    "adapter.bin": motion_adapter,
    "without_positions.ckpt": lambda s: group(s, "motion module"),
}
IP_ADAPTERS = {
    "ip-adapter-plus_sd15.bin": ip_adapter,
    "ip.safetensors": lambda s: flat(ip_adapter(s)),
}


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [(b, "mm_sd_v15.ckpt", "ip-adapter-plus_sd15.bin") for b in BASES]
    + [("unet.ckpt", m, "ip-adapter-plus_sd15.bin") for m in list(MOTIONS)[1:]]
    + [("unet.ckpt", "mm_sd_v15.ckpt", i) for i in list(IP_ADAPTERS)[1:]],
)
def test_parts(first: str, second: str, third: str, whole: State, write: Write) -> None:
    parts = [(BASES, first), (MOTIONS, second), (IP_ADAPTERS, third)]
    paths = [write(name, table[name](whole), None) for table, name in parts]
    paths = [path.parents[1] if path.parent.name == "unet" else path for path in paths]
    check([*paths, write("adapter.safetensors", group(whole, "Dynamics-Adapter"))], whole)


def test_the_base_of_the_original_with_the_trained_checkpoint_over_it(whole: State, write: Write) -> None:
    one_file = {k: v for k, v in whole.items() if keys.group_of(k).name != "Dynamics-Adapter"}
    trained = {f"module.{k}": v for k, v in whole.items()}
    paths = [write("animatediff_v15_v1_ipplus.pth", one_file), write("xdyna.safetensors", trained)]
    check(paths, whole)


def test_later_files_win(whole: State, write: Write) -> None:
    other = tiny_unet(seed=7).state_dict()
    paths = [write("whole.safetensors", whole), write("tuned.pth", base(other))]
    check(paths, whole | base(other))
    check(paths[::-1], whole)


def test_position_tables_are_computed_where_no_file_has_them(whole: State, write: Write) -> None:
    stored = {k: v for k, v in whole.items() if not k.endswith(".pe")}
    state = load_unet([write("xdyna.safetensors", stored)]).state_dict()
    name = next(k for k in state if k.endswith(".pe"))
    assert torch.equal(state[name], position_table(*state[name].shape[1:]))


def test_missing_adapter_queries_are_the_frames_own(whole: State, write: Write) -> None:
    """As the original fills them before the trained file comes (X-Dyna spec 2.1)."""
    stored = {k: v for k, v in whole.items() if ".to_q_ff." not in k}
    copied = {k: whole[k.replace(".to_q_ff.", ".to_q.")] for k in whole if ".to_q_ff." in k}
    assert copied
    check([write("xdyna.safetensors", stored)], whole | copied)
    net = load_unet([write("again.safetensors", stored)])
    attn = net.mid_block.attentions[0].transformer_blocks[0].attn1
    assert attn.to_q_ff.weight.data_ptr() != attn.to_q.weight.data_ptr()


@pytest.mark.parametrize("given", [None, torch.float16])
def test_one_dtype_for_all(given: torch.dtype | None, whole: State, write: Write) -> None:
    half = {k: v.half() for k, v in whole.items()}
    without_tables = {k: v for k, v in half.items() if not k.endswith(".pe")}
    dtypes = {t.dtype for t in load_unet([write("half.safetensors", without_tables)]).state_dict().values()}
    assert dtypes == {torch.float16}
    mixed = load_unet([write("half.pth", half), write("a.safetensors", base(whole))], given).state_dict()
    assert {t.dtype for t in mixed.values()} == {given or torch.float32}


# ---- files that do not make a UNet ---------------------------------------------------------------------


@pytest.mark.parametrize("lost", keys.GROUPS, ids=lambda g: g.name)
def test_what_is_missing_is_named_with_its_supplier(lost: keys.Group, whole: State, write: Write) -> None:
    kept = {k: v for k, v in whole.items() if keys.group_of(k) is not lost}
    path = write("xdyna.safetensors", kept)
    if lost.supplier == keys.COMPUTED:
        assert set(load_unet([path]).state_dict()) == set(whole)
        return
    wanted = len(group(whole, lost.name))
    sentence = rf"Missing: {wanted} of {wanted} {lost.name} keys .*which come from {re.escape(lost.supplier)}"
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_unet([path])
    assert str(path) in str(caught.value)


def test_several_missing_parts_in_one_sentence(whole: State, write: Write) -> None:
    with pytest.raises(CheckpointError, match="Dynamics-Adapter.*IP-Adapter.*motion module"):
        load_unet([write("base.safetensors", base(whole))])


def test_the_output_projection_is_never_made_up(whole: State, write: Write) -> None:
    stored = {k: v for k, v in whole.items() if keys.group_of(k).name != "Dynamics-Adapter"}
    with pytest.raises(CheckpointError, match=r"Dynamics-Adapter keys \(.*to_q_ff\.weight"):
        load_unet([write("xdyna.safetensors", stored)])


def test_no_file() -> None:
    with pytest.raises(CheckpointError, match="No file was given"):
        load_unet([])


def renamed_first(state: State, name: str) -> State:
    """The state with one key more."""
    return state | {name: torch.zeros(2)}


def with_width(state: State, name: str, width: int) -> State:
    """The state with another second dimension of the tensors whose names end so."""
    return {
        k: torch.zeros(v.shape[0], width, *v.shape[2:]) if k.endswith(name) else v for k, v in state.items()
    }


REFUSED: dict[str, tuple[Callable[[State], dict], str]] = {
    "LoRA (kohya)": (lambda s: {"lora_unet_a.lora_up.weight": s["conv_in.bias"]}, "is a LoRA"),
    "LoRA (diffusers)": (lambda s: {"unet.a.processor.to_q_lora.up.weight": s["conv_in.bias"]}, "is a LoRA"),
    "LCM": (
        lambda s: renamed_first(base(s), "time_embedding.cond_proj.weight"),
        r"is a latent-consistency model \(LCM\)",
    ),
    "SDXL, LDM": (
        lambda s: ldm_base(s, "model.diffusion_model.") | {"conditioner.embedders.0.a": torch.zeros(1)},
        "is a Stable Diffusion XL checkpoint",
    ),
    "SDXL, diffusers": (
        lambda s: renamed_first(base(s), "add_embedding.linear_1.bias"),
        "is a Stable Diffusion XL UNet",
    ),
    "SD2, LDM": (
        lambda s: ldm_base(s, "model.diffusion_model.") | {"cond_stage_model.model.a": torch.zeros(1)},
        "is a Stable Diffusion 2 checkpoint",
    ),
    "SD2, diffusers": (
        lambda s: with_width(base(s), "attn2.to_k.weight", 1024),
        "is made for SD2: .* has 1024 where X-Dyna has 24. Give the file for SD1.5",
    ),
    "inpainting": (lambda s: with_width(base(s), "conv_in.weight", 9), "is an inpainting model"),
    "inpainting, LDM": (
        lambda s: with_width(ldm_base(s, "model.diffusion_model."), "input_blocks.0.0.weight", 9) | JUNK,
        "is an inpainting model",
    ),
    "InstructPix2Pix": (lambda s: with_width(base(s), "conv_in.weight", 8), "is a picture-editing model"),
    "AnimateDiff v2": (
        lambda s: renamed_first(motion(s), "mid_block.motion_modules.0.temporal_transformer.norm.bias"),
        "is an AnimateDiff motion module of version 2",
    ),
    "AnimateDiff v3": (
        lambda s: with_width(motion(s), "pos_encoder.pe", 32),
        r"is an AnimateDiff motion module of version 2 or 3: .*Give version 1 \(mm_sd_v15\)",
    ),
    "IP-Adapter, plain": (
        lambda s: flat({**ip_adapter(s), "image_proj": {"proj.weight": torch.zeros(2)}}),
        "is an IP-Adapter other than IP-Adapter-plus",
    ),
    "IP-Adapter-plus, SDXL": (
        lambda s: with_width(flat(ip_adapter(s)), "to_k_ip.weight", 2048),
        "is made for SDXL",
    ),
    "IP-Adapter with more layers": (
        lambda s: renamed_first(flat(ip_adapter(s)), "ip_adapter.99.to_k_ip.weight"),
        "holds keys that the X-Dyna UNet has not",
    ),
    "ControlNet": (lambda s: tiny_controlnet().net.state_dict(), "is a ControlNet"),
    "autoencoder": (
        lambda s: {"decoder.conv_in.bias": torch.zeros(1), "decoder.conv_out.bias": torch.zeros(1)},
        r"is an image autoencoder \(VAE\)",
    ),
    "Flux": (lambda s: {"double_blocks.0.img_attn.qkv.weight": torch.zeros(1)}, "is a Flux network"),
    "unknown": (lambda s: {"a.b": torch.zeros(1)}, r"holds keys that the X-Dyna UNet has not \(a\.b\)"),
    "Resampler alone": (lambda s: tiny_resampler().state_dict(), "keys that the X-Dyna UNet has not"),
}
"""A file given among the parts of the UNet -> what is said of it."""


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_file_is_called_by_its_name(kind: str, whole: State, write: Write) -> None:
    make, sentence = REFUSED[kind]
    wrong = write("wrong.pth", make(whole))
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_unet([write("xdyna.safetensors", whole), wrong])
    message = str(caught.value)
    assert str(wrong) in message and "Give " in message and message.endswith("."), message


def test_a_wrong_shape_is_listed(whole: State, write: Write) -> None:
    with pytest.raises(CheckpointError, match=r"conv_out\.bias is \[5\] and should be \[4\]"):
        load_unet([write("xdyna.safetensors", whole | {"conv_out.bias": torch.zeros(5)})])


def test_parts_of_different_sizes(whole: State, write: Write) -> None:
    larger = replace(CONFIG, cross_attention_dim=32)
    paths = [write("a.safetensors", whole), write("b.safetensors", base(whole), larger)]
    with pytest.raises(CheckpointError, match="networks of different sizes"):
        load_unet(paths)


def test_nothing_in_a_file_is_executed(whole: State, write: Write, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.write_text, (tmp_path / "sprung", "x")

    path = tmp_path / "trap.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Trap()}, protocol=2))
    for loader in (load_controlnet, load_resampler, lambda p: load_unet([p])):
        with pytest.raises(CheckpointError):
            loader(path)
    assert not (tmp_path / "sprung").exists()


# ---- folders -------------------------------------------------------------------------------------------


def test_a_folder_stands_for_its_only_file_or_diffusers_own(tmp_path: Path) -> None:
    only, both, empty = tmp_path / "only", tmp_path / "both" / "unet", tmp_path / "empty"
    for folder in (only, both, empty):
        folder.mkdir(parents=True)
    for file in (only / "epoch-7.ckpt", both / "other.bin", both / "diffusion_pytorch_model.bin"):
        file.touch()
    (only / "config.json").touch()
    assert weights_file(only) == only / "epoch-7.ckpt"
    assert weights_file(both.parent, "unet") == both / "diffusion_pytorch_model.bin"
    assert weights_file(only / "epoch-7.ckpt", "unet") == only / "epoch-7.ckpt"
    with pytest.raises(CheckpointError, match="holds none of the files diffusion_pytorch_model.safetensors"):
        weights_file(empty)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be opened: No such file"):
        load_unet([tmp_path / "gone.safetensors"])


# ---- ControlNets and Resampler -------------------------------------------------------------------------


@pytest.fixture
def tiny_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles carry no metadata: let the release be tiny for them."""
    monkeypatch.setattr(load, "ControlNetConfig", lambda **given: replace(CONTROL, **given))
    monkeypatch.setattr(load, "ResamplerConfig", lambda: RESAMPLER)


def ldm_control(state: State, prefix: str = "") -> State:
    return inverse(state, keys.ldm_controlnet_modules(CONTROL), prefix)


def whole_unet() -> State:
    return tiny_unet().state_dict()


CONTROLNET_FILES: dict[str, Callable[[State], dict]] = {
    "diffusers.safetensors": lambda s: s,
    "trained.ckpt": lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3},
    "ldm.safetensors": lambda s: ldm_control(s, "control_model."),
    "whole_ldm.pth": lambda s: ldm_control(s, "control_model.") | ldm_base(whole_unet(), keys.LDM_UNET),
    "bare_ldm.pth": ldm_control,
    "folder/diffusion_pytorch_model.bin": lambda s: s,
}


@pytest.mark.usefixtures("tiny_release")
@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("name", CONTROLNET_FILES)
def test_controlnets(name: str, channels: int, write: Write) -> None:
    expected = tiny_controlnet(channels).net.state_dict()
    config = replace(CONTROL, conditioning_channels=channels)
    path = write(name, CONTROLNET_FILES[name](expected), config)
    net = load_controlnet(path.parent if "/" in name else path, channels)
    assert net.config == config
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    assert all(torch.equal(tensor, expected[k]) for k, tensor in net.net.state_dict().items())


@pytest.mark.usefixtures("tiny_release")
@pytest.mark.parametrize(("stored", "asked"), [(6, 3), (3, 6)])
def test_a_controlnet_of_the_other_kind(stored: int, asked: int, write: Write) -> None:
    path = write("net.pth", tiny_controlnet(stored).net.state_dict())
    kinds = {3: "pose ControlNet", 6: "face ControlNet"}
    sentence = f"of {stored} channels .*{kinds[stored]}.*{kinds[asked]}.* takes {asked}"
    with pytest.raises(CheckpointError, match=sentence):
        load_controlnet(path, asked)


CONTROLNETS_REFUSED: dict[str, tuple[Callable[[State], dict], str]] = {
    "UNet": (lambda s: base(whole_unet()), "is a Stable Diffusion UNet in diffusers' layout"),
    "unknown": (lambda s: {"a.b": torch.zeros(1)}, r"unexpected \(a\.b\)"),
    "incomplete": (
        lambda s: {k: v for k, v in s.items() if k != "conv_in.bias"},
        r"1 missing \(conv_in.bias\)",
    ),
    "too much": (lambda s: s | {"difference": torch.zeros(1)}, r"1 unexpected \(difference\)"),
    "SD2": (lambda s: with_width(s, "attn2.to_k.weight", 1024), "is made for SD2"),
}


@pytest.mark.usefixtures("tiny_release")
@pytest.mark.parametrize("kind", CONTROLNETS_REFUSED)
def test_what_is_no_controlnet_is_refused(kind: str, write: Write) -> None:
    make, sentence = CONTROLNETS_REFUSED[kind]
    path = write("wrong.pth", make(tiny_controlnet().net.state_dict()))
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_controlnet(path)
    assert str(path) in str(caught.value)


RESAMPLER_FILES: dict[str, Callable[[], dict]] = {
    "ip-adapter-plus_sd15.bin": lambda: ip_adapter(whole_unet()),
    "ip.safetensors": lambda: flat(ip_adapter(whole_unet())),
    "resampler.safetensors": lambda: tiny_resampler().state_dict(),
}


@pytest.mark.usefixtures("tiny_release")
@pytest.mark.parametrize("name", RESAMPLER_FILES)
def test_resampler(name: str, write: Write) -> None:
    expected = tiny_resampler().state_dict()
    net = load_resampler(write(name, RESAMPLER_FILES[name](), RESAMPLER))
    assert all(torch.equal(tensor, expected[k]) for k, tensor in net.state_dict().items())


@pytest.mark.usefixtures("tiny_release")
@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["image_proj.proj.weight"], "other than IP-Adapter-plus. Give IP-Adapter-plus for SD1.5"),
        (["image_proj.latents"], "does not hold exactly the weights of IP-Adapter-plus for SD1.5"),
        (["decoder.conv_in.bias", "decoder.conv_out.bias"], "is an image autoencoder"),
    ],
)
def test_what_is_no_ip_adapter_plus_is_refused(names: list[str], sentence: str, write: Write) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        load_resampler(write("wrong.bin", dict.fromkeys(names, torch.zeros(2))))
