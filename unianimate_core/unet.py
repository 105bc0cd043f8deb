"""The UniAnimate network (UniAnimate spec 3), in stages that can be computed as rarely as they change.

    encode_conditions   once per clip: pictures, poses and image embedding -> Conditions
    Conditions.windows  which frames a call concerns
    assemble_input      what the first convolution sees: reference slot, then latents with pose features
    predict             the U-Net itself

``denoise`` is assemble_input and predict; ``forward`` is all of it, as the checkpoint's authors call it.

Layouts: latents [b, c, f, h, w]; inside the U-Net [(b f), c, h, w] with the reference slot as frame 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import KeysValues, sinusoidal_embedding
from ..video_core.deep import Deep
from ..video_core.norms import GroupNorm
from ..video_core.savings import Saving, laid_out
from .blocks import Downsample, ResBlock, SpatialTransformer, Upsample
from .config import NORM_GROUPS, UniAnimateConfig
from .temporal import TemporalTransformer
from .towers import FrameTransformer, latent_tower, over_frames, pixel_tower

PIXELS_PER_LATENT = 8


@dataclass(frozen=True)
class ProjectedContext:
    """Keys and values of a context for every spatial transformer, which serve a whole clip."""

    layers: Mapping[SpatialTransformer, KeysValues]

    def __len__(self) -> int:
        """Rows of the context."""
        return len(next(iter(self.layers.values())).k)

    def to(self, device: torch.device | str) -> ProjectedContext:
        """The same there."""
        return self._each(lambda x: x.to(device))

    def expand(self, rows: int) -> ProjectedContext:
        """One row as several."""
        return self._each(lambda x: x.expand(rows, -1, -1))

    def beside(self, other: ProjectedContext) -> ProjectedContext:
        """These rows, then those of ``other``."""
        pairs = ((layer, zip(own, other.layers[layer], strict=True)) for layer, own in self.layers.items())
        return ProjectedContext({layer: KeysValues(*map(torch.cat, pair)) for layer, pair in pairs})

    def _each(self, change: Callable[[Tensor], Tensor]) -> ProjectedContext:
        return ProjectedContext({layer: KeysValues(*map(change, kv)) for layer, kv in self.layers.items()})


Context = Tensor | ProjectedContext
"""Tokens [r, tokens, context_dim], or what ``UniAnimateUNet.project_context`` made of them."""


@dataclass(frozen=True)
class Conditions:
    """What one branch of guidance is told, as computed by ``UniAnimateUNet.encode_conditions``.

    context: [b, tokens, context_dim], text tokens then image tokens, or their keys and values.
    reference: [b, slot_dim, 1, h, w], the whole input at time 0, or None for zeros.
    pose: [b, concat_dim, F, h, w], each driving pose as the convolutions see it, before the transformer over
        frames; or None.
    first_frame: [b, concat_dim, F or 1, h, w], likewise (one frame stands for all), or None.

    b is the number of clips in a call, or 1 for conditions that they share.
    """

    context: Context
    reference: Tensor | None = None
    pose: Tensor | None = None
    first_frame: Tensor | None = None

    def to(self, device: torch.device | str) -> Conditions:
        """The same with all tensors there."""
        found = vars(self).items()
        return Conditions(**{name: None if value is None else value.to(device) for name, value in found})

    def part(self, frames: range) -> Conditions:
        """Conditions of neighbouring frames of the clip; their features stay where they are."""

        def view(features: Tensor | None) -> Tensor | None:
            whole = features is None or features.shape[2] == 1
            return features if whole else features[:, :, frames.start : frames.stop]

        return replace(self, pose=view(self.pose), first_frame=view(self.first_frame))

    def windows(self, frames: Sequence[Sequence[int]]) -> Conditions:
        """Conditions of a call whose item i concerns the clip's frames ``frames[i]`` (all of one length).

        The reference slot is every window's (UniAnimate spec 6). ValueError unless these are one clip's.
        """
        clips = len(self.context)
        if clips != 1:
            raise ValueError(f"windows are taken from the conditions of one clip; these are of {clips}")

        def pick(features: Tensor) -> Tensor:
            return torch.cat([features[:, :, list(window)] for window in frames])

        pose, first = self.pose, self.first_frame
        return Conditions(
            context=self.context,
            reference=self.reference,
            pose=None if pose is None else pick(pose),
            first_frame=first if first is None or first.shape[2] == 1 else pick(first),
        )


class UniAnimateUNet(Saving, nn.Module):
    """The network with the checkpoint's own parameter names, 1544 of them at the release's size."""

    def __init__(self, config: UniAnimateConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UniAnimateConfig()
        self._build_embeddings(config)
        self._build_towers(config)
        skips = self._build_encoder(config)
        self._build_decoder(config, skips)
        self.out = output_head(config.dim, config.out_dim)

    def _build_embeddings(self, config: UniAnimateConfig) -> None:
        dim, embed, context = config.dim, config.embed_dim, config.context_dim
        self.time_embed = nn.Sequential(nn.Linear(dim, embed), nn.SiLU(), nn.Linear(embed, embed))
        self.pre_image_condition = nn.Sequential(
            nn.Linear(context, context), nn.SiLU(), nn.Linear(context, config.num_tokens * context)
        )

    def _build_towers(self, config: UniAnimateConfig) -> None:
        concat, slot, inner = config.concat_dim, config.slot_dim, config.tower_dim
        self.local_image_embedding = pixel_tower(concat, inner)
        self.local_image_embedding_after = FrameTransformer(concat)
        self.dwpose_embedding = pixel_tower(concat, inner)
        self.dwpose_embedding_after = FrameTransformer(concat)
        self.randomref_pose2_embedding = pixel_tower(slot, inner)
        self.randomref_pose2_embedding_after = FrameTransformer(slot)
        self.randomref_embedding2 = latent_tower(config.in_dim, slot, inner)
        self.randomref_embedding_after2 = FrameTransformer(slot)

    def _build_encoder(self, config: UniAnimateConfig) -> list[int]:
        """Build the way down and the middle; returns the width of each skip, first to last."""
        widths = config.widths
        first = [
            nn.Conv2d(config.slot_dim, config.dim, 3, padding=1),
            TemporalTransformer(config.dim, config.num_heads, config.head_dim),
        ]
        blocks: list[nn.Module] = [nn.ModuleList(first)]
        skips = [config.dim]
        for level, width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                blocks.append(nn.ModuleList(_block(config, level, skips[-1], width)))
                skips.append(width)
            if level + 1 < len(widths):
                blocks.append(Downsample(width))
                skips.append(width)
        self.input_blocks = nn.ModuleList(blocks)
        width = widths[-1]
        self.middle_block = nn.ModuleList(
            [
                ResBlock(width, width, config.embed_dim),
                *_transformers(config, width),
                ResBlock(width, width, config.embed_dim),
            ]
        )
        return skips

    def _build_decoder(self, config: UniAnimateConfig, skips: list[int]) -> None:
        """Build the way up, one block per skip."""
        skips = list(skips)
        blocks = []
        width = config.widths[-1]
        for level, out_width in reversed(list(enumerate(config.widths))):
            for last in [False] * config.num_res_blocks + [True]:
                layers = _block(config, level, width + skips.pop(), out_width)
                width = out_width
                if last and level:
                    layers.append(Upsample(width))
                blocks.append(nn.ModuleList(layers))
        self.output_blocks = nn.ModuleList(blocks)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; inputs are cast to it, predictions back to the latents' dtype."""
        return self.out[-1].weight.dtype

    def forward(
        self,
        x: Tensor,
        t: Tensor | int,
        *,
        zero_y: Tensor,
        image: Tensor | None = None,
        local_image: Tensor | None = None,
        dwpose: Tensor | None = None,
        randomref: Tensor | None = None,
    ) -> Tensor:
        """v-prediction [b, out_dim, F, h, w] of latents x [b, in_dim, F, h, w], F >= 1, at integer timesteps
        t (one, or [b]). Conditions as in ``encode_conditions``; an unconditional branch has ``zero_y`` alone.
        """
        conditions = self.encode_conditions(
            zero_y=zero_y, image=image, local_image=local_image, dwpose=dwpose, randomref=randomref
        )
        return self.denoise(x, t, conditions)

    def denoise(self, x: Tensor, t: Tensor | int, conditions: Conditions, deep: Deep | None = None) -> Tensor:
        """v-prediction [b, out_dim, F, h, w], in x's dtype, of latents x [b, in_dim, F, h, w] at integer
        timesteps t (one, or [b]). deep: see ``predict``.
        """
        return self.predict(self.assemble_input(x, conditions), t, conditions.context, deep).to(x.dtype)

    def denoise_branches(
        self, x: Tensor, t: Tensor | int, branches: Sequence[Conditions], deep: Deep | None = None
    ) -> Tensor:
        """``denoise`` under each of several conditions in one pass: [branches, b, out_dim, F, h, w]."""
        inputs = torch.cat([self.assemble_input(x, branch) for branch in branches])
        context = _one_context([branch.context for branch in branches])
        t = torch.as_tensor(t).expand(x.shape[0]).repeat(len(branches))
        predicted = self.predict(inputs, t, context, deep)
        return rearrange(predicted, "(n b) ... -> n b ...", b=x.shape[0]).to(x.dtype)

    def encode_conditions(
        self,
        *,
        zero_y: Tensor,
        image: Tensor | None = None,
        local_image: Tensor | None = None,
        dwpose: Tensor | None = None,
        randomref: Tensor | None = None,
        frames_at_once: int | None = None,
    ) -> Conditions:
        """All that depends neither on noise nor on timestep; any condition may be None.

        zero_y: [1 or b, tokens, context_dim], features of the empty text; both branches of guidance have it.
        image: [b, 1, context_dim], CLIP embedding of the reference picture.
        local_image: [b, 3, F or 1, 8h, 8w], the picture that frame 0 continues, for all frames.
        dwpose: [b, 3, 1 + F, 8h, 8w], the reference's pose, then the F driving poses.
        randomref: [b, in_dim, f >= 1, h, w], scaled latents of the reference picture; frame 0 is used.
        Pictures are float 0..1 or uint8 0..255, on any device: a long clip need not be copied to this one.
        frames_at_once: pictures of a clip in one pass of the convolutions, None = all. Changes memory alone.
        """
        reference_pose, driving = (None, None) if dwpose is None else (dwpose[:, :, :1], dwpose[:, :, 1:])
        return Conditions(
            context=self.encode_context(zero_y, image),
            reference=self.encode_reference(randomref, reference_pose),
            pose=self._frame_features(self.dwpose_embedding, driving, frames_at_once),
            first_frame=None if local_image is None else self.encode_first_frame(local_image, frames_at_once),
        )

    def encode_first_frame(self, local_image: Tensor, frames_at_once: int | None = None) -> Tensor:
        """``Conditions.first_frame`` [b, concat_dim, F or 1, h, w] of pictures [b, 3, F or 1, 8h, 8w]."""
        return self._frame_features(self.local_image_embedding, local_image, frames_at_once)

    def encode_poses(self, poses: Tensor) -> Tensor:
        """``Conditions.pose`` [b, concat_dim, f, h, w] of some driving poses [b, 3, f, 8h, 8w]."""
        return self._frame_features(self.dwpose_embedding, poses)

    def encode_context(self, zero_y: Tensor, image: Tensor | None) -> Tensor:
        """[b, tokens + num_tokens, context_dim]: text tokens, then image tokens (zeros without an image)."""
        text = self._own(zero_y)
        if image is None:
            tokens = text.new_zeros(text.shape[0], self.config.num_tokens, self.config.context_dim)
        else:
            tokens = rearrange(
                self.pre_image_condition(self._own(image)), "b 1 (n c) -> b n c", n=self.config.num_tokens
            )
        return torch.cat([text.expand(tokens.shape[0], -1, -1), tokens], dim=1)

    def encode_reference(self, randomref: Tensor | None, reference_pose: Tensor | None) -> Tensor | None:
        """[b, slot_dim, 1, h, w], the input at time 0; None without a reference, whose pose is then ignored.

        F: a reference without its pose is taken as it is, where the original stops (UniAnimate spec 3.2).
        """
        if randomref is None:
            return None
        features = self._frame_features(self.randomref_embedding2, randomref[:, :, :1])
        slot = over_frames(self.randomref_embedding_after2, features)
        if reference_pose is not None:
            features = self._frame_features(self.randomref_pose2_embedding, reference_pose)
            slot = slot + over_frames(self.randomref_pose2_embedding_after, features)
        return slot

    def assemble_input(self, x: Tensor, conditions: Conditions) -> Tensor:
        """[b, slot_dim, 1 + F, h, w]: the reference slot at time 0, then latents beside pose features."""
        x = self._own(x)
        self._check_latents(x)
        b, _, frames, h, w = x.shape
        pose, first_frame, slot = conditions.pose, conditions.first_frame, conditions.reference
        concat = x.new_zeros(b, self.config.concat_dim, frames, h, w)
        if first_frame is not None:
            _check_features("local_image", first_frame, x, one_for_all=True)
            concat = concat + over_frames(self.local_image_embedding_after, first_frame)
        if pose is not None:
            _check_features("dwpose (without the reference's)", pose, x)
            concat = concat + over_frames(self.dwpose_embedding_after, pose)
        if slot is None:
            slot = x.new_zeros(b, self.config.slot_dim, 1, h, w)
        else:
            _check_features("randomref", slot, x, one_for_all=True)
        return torch.cat([slot.expand(b, -1, -1, -1, -1), torch.cat([x, concat], dim=1)], dim=2)

    def project_context(self, context: Tensor) -> ProjectedContext:
        """Keys and values of a context [r, tokens, context_dim], from any device, for every spatial transformer."""
        context = self._own(context)
        layers = [module for module in self.modules() if isinstance(module, SpatialTransformer)]
        return ProjectedContext({layer: layer.project(context) for layer in layers})

    def predict(self, x: Tensor, t: Tensor | int, context: Context, deep: Deep | None = None) -> Tensor:
        """The U-Net: assembled input [b, slot_dim, 1 + F, h, w], t (one, or [b]) -> [b, out_dim, F, h, w].

        context: [r, tokens, context_dim], rows shared as in ``Attention``: one for all items, or one each; or
        what ``project_context`` made of it. deep: keeps what enters the finest level, or gives what was kept.
        """
        b, _, frames, _, _ = x.shape
        emb = self.embed_time(torch.as_tensor(t, device=x.device).expand(b))
        if not self.savings.shared_time:
            emb = emb.repeat_interleave(frames, dim=0)
        hidden = laid_out(rearrange(x, "b c f h w -> (b f) c h w"), self.savings.channels_last)
        finest, skips = 1 + self.config.num_res_blocks, []
        given = deep is not None and deep.given
        for block in self.input_blocks[: finest if given else None]:
            hidden = _run(block, [hidden], emb, context, frames)
            skips.append(hidden)
        if given:
            hidden = rearrange(deep.take().to(hidden), "b c f h w -> (b f) c h w")
            hidden = laid_out(hidden, self.savings.channels_last)
        else:
            hidden = _run(self.middle_block, [hidden], emb, context, frames)
        for block in self.output_blocks[-finest if given else None :]:
            if deep is not None and not given and len(skips) == finest:
                deep.keep(rearrange(hidden, "(b f) c h w -> b c f h w", b=b))
            below = [torch.cat([hidden, skips.pop()], dim=1)]
            del hidden
            hidden = _run(block, below, emb, context, frames)
        return rearrange(self.out(hidden), "(b f) c h w -> b c f h w", b=b)[:, :, 1:]

    def embed_time(self, t: Tensor) -> Tensor:
        """[b, embed_dim] of integer timesteps [b]; the sinusoids are float32 whatever the weights are."""
        return self.time_embed(sinusoidal_embedding(t, self.config.dim, frequencies="pow").to(self.dtype))

    def _frame_features(
        self, tower: nn.Module, frames: Tensor | None, at_once: int | None = None
    ) -> Tensor | None:
        """[b, c, f, H, W] -> the tower's [b, c', f, h, w], each frame by itself."""
        if frames is None:
            return None
        b, f = frames.shape[0], frames.shape[2]
        parts = []
        for part in frames.split(at_once or max(f, 1), dim=2):
            pixels = self._own(part) / 255 if part.dtype == torch.uint8 else self._own(part)
            images = rearrange(pixels, "b c f h w -> (b f) c h w")
            features = tower(laid_out(images, self.savings.channels_last))
            parts.append(rearrange(features, "(b f) c h w -> b c f h w", b=b))
        return torch.cat(parts, dim=2)

    def _own(self, x: Tensor) -> Tensor:
        """On the device and in the dtype of the weights (of a layer that hosts never leave behind)."""
        return x.to(self.out[-1].weight)

    def _check_latents(self, x: Tensor) -> None:
        _, channels, frames, h, w = x.shape
        if channels != self.config.in_dim or frames < 1:
            want = f"[batch, {self.config.in_dim}, frames >= 1, h, w]"
            raise ValueError(f"UniAnimate takes latents {want}, got {list(x.shape)}")
        stride = self.config.stride
        if h % stride or w % stride:
            raise ValueError(
                f"UniAnimate works at resolutions that are multiples of {PIXELS_PER_LATENT * stride}; "
                f"{w * PIXELS_PER_LATENT}x{h * PIXELS_PER_LATENT} (latents {w}x{h}) is not"
            )


