#!/usr/bin/env python3
"""Compares what the bridge says to Core ML with a second source: the metadata of pyobjc, made from Apple's headers.

Usage: check_metadata.py [WHEEL]      without WHEEL, the pinned one is fetched from PyPI

* Every enumeration value of objc2-core-ml that pyobjc knows has the same number.
* Every message that the bridge sends is a method of objc2-core-ml or of Foundation, with as many arguments.
* Where pyobjc knows the method: the argument that is a block, what the block takes, and the argument that is an
  `NSError **` are where the bridge has them.
* The constants that the bridge reads exist.
"""

import hashlib
import json
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "pyobjc-framework-CoreML==12.2.2"
PLATFORM = ["--platform=macosx_11_0_universal2", "--python-version=3.12", "--only-binary=:all:", "--no-deps"]
SHA256 = "94c129d9c1955eafc6783683ccaa08590f4cd7ef229515c8a28324032351871b"
# Messages that go to Foundation's objects.
FOUNDATION = {
    "userInfo", "name", "isKindOfClass:", "dictionaryWithObjects:forKeys:", "init", "new", "count", "alloc",
}
# The least that has to be compared: less means that this script reads something wrong.
MIN_ENUM_VALUES, MIN_SELECTORS, MIN_BLOCKS = 40, 55, 5


def main() -> int:
    wheel = Path(sys.argv[1]) if len(sys.argv) > 1 else fetch()
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel}: its hash is {found}, not {SHA256}")
    enums, constants, methods = read(wheel)
    crate = objc2_core_ml()
    problems = compare_enums(enums, crate)
    problems += compare_messages(methods, crate)
    problems += compare_constants(constants)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def fetch() -> Path:
    folder = ROOT / ".cache/apple/pyobjc"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
        subprocess.run([*command, *PLATFORM, PACKAGE], check=True)
    return next(folder.glob("*.whl"))


def read(wheel: Path):
    """Runs pyobjc's list of facts with a stand-in for its runtime, which writes them down."""
    methods = {}
    objc = types.ModuleType("objc")
    objc.arch = "arm64"
    objc._updatingMetadata = lambda on: None
    objc.registerMetaDataForSelector = lambda owner, selector, facts: methods.update({(owner.decode(), selector.decode()): facts})


    for name in ("registerNewKeywords", "registerNewKeywordsFromSelector"):
        setattr(objc, name, lambda *args, **kwargs: None)
    names = {}
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("CoreML/_metadata.py").decode()
    before = sys.modules.get("objc")
    sys.modules["objc"] = objc
    try:
        exec(compile(text, "_metadata.py", "exec"), names)
    finally:
        if before is None:
            del sys.modules["objc"]
        else:
            sys.modules["objc"] = before
    enums = dict(entry.split("@") for entry in names["enums"].split("$") if entry)
    constants = {name for name in names["constants"].split("$") if name}
    return enums, constants, methods


def objc2_core_ml() -> str:
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--locked"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    package = next(p for p in json.loads(metadata)["packages"] if p["name"] == "objc2-core-ml")
    folder = Path(package["manifest_path"]).parent / "src/generated"
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.rs")))


def compare_enums(enums, crate):
    values = re.findall(r'#\[doc\(alias = "(\w+)"\)\]\s*pub const \w+: Self = Self\(([^)]*)\);', crate)
    compared, problems = 0, []
    for name, expression in values:
        if name in enums:
            compared += 1
            value = eval(re.sub(r"[^0-9a-fA-Fx|<\- ]", "", expression))
            if value != int(enums[name]):
                problems.append(f"{name} is {enums[name]} in pyobjc and {value} in objc2-core-ml")
    print(f"{compared} enumeration values are the same")
    if compared < MIN_ENUM_VALUES:
        problems.append(f"only {compared} enumeration values were compared")
    return problems


def compare_messages(methods, crate):
    # `error:_` is how objc2 writes an error that becomes a Result.
    known = {selector.removesuffix("_") for selector in re.findall(r"method\(([\w:]+?)\)", crate)}
    known |= {selector.replace(":_", ":") for selector in re.findall(r"method\(([\w:]+)\)", crate)}
    messages = sent()
    problems = []
    facts = {}
    for (_, selector), fact in methods.items():
        facts.setdefault(selector, fact)
    blocks = errors = 0
    for selector, (where, arguments) in sorted(messages.items()):
        if selector not in known and selector not in FOUNDATION:
            problems.append(f"{where}: neither Core ML nor Foundation has {selector}")
        for index, fact in facts.get(selector, {}).get("arguments", {}).items():
            if arguments is None:
                continue
            if not 2 <= index < len(arguments) + 2:
                print(f"pyobjc means an argument {index - 1} of {selector}, which has {len(arguments)}")
                continue
            argument = arguments[index - 2]
            if "callable" in fact:
                blocks += 1
                if not re.search(r"block|handler|release", argument):
                    problems.append(f"{where}: argument {index - 1} of {selector} is a block, not {argument}")
            if fact.get("type_modifier") == b"o":
                errors += 1
                if "error" not in argument:
                    problems.append(f"{where}: argument {index - 1} of {selector} is an NSError **, not {argument}")
    print(f"{len(messages)} selectors exist; {blocks} blocks and {errors} errors are where pyobjc has them")
    if len(messages) < MIN_SELECTORS or blocks < MIN_BLOCKS:
        problems.append(f"only {len(messages)} selectors and {blocks} blocks were found in the bridge")
    return problems


def sent():
    """Every selector that the bridge sends or asks for, where, and the arguments."""
    messages = {}
    for path in sorted((ROOT / "crates/apple/src/bridge").glob("*.rs")):
        text = path.read_text()
        for selector in re.findall(r"sel!\(([\w:]+)\)", text):
            messages.setdefault(selector, (path.name, None))
        for match in re.finditer(r"msg_send!\[", text):
            parts = split(text, match.end())
            named = [part for part in parts[1:]]
            if len(named) == 1 and re.fullmatch(r"\w+", named[0]):
                messages[named[0]] = (path.name, [])
                continue
            pairs = [part.split(":", 1) for part in named]
            selector = "".join(f"{name.strip()}:" for name, _ in pairs)
            messages[selector] = (path.name, [argument.strip() for _, argument in pairs])
        # Methods of objc2-core-ml that are called by its names for them.
        for name in re.findall(r"\b(?:\w+\.|MLModel::)([a-z]\w*_\w*(?:error|completionHandler)|set[A-Z]\w+|getMutable\w+)\(", text):
            selector = "".join(f"{word}:" for word in name.split("_"))
            messages.setdefault(selector, (path.name, None))
    return messages


def split(text: str, start: int) -> list[str]:
    """The parts of a macro's arguments, up to the bracket that closes it."""
    parts, depth, part = [], 0, ""
    for character in text[start:]:
        if character in "([{":
            depth += 1
        elif character in ")]}":
            if depth == 0:
                break
            depth -= 1
        if character == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += character
    return [*parts, part.strip()] if part.strip() else parts


def compare_constants(constants):
    used = {line[1:] for line in (ROOT / "scripts/apple/symbols/CoreML.txt").read_text().split() if line.startswith("_ML")}
    print(f"{len(used)} constants exist")
    return [f"pyobjc knows no constant {name}" for name in sorted(used - constants)]


if __name__ == "__main__":
    sys.exit(main())
