"""The core nodes that shipped workflows use, by the inputs, outputs and behaviour that core's have."""

from __future__ import annotations

import hashlib
import json
import random
from fractions import Fraction
from pathlib import Path

import folder_paths
import numpy as np
import torch
from comfy_api.latest import InputImpl, Types, io, ui
from PIL import Image, ImageOps


def _files(kind):
    folder = Path(folder_paths.get_input_directory())
    names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return sorted(folder_paths.filter_files_content_types(names, [kind]))


class LoadImage:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": (_files("image"), {"image_upload": True})}}

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"
    CATEGORY = "image"

    @classmethod
    def IS_CHANGED(cls, image):
        return hashlib.sha256(Path(folder_paths.get_annotated_filepath(image)).read_bytes()).hexdigest()

    @classmethod
    def VALIDATE_INPUTS(cls, image):
        return folder_paths.exists_annotated_filepath(image) or f"Invalid image file: {image}"

    def load_image(self, image):
        picture = ImageOps.exif_transpose(Image.open(folder_paths.get_annotated_filepath(image)))
        pixels = torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.float32) / 255)[None]
        mask = torch.zeros(1, 64, 64)
        if "A" in picture.getbands():
            mask = 1 - torch.from_numpy(np.array(picture.getchannel("A"), dtype=np.float32) / 255)[None]
        return pixels, mask


class SaveImage:
    TYPE = "output"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    RETURN_TYPES = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    CATEGORY = "image"

    def save_images(self, images, filename_prefix="ComfyUI", prompt=None, extra_pnginfo=None):
        base = (
            folder_paths.get_temp_directory() if self.TYPE == "temp" else folder_paths.get_output_directory()
        )
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, base)
        results = []
        for number, image in enumerate(images):
            file = f"{name}_{counter + number:05}_.png"
            pixels = np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(Path(folder, file))
            results.append({"filename": file, "subfolder": subfolder, "type": self.TYPE})
        return {"ui": {"images": results}}


class PreviewImage(SaveImage):
    TYPE = "temp"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"images": ("IMAGE",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save_images(self, images, prompt=None, extra_pnginfo=None):
        return super().save_images(images, f"preview_{random.randrange(10**6)}", prompt, extra_pnginfo)


class VAEDecode:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",), "vae": ("VAE",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "decode"
    CATEGORY = "latent"

    def decode(self, vae, samples):
        return (vae.decode(samples["samples"]),)


class VAEEncode:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pixels": ("IMAGE",), "vae": ("VAE",)}}

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "encode"
    CATEGORY = "latent"

    def encode(self, vae, pixels):
        return ({"samples": vae.encode(pixels[:, :, :, :3])},)


class CLIPTextEncode:
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"text": ("STRING", {"multiline": True, "dynamicPrompts": True}), "clip": ("CLIP",)}
        }

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "encode"
    CATEGORY = "conditioning"

    def encode(self, clip, text):
        return (clip.encode_from_tokens_scheduled(clip.tokenize(text)),)


class CLIPVisionEncode:
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"clip_vision": ("CLIP_VISION",), "image": ("IMAGE",), "crop": (["center", "none"],)}
        }

    RETURN_TYPES = ("CLIP_VISION_OUTPUT",)
    FUNCTION = "encode"
    CATEGORY = "conditioning"

    def encode(self, clip_vision, image, crop):
        return (clip_vision.encode_image(image, crop=crop == "center"),)


class EmptyLatentImage:
    @classmethod
    def INPUT_TYPES(cls):
        size = {"default": 512, "min": 16, "max": 16384, "step": 8}
        return {
            "required": {
                "width": ("INT", size),
                "height": ("INT", size),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
            }
        }

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "generate"
    CATEGORY = "latent"

    def generate(self, width, height, batch_size=1):
        return ({"samples": torch.zeros(batch_size, 4, height // 8, width // 8)},)


class EmptyImage:
    @classmethod
    def INPUT_TYPES(cls):
        size = {"default": 512, "min": 1, "max": 16384, "step": 1}
        return {
            "required": {
                "width": ("INT", size),
                "height": ("INT", size),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
                "color": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"}),
            }
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"
    CATEGORY = "image"

    def generate(self, width, height, batch_size=1, color=0):
        colour = torch.tensor([color >> 16 & 255, color >> 8 & 255, color & 255]) / 255
        return (colour.expand(batch_size, height, width, 3).clone(),)


class CreateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CreateVideo",
            category="image/video",
            inputs=[
                io.Image.Input("images"),
                io.Float.Input("fps", default=30.0, min=1.0, max=120.0, step=1.0),
                io.Audio.Input("audio", optional=True),
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def execute(cls, images, fps, audio=None):
        components = Types.VideoComponents(images=images, audio=audio, frame_rate=Fraction(fps))
        return io.NodeOutput(InputImpl.VideoFromComponents(components))


class GetVideoComponents(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GetVideoComponents",
            category="image/video",
            inputs=[io.Video.Input("video")],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Float.Output(display_name="fps"),
            ],
        )

    @classmethod
    def execute(cls, video):
        components = video.get_components()
        return io.NodeOutput(components.images, components.audio, float(components.frame_rate))


class LoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LoadVideo",
            category="image/video",
            inputs=[io.Combo.Input("file", options=_files("video"), upload=io.UploadType.video)],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def execute(cls, file):
        return io.NodeOutput(InputImpl.VideoFromFile(folder_paths.get_annotated_filepath(file)))

    @classmethod
    def fingerprint_inputs(cls, file):
        return Path(folder_paths.get_annotated_filepath(file)).stat().st_mtime

    @classmethod
    def validate_inputs(cls, file):
        return folder_paths.exists_annotated_filepath(file) or f"Invalid video file: {file}"


class SaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SaveVideo",
            category="image/video",
            inputs=[
                io.Video.Input("video"),
                io.String.Input("filename_prefix", default="video/ComfyUI"),
                io.Combo.Input("format", options=Types.VideoContainer.as_input(), default="auto"),
                io.Combo.Input("codec", options=Types.VideoCodec.as_input(), default="auto"),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, video, filename_prefix, format, codec):
        width, height = video.get_dimensions()
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
        file = f"{name}_{counter:05}_.{Types.VideoContainer.get_extension(format)}"
        metadata = json.loads(json.dumps({"prompt": cls.hidden.prompt}))
        video.save_to(str(Path(folder, file)), format=format, codec=codec, metadata=metadata)
        return io.NodeOutput(ui=ui.PreviewVideo([ui.SavedResult(file, subfolder, io.FolderType.output)]))


NODES = {
    node.__name__: node
    for node in (
        LoadImage,
        SaveImage,
        PreviewImage,
        VAEDecode,
        VAEEncode,
        CLIPTextEncode,
        CLIPVisionEncode,
        EmptyLatentImage,
        EmptyImage,
        CreateVideo,
        GetVideoComponents,
        LoadVideo,
        SaveVideo,
    )
}
