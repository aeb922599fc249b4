"""Loads the packages of the node tests with coremltools, which builds each op of a program again and infers its types.

    cargo run -p milwright-testkit --bin onnx_nodes -- target/onnx-nodes/node --write=target/onnx-packages
    python scripts/onnx_packages.py target/onnx-packages

Prints why packages do not load, each reason with a count and an example. Needs coremltools.
"""

import logging
import sys
from collections import defaultdict
from pathlib import Path

import coremltools as ct
from coremltools.converters.mil.frontend.milproto.load import load

logging.disable(logging.WARNING)


def main(folder: Path) -> int:
    packages = sorted(folder.glob("*.mlpackage"))
    failures = defaultdict(list)
    for package in packages:
        try:
            spec = ct.utils.load_spec(str(package))
            weights = package / "Data" / "com.apple.CoreML" / "weights"
            load(spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights))
        except Exception as error:  # noqa: BLE001: whatever coremltools raises is the finding
            failures[str(error).splitlines()[0][:160] if str(error) else type(error).__name__].append(package.stem)
    for reason, names in sorted(failures.items(), key=lambda item: -len(item[1])):
        print(f"{len(names):4}  {reason}  ({names[0]})")
    failed = sum(map(len, failures.values()))
    print(f"{len(packages)} packages: {len(packages) - failed} load, {failed} do not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
