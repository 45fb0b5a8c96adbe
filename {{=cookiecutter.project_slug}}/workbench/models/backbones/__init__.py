"""Pretrained image networks by name: torchvision/resnet18, timm/convnext_tiny, hf/<name>."""

from .fitting import check_input
from .interface import PRETRAINED, Backbone, ImageInput
from .lookup import build_backbone, image_input

__all__ = ["PRETRAINED", "Backbone", "ImageInput", "build_backbone", "check_input", "image_input"]
