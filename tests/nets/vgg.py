"""VGG-11 without max-pool: Simonyan and Zisserman 2014 (arXiv:1409.1556), as torchvision writes it, AvgPool for it."""

from torch import nn

LAYERS = (1, "down", 2, "down", 4, 4, "down", 8, 8, "down", 8, 8, "down")  # channels over `width`


class VGG(nn.Module):
    def __init__(self, width=4, num_classes=2):
        super().__init__()
        layers, channels = [], 3
        for layer in LAYERS:
            if layer == "down":
                layers += [nn.AvgPool2d(kernel_size=2, stride=2)]
            else:
                layers += [nn.Conv2d(channels, layer * width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                channels = layer * width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, 16 * width),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(16 * width, 16 * width),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(16 * width, num_classes),
        )

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)))
