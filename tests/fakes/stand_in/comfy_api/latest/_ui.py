import random

import folder_paths
import numpy as np
from PIL import Image as PILImage

from ._io import FolderType, _UIOutput


class SavedResult(dict):
    def __init__(self, filename, subfolder, type):
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)


class SavedImages(_UIOutput):
    def __init__(self, results, is_animated=False):
        self.results = results
        self.is_animated = is_animated

    def as_dict(self):
        return {"images": self.results} | ({"animated": (True,)} if self.is_animated else {})


class PreviewImage(_UIOutput):
    def __init__(self, image, animated=False, cls=None, **kwargs):
        prefix = "ComfyUI_temp_" + "".join(random.choice("abcdefghijklmnopqrstupvxyz") for _ in range(5))
        place = folder_paths.get_save_image_path(prefix, folder_paths.get_temp_directory())
        self.animated = animated
        self.values = []
        for number, frame in enumerate(image):
            file = f"{place[1]}_{number + 1:05}_.png"
            picture = np.clip(255.0 * frame.cpu().numpy(), 0, 255).astype(np.uint8)
            PILImage.fromarray(picture).save(f"{place[0]}/{file}")
            self.values.append(SavedResult(file, place[3], FolderType.temp))

    def as_dict(self):
        return {"images": self.values, "animated": (self.animated,)}


class PreviewVideo(_UIOutput):
    def __init__(self, values, **kwargs):
        self.values = values

    def as_dict(self):
        return {"images": self.values, "animated": (True,)}


class PreviewText(_UIOutput):
    def __init__(self, value, **kwargs):
        self.value = value

    def as_dict(self):
        return {"text": (self.value,)}
