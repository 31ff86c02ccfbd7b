"""Image networks of the compression literature, fitted to one grey 28 x 28 image: fewer strides, the same blocks.

AlexNet: Krizhevsky et al., NIPS 2012. VGG-16: Simonyan and Zisserman, ICLR 2015 (with batch norm). ResNet-50: He et
al., CVPR 2016. MobileNet: Howard et al., arXiv 1704.04861. MobileNetV2: Sandler et al., CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def alexnet(classes: int) -> nn.Module:
    """Five convolutions and three dense layers, a quarter of the published widths."""
    return nn.Sequential(
        *_conv(1, 48, 3), nn.MaxPool2d(2),
        *_conv(48, 96, 3), nn.MaxPool2d(2),
        *_conv(96, 128, 3), *_conv(128, 128, 3), *_conv(128, 96, 3), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(96 * 9, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 256),
        nn.ReLU(), nn.Linear(256, classes),
    )  # fmt: skip


def vgg16(classes: int) -> nn.Module:
    """Thirteen convolutions of 3 x 3 in the published widths; four of the five poolings fit, one dense layer."""
    layers: list[nn.Module] = []
    before = 1
    for widths in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for width in widths:
            layers += _conv(before, width, 3)
            before = width
        if len(layers) < 35:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(before, classes))


def resnet50(classes: int) -> nn.Module:
    """Bottlenecks 3, 4, 6, 3 in the published widths behind a 3 x 3 stem of stride 2 without pooling."""
    layers: list[nn.Module] = _conv(1, 64, 3, stride=2)
    before = 64
    for width, n, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(n):
            layers.append(Bottleneck(before, width, stride if i == 0 else 1))
            before = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(before, classes))


def mobilenet(classes: int) -> nn.Module:
    """Depthwise separable convolutions, half width, strides fitted to 28 x 28."""
    layers: list[nn.Module] = _conv(1, 16, 3)
    before = 16
    for width, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 1), (256, 1), (256, 1)):
        layers += [*_conv(before, before, 3, stride=stride, groups=before), *_conv(before, width, 1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def mobilenet_v2(classes: int) -> nn.Module:
    """Inverted residuals at about a third of the published widths, two of the five strides."""
    layers: list[nn.Module] = _conv(1, 16, 3)
    before = 16
    for expand, width, n, stride in ((1, 8, 1, 1), (6, 12, 2, 2), (6, 16, 2, 2), (6, 24, 3, 1), (6, 32, 2, 1)):
        for i in range(n):
            layers.append(InvertedResidual(before, width, stride if i == 0 else 1, expand))
            before = width
    layers += _conv(before, 160, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(160, classes))


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "alexnet": alexnet,
    "mobilenet": mobilenet,
    "mobilenet-v2": mobilenet_v2,
    "resnet-50": resnet50,
    "vgg-16": vgg16,
}


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 and the way past them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.body = nn.Sequential(
            *_conv(before, width, 1), *_conv(width, width, 3, stride=stride), *_conv(width, after, 1)[:-1]
        )
        is_same = before == after and stride == 1
        self.past = nn.Identity() if is_same else nn.Sequential(*_conv(before, after, 1, stride=stride)[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (n, before, h, w) -> (n, 4 * width, h / stride, w / stride)."""
        return torch.relu(self.body(x) + self.past(x))


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; added to the input where the shapes allow."""

    def __init__(self, before: int, after: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = before * expand
        widen = _conv(before, inner, 1) if expand > 1 else []
        self.body = nn.Sequential(
            *widen, *_conv(inner, inner, 3, stride=stride, groups=inner), *_conv(inner, after, 1)[:-1]
        )
        self.is_residual = before == after and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (n, before, h, w) -> (n, after, h / stride, w / stride)."""
        y = self.body(x)
        return x + y if self.is_residual else y


def _conv(before: int, after: int, size: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution, batch norm, ReLU; the map keeps its size but for the stride."""
    conv = nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(after), nn.ReLU()]
