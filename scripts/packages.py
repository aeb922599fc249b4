"""Write what coremltools makes: packages with reproducible bytes, and reference arrays beside them.

Importing this module first also silences coremltools' progress bars and its notes about running models, which only
macOS can do.
"""

import json
import logging
import os
import shutil
import tempfile
import uuid
import warnings
from pathlib import Path

import numpy as np

os.environ.setdefault("TQDM_DISABLE", "1")
logging.getLogger("coremltools").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="coremltools")

_NAMESPACE = uuid.UUID("6f1d6f0e-6d1c-5d7a-9b5e-3a5a0c0f4d11")
_CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"


def save_package(model, path):
    """Save the coremltools `model` as the package `path`, replacing what was there.

    coremltools names a package's items by random UUIDs, notes the day, and leaves the order of protobuf maps to
    chance; here all three are fixed, so that equal models are equal bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / "made.mlpackage"
        model.save(str(made))
        _fix_manifest(made / "Manifest.json")
        _fix_spec(made / "Data/com.apple.CoreML/model.mlmodel")
        for item in made.rglob("*"):
            item.chmod(0o755 if item.is_dir() else 0o644)
        shutil.rmtree(path, ignore_errors=True)
        made.rename(path)


def save_reference(path, inputs, outputs):
    """Save reference arrays beside the package `path`: NAME.inputs/*.npy and NAME.outputs/*.npy, by feature name."""
    for suffix, arrays in (("inputs", inputs), ("outputs", outputs)):
        folder = Path(path).with_suffix(f".{suffix}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", np.ascontiguousarray(array))


def _fix_manifest(path):
    manifest = json.loads(path.read_text())
    items = manifest["itemInfoEntries"]
    renamed = {old: str(uuid.uuid5(_NAMESPACE, item["path"])).upper() for old, item in items.items()}
    manifest["itemInfoEntries"] = {renamed[old]: item for old, item in items.items()}
    manifest["rootModelIdentifier"] = renamed[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")


def _fix_spec(path):
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model.FromString(path.read_bytes())
    spec.description.metadata.userDefined.pop(_CONVERSION_DATE, None)
    path.write_bytes(spec.SerializeToString(deterministic=True))
