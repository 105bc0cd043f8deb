"""Inputs, outputs, schemas and the node base class as 0.3.64 has them; later fields are errors here."""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from enum import Enum


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"


class HiddenHolder:
    """What ``cls.hidden`` is while a node runs."""

    def __init__(self, unique_id, prompt, extra_pnginfo, dynprompt):
        self.unique_id = unique_id
        self.prompt = prompt
        self.extra_pnginfo = extra_pnginfo
        self.dynprompt = dynprompt

    @classmethod
    def from_dict(cls, d):
        return cls(*((d or {}).get(key) for key in Hidden))


def _without_none(entries):
    return {key: value for key, value in entries.items() if value is not None}


class Input:
    io_type = None

    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None):
        self.id = id
        self.display_name = display_name
        self.optional = optional
        self.tooltip = tooltip
        self.lazy = lazy
        self.extra_dict = extra_dict or {}

    def as_dict(self):
        entries = {
            "display_name": self.display_name,
            "optional": self.optional,
            "tooltip": self.tooltip,
            "lazy": self.lazy,
        }
        return _without_none(entries) | self.extra_dict

    def get_io_type(self):
        return self.io_type


class WidgetInput(Input):
    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        socketless=None,
        widget_type=None,
        force_input=None,
        extra_dict=None,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
        self.default = default
        self.socketless = socketless
        self.widget_type = widget_type
        self.force_input = force_input

    def as_dict(self):
        entries = {"default": self.default, "socketless": self.socketless, "forceInput": self.force_input}
        return super().as_dict() | _without_none(entries)


class Output:
    io_type = None

    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.id = id
        self.display_name = display_name
        self.tooltip = tooltip
        self.is_output_list = is_output_list


class ComfyTypeIO:
    Input = Input
    Output = Output


def comfytype(io_type, **kwargs):
    """Gives a type and its Input and Output classes their name on the wire."""

    def decorate(cls):
        cls.io_type = io_type
        for part in ("Input", "Output"):
            setattr(cls, part, type(part, (getattr(cls, part),), {"io_type": io_type}))
        return cls

    return decorate


def Custom(io_type):
    return comfytype(io_type)(type("CustomComfyType", (ComfyTypeIO,), {}))


@comfytype("BOOLEAN")
class Boolean(ComfyTypeIO):
    class Input(WidgetInput):
        def __init__(
            self,
            id,
            display_name=None,
            optional=False,
            tooltip=None,
            lazy=None,
            default=None,
            label_on=None,
            label_off=None,
            socketless=None,
            force_input=None,
        ):
            super().__init__(
                id, display_name, optional, tooltip, lazy, default, socketless, None, force_input
            )
            self.labels = {"label_on": label_on, "label_off": label_off}

        def as_dict(self):
            return super().as_dict() | _without_none(self.labels)


@comfytype("INT")
class Int(ComfyTypeIO):
    class Input(WidgetInput):
        def __init__(
            self,
            id,
            display_name=None,
            optional=False,
            tooltip=None,
            lazy=None,
            default=None,
            min=None,
            max=None,
            step=None,
            control_after_generate=None,
            display_mode=None,
            socketless=None,
            force_input=None,
        ):
            super().__init__(
                id, display_name, optional, tooltip, lazy, default, socketless, None, force_input
            )
            self.min, self.max, self.step = min, max, step
            self.control_after_generate = control_after_generate

        def as_dict(self):
            entries = {
                "min": self.min,
                "max": self.max,
                "step": self.step,
                "control_after_generate": self.control_after_generate,
            }
            return super().as_dict() | _without_none(entries)


@comfytype("FLOAT")
class Float(ComfyTypeIO):
    class Input(WidgetInput):
        def __init__(
            self,
            id,
            display_name=None,
            optional=False,
            tooltip=None,
            lazy=None,
            default=None,
            min=None,
            max=None,
            step=None,
            round=None,
            display_mode=None,
            socketless=None,
            force_input=None,
        ):
            super().__init__(
                id, display_name, optional, tooltip, lazy, default, socketless, None, force_input
            )
            self.min, self.max, self.step, self.round = min, max, step, round

        def as_dict(self):
            entries = {"min": self.min, "max": self.max, "step": self.step, "round": self.round}
            return super().as_dict() | _without_none(entries)


@comfytype("STRING")
class String(ComfyTypeIO):
    class Input(WidgetInput):
        def __init__(
            self,
            id,
            display_name=None,
            optional=False,
            tooltip=None,
            lazy=None,
            multiline=False,
            placeholder=None,
            default=None,
            dynamic_prompts=None,
            socketless=None,
            force_input=None,
        ):
            super().__init__(
                id, display_name, optional, tooltip, lazy, default, socketless, None, force_input
            )
            self.multiline, self.placeholder, self.dynamic_prompts = multiline, placeholder, dynamic_prompts

        def as_dict(self):
            entries = {
                "multiline": self.multiline,
                "placeholder": self.placeholder,
                "dynamicPrompts": self.dynamic_prompts,
            }
            return super().as_dict() | _without_none(entries)


@comfytype("COMBO")
class Combo(ComfyTypeIO):
    class Input(WidgetInput):
        def __init__(
            self,
            id,
            options=None,
            display_name=None,
            optional=False,
            tooltip=None,
            lazy=None,
            default=None,
            control_after_generate=None,
            upload=None,
            image_folder=None,
            remote=None,
            socketless=None,
        ):
            if isinstance(options, type) and issubclass(options, Enum):
                options = [member.value for member in options]
            default = default.value if isinstance(default, Enum) else default
            super().__init__(id, display_name, optional, tooltip, lazy, default, socketless)
            self.options = options
            self.control_after_generate = control_after_generate
            self.upload = upload

        def as_dict(self):
            entries = {
                "multiselect": False,
                "options": self.options,
                "control_after_generate": self.control_after_generate,
            }
            upload = {self.upload.value: True} if self.upload else {}
            return super().as_dict() | _without_none(entries) | upload


