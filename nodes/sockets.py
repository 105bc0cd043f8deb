"""Socket types of our own, and those of neighbours by the names they use."""

from __future__ import annotations

from .api import io

Poses = io.Custom("XDUA_POSES")
"""``pose_align.pose.PoseSequence``: one person through time, in pixels of a canvas."""

PoseDetector = io.Custom("XDUA_POSE_DETECTOR")
"""``pose_align.detector.PoseDetector``."""

UniAnimate = io.Custom("XDUA_UNIANIMATE")
XDyna = io.Custom("XDUA_XDYNA")
"""A loaded network in the care of ComfyUI's memory management."""

XDynaControlNet = io.Custom("XDUA_XDYNA_CONTROLNET")
"""X-Dyna's ControlNet for poses or for face maps."""

XDynaConditions = io.Custom("XDUA_XDYNA_CONDITIONS")
"""``nodes.xdyna.Scene``: all that X-Dyna is told of a clip."""

Control = io.Custom("XDUA_CONTROL")
"""Everything but noise that a sampler needs: the conditions of one clip."""

Noise = io.Custom("XDUA_NOISE")
"""Starting noise in sampler units, [1, 4, F, H/8, W/8] on the CPU, with what it was made from."""

Windows = io.Custom("XDUA_WINDOWS")
"""How a long clip is cut into overlapping windows."""

PoseKeypoint = io.Custom("POSE_KEYPOINT")
"""List of one dict per frame, in either dialect (peers 3b)."""

VideoInfo = io.Custom("VHS_VIDEOINFO")
"""dict of VideoHelperSuite; ``loaded_fps`` is read."""

ContextOptions = io.Custom("CONTEXT_OPTIONS")
"""AnimateDiff-Evolved's windows, see ``nodes.context``."""

RunOptions = io.Custom("XDUA_RUN_OPTIONS")
"""``nodes.run_options.RunOptions``: what a long run keeps, and how much it does at once."""

Fast = io.Custom("XDUA_FAST")
"""``video_core.fast.Fast``: what makes a result sooner and a little different."""
