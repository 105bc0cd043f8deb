import torch
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image

MAX_PREVIEW_RESOLUTION = args.preview_size


class LatentPreviewer:
    def decode_latent_to_preview(self, x0):
        raise NotImplementedError

    def decode_latent_to_preview_image(self, preview_format, x0):
        return ("JPEG", self.decode_latent_to_preview(x0), MAX_PREVIEW_RESOLUTION)


class Latent2RGBPreviewer(LatentPreviewer):
    def __init__(self, latent_rgb_factors, latent_rgb_factors_bias=None):
        self.factors = torch.tensor(latent_rgb_factors)

    def decode_latent_to_preview(self, x0):
        picture = x0[0].float().cpu().movedim(0, -1) @ self.factors
        return Image.fromarray(((picture + 1) / 2).clamp(0, 1).mul(255).byte().numpy())


def get_previewer(device, latent_format):
    if args.preview_method == LatentPreviewMethod.NoPreviews:
        return None
    return Latent2RGBPreviewer(latent_format.latent_rgb_factors)
