"""One CPU, all models fit; what was loaded is on record in ``current_loaded_models``."""

import torch

current_loaded_models = []
_interrupted = False


class InterruptProcessingException(BaseException):
    """A BaseException as in newer versions, the kind that is easier to swallow by mistake in older ones."""


def get_torch_device():
    return torch.device("cpu")


def unet_offload_device():
    return torch.device("cpu")


def intermediate_device():
    return torch.device("cpu")


def get_free_memory(dev=None, torch_free_too=False):
    free = 8 * 2**30
    return (free, free) if torch_free_too else free


def unet_dtype(
    device=None,
    model_params=0,
    supported_dtypes=(torch.float16, torch.bfloat16, torch.float32),
    weight_dtype=None,
):
    return torch.float32


def unet_manual_cast(
    weight_dtype, inference_device, supported_dtypes=(torch.float16, torch.bfloat16, torch.float32)
):
    return None if weight_dtype == torch.float32 else torch.float32


def module_size(module):
    return sum(tensor.nelement() * tensor.element_size() for tensor in module.state_dict().values())


def load_models_gpu(
    models, memory_required=0, force_patch_weights=False, minimum_memory_required=None, force_full_load=False
):
    for patcher in models:
        if patcher not in current_loaded_models:
            patcher.partially_load(patcher.load_device, extra_memory=1e32)
            current_loaded_models.insert(0, patcher)


def unload_all_models():
    while current_loaded_models:
        current_loaded_models.pop().detach()


def soft_empty_cache(force=False):
    pass


def interrupt_current_processing(value=True):
    global _interrupted
    _interrupted = value


def processing_interrupted():
    return _interrupted


def throw_exception_if_processing_interrupted():
    if _interrupted:
        interrupt_current_processing(False)
        raise InterruptProcessingException
