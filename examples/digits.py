#!/usr/bin/env python3
"""Train the example model: a small convolutional network that reads handwritten digits.

    python examples/digits.py

It trains on scikit-learn's digits (1,797 images of 8x8 pixels, values 0 to 16), converts the network with coremltools
and writes, beside this script:

    digits.mlpackage     input  `image` float32 [1, 1, 8, 8], raw pixel values 0 to 16
                         output `digit` (int64, the label) and `digit_probs` (label to probability)
    digits_test_x.npy    the held-out images, float32 [N, 1, 8, 8]
    digits_test_y.npy    their labels, int64 [N]

Everything is seeded, and the package's identifiers are fixed, so a second run with the same versions gives the same
weights. Needs coremltools 9.0, torch 2.7, scikit-learn and numpy (scripts/requirements.txt).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from packages import save_package  # isort: skip  (first: it silences what follows)

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 20
EPOCHS = 60
MINIMUM_ACCURACY = 0.98


class Digits(nn.Module):
    """Two convolutions and two linear layers, 85,450 parameters; returns probabilities."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10)
        )

    def logits(self, image):
        return self.classifier(self.features(image / 16.0))

    def forward(self, image):
        return torch.softmax(self.logits(image), dim=1)


def held_out_split():
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32).reshape(-1, 1, 8, 8)
    return train_test_split(images, labels.astype(np.int64), test_size=0.2, random_state=SEED, stratify=labels)


def train(images, labels):
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = EPOCHS * (len(images) // 64 + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(model.train().logits(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def convert(model):
    import coremltools as ct

    converted = ct.convert(
        torch.jit.trace(model, torch.zeros(1, 1, 8, 8)),
        inputs=[ct.TensorType("image", shape=(1, 1, 8, 8), dtype=np.float32)],
        classifier_config=ct.ClassifierConfig(list(range(10)), predicted_feature_name="digit"),
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS16,
    )
    converted.author = "Milwright"
    converted.license = "MIT OR Apache-2.0; trained on the UCI optical digits as shipped by scikit-learn"
    converted.short_description = "Reads one handwritten digit of 8x8 pixels."
    converted.input_description["image"] = "Pixel values from 0 (paper) to 16 (ink)."
    return converted


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    out = parser.parse_args().out
    train_x, test_x, train_y, test_y = held_out_split()
    model = train(train_x, train_y)
    with torch.no_grad():
        accuracy = (model(torch.from_numpy(test_x)).argmax(1).numpy() == test_y).mean()
    print(f"accuracy on {len(test_y)} held-out images: {accuracy:.4f}")
    if accuracy < MINIMUM_ACCURACY:
        sys.exit(f"below {MINIMUM_ACCURACY}: nothing written")
    save_package(convert(model), out / "digits.mlpackage")
    np.save(out / "digits_test_x.npy", test_x)
    np.save(out / "digits_test_y.npy", test_y)


if __name__ == "__main__":
    main()