@comfytype("COMFY_MULTITYPED_V3")
class MultiType(ComfyTypeIO):
    class Input(Input):
        """Several types in one socket."""

        def __init__(
            self, id, types, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None
        ):
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
            self.types = types

        def get_io_type(self):
            return ",".join(kind.io_type for kind in self.types)


Image = Custom("IMAGE")
Mask = Custom("MASK")
Latent = Custom("LATENT")
Conditioning = Custom("CONDITIONING")
Clip = Custom("CLIP")
ControlNet = Custom("CONTROL_NET")
Vae = Custom("VAE")
Model = Custom("MODEL")
ClipVision = Custom("CLIP_VISION")
ClipVisionOutput = Custom("CLIP_VISION_OUTPUT")
Audio = Custom("AUDIO")
Video = Custom("VIDEO")
AnyType = Custom("*")


@dataclass
class NodeInfoV1:
    input: dict = None
    input_order: dict = None
    output: list = None
    output_is_list: list = None
    output_name: list = None
    output_tooltips: list = None
    name: str = None
    display_name: str = None
    description: str = None
    python_module: object = None
    category: str = None
    output_node: bool = None
    deprecated: bool = None
    experimental: bool = None
    api_node: bool = None


@dataclass
class Schema:
    node_id: str
    display_name: str = None
    category: str = "sd"
    inputs: list = None
    outputs: list = None
    hidden: list = None
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def finalize(self):
        if self.is_output_node:
            wanted = [Hidden.prompt, Hidden.extra_pnginfo]
            self.hidden = (self.hidden or []) + [key for key in wanted if key not in (self.hidden or [])]
        for number, output in enumerate(self.outputs or []):
            output.id = output.id or f"_{number}_{output.io_type}_"

    def validate(self):
        ids = Counter(part.id for part in (self.inputs or []) + (self.outputs or []))
        twice = [name for name, count in ids.items() if count > 1]
        if twice:
            raise ValueError(f"Ids must be unique, but {twice} are not.")

    def get_v1_info(self, cls):
        inputs = {"required": {}}
        for part in self.inputs or []:
            options = {key: value for key, value in part.as_dict().items() if key != "optional"}
            inputs.setdefault("optional" if part.optional else "required", {})[part.id] = (
                part.get_io_type(),
                options,
            )
        for key in self.hidden or []:
            inputs.setdefault("hidden", {})[key.name] = (key.value,)
        outputs = self.outputs or []
        return NodeInfoV1(
            input=inputs,
            input_order={key: list(value) for key, value in inputs.items()},
            output=[part.io_type for part in outputs],
            output_is_list=[part.is_output_list for part in outputs],
            output_name=[part.display_name or part.io_type for part in outputs],
            output_tooltips=[part.tooltip for part in outputs],
            name=self.node_id,
            display_name=self.display_name,
            description=self.description,
            python_module=getattr(cls, "RELATIVE_PYTHON_MODULE", "nodes"),
            category=self.category,
            output_node=self.is_output_node,
            deprecated=self.is_deprecated,
            experimental=self.is_experimental,
            api_node=self.is_api_node,
        )


class _FromInfo:
    """A class attribute that the schema answers."""

    def __init__(self, field):
        self.field = field

    def __get__(self, instance, owner):
        return getattr(owner.GET_SCHEMA().get_v1_info(owner), self.field)


class ComfyNode(ABC):
    RELATIVE_PYTHON_MODULE = None
    hidden = None

    FUNCTION = "EXECUTE_NORMALIZED"
    DESCRIPTION = _FromInfo("description")
    CATEGORY = _FromInfo("category")
    OUTPUT_NODE = _FromInfo("output_node")
    RETURN_TYPES = _FromInfo("output")
    RETURN_NAMES = _FromInfo("output_name")
    OUTPUT_TOOLTIPS = _FromInfo("output_tooltips")
    OUTPUT_IS_LIST = _FromInfo("output_is_list")

    @classmethod
    @abstractmethod
    def define_schema(cls): ...

    @classmethod
    @abstractmethod
    def execute(cls, **kwargs): ...

    @classmethod
    def GET_SCHEMA(cls):
        schema = cls.define_schema()
        schema.finalize()
        schema.validate()
        return schema

    @classmethod
    def INPUT_TYPES(cls, include_hidden=True, return_schema=False):
        schema = cls.GET_SCHEMA()
        inputs = schema.get_v1_info(cls).input
        if not include_hidden:
            inputs.pop("hidden", None)
        return (inputs, schema) if return_schema else inputs

    @classmethod
    def PREPARE_CLASS_CLONE(cls, hidden_inputs):
        return type(f"{cls.__name__}Clone", (cls,), {"hidden": HiddenHolder.from_dict(hidden_inputs)})

    @classmethod
    def EXECUTE_NORMALIZED(cls, *args, **kwargs):
        returned = cls.execute(*args, **kwargs)
        if returned is None:
            return NodeOutput()
        if isinstance(returned, tuple):
            return NodeOutput(*returned)
        if not isinstance(returned, NodeOutput):
            raise TypeError(
                f"A node returns io.NodeOutput; {cls.__name__} returned {type(returned).__name__}."
            )
        return returned


class NodeOutput:
    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self):
        return self.args if self.args else None


class _UIOutput(ABC):
    @abstractmethod
    def as_dict(self): ...