def output_head(dim: int, out_dim: int) -> nn.Sequential:
    """[n, dim, h, w] -> [n, out_dim, h, w]: GroupNorm, SiLU, 3x3 convolution."""
    return nn.Sequential(
        GroupNorm(NORM_GROUPS, dim), nn.SiLU(inplace=True), nn.Conv2d(dim, out_dim, 3, padding=1)
    )


def _transformers(config: UniAnimateConfig, width: int) -> list[nn.Module]:
    heads = width // config.head_dim
    return [
        SpatialTransformer(width, heads, config.head_dim, config.context_dim),
        TemporalTransformer(width, heads, config.head_dim),
    ]


def _block(config: UniAnimateConfig, level: int, in_width: int, width: int) -> list[nn.Module]:
    """One residual block of a level, with the transformers where the level has them."""
    transformers = _transformers(config, width) if config.has_attention(level) else []
    return [ResBlock(in_width, width, config.embed_dim), *transformers]


def _run(block: nn.Module, given: list[Tensor], emb: Tensor, context: Context, frames: int) -> Tensor:
    """Apply the layers of a block in order, each to what it takes; a down-block is its one layer itself.

    given: the one input, taken out of the list so that its memory is free after its last use.
    """
    x = given.pop()
    for layer in block if isinstance(block, nn.ModuleList) else [block]:
        if isinstance(layer, ResBlock):
            x = layer(x, emb, frames)
        elif isinstance(layer, SpatialTransformer):
            x = layer(x, context if isinstance(context, Tensor) else context.layers[layer])
        elif isinstance(layer, TemporalTransformer):
            x = layer(x, frames)
        else:
            x = layer(x)
    return x


def _one_context(contexts: Sequence[Context]) -> Context:
    """Several contexts of one kind as the rows of one; those of a single row are repeated as others need."""
    rows = max(map(len, contexts))
    if all(isinstance(context, Tensor) for context in contexts):
        return torch.cat([context.expand(rows, -1, -1) for context in contexts])
    return reduce(ProjectedContext.beside, [context.expand(rows) for context in contexts])


def _check_features(name: str, features: Tensor, x: Tensor, one_for_all: bool = False) -> None:
    """Raise ValueError unless tower features [1 or b, c, F, h, w] can stand beside latents x [b, c, F, h, w].

    one_for_all: a single frame will do as well.
    """
    clips, _, frames, h, w = features.shape
    frames_fit = frames == x.shape[2] or (one_for_all and frames == 1)
    if clips not in (1, x.shape[0]) or not frames_fit or (h, w) != x.shape[3:]:
        raise ValueError(
            f"{name} is {frames} frames of latent size {w}x{h} for {clips} clip(s), but the latents are "
            f"{x.shape[2]} frames of {x.shape[4]}x{x.shape[3]} for {x.shape[0]} clip(s)"
        )
