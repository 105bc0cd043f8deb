import comfy.model_management


class ModelPatcher:
    """Moves a module between two devices, whole or in part, and knows its size."""

    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        self.model = model
        self.load_device = load_device
        self.offload_device = offload_device
        self.size = size
        self.parent = None
        if getattr(model, "device", None) is None:
            model.device = offload_device
        model.model_loaded_weight_memory = 0

    def model_size(self):
        self.size = self.size or comfy.model_management.module_size(self.model)
        return self.size

    def loaded_size(self):
        return self.model.model_loaded_weight_memory

    def is_clone(self, other):
        return hasattr(other, "model") and self.model is other.model

    def clone(self):
        twin = type(self)(self.model, self.load_device, self.offload_device, self.size)
        twin.parent = self
        return twin

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        """Layers that can be cast stay behind, largest first, when they do not all fit."""
        room = extra_memory
        for layer in self.model.modules():
            if hasattr(layer, "comfy_cast_weights"):
                size = comfy.model_management.module_size(layer)
                layer.comfy_cast_weights = size > room
                room -= 0 if size > room else size
        if room > 0:
            self.model.to(device_to)
        self.model.device = device_to
        self.model.model_loaded_weight_memory = self.model_size()
        return self.model_size()

    def detach(self, unpatch_all=True):
        self.model.to(self.offload_device)
        self.model.device = self.offload_device
        self.model.model_loaded_weight_memory = 0
        return self.model

    def current_loaded_device(self):
        return self.model.device
