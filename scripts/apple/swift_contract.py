"""Compares the contract of the Swift bridge: the functions, structs and constants of the C header, those of the Rust
side, and the functions of the Swift file. Names, order and types must agree."""

import re
import sys
from pathlib import Path

APPLE = Path(__file__).parents[2] / "crates/apple"
PREFIX = "milwright_swift_"

# One name for each type; `p` is a pointer to.
C = {"int32_t": "i32", "int64_t": "i64", "uint64_t": "u64", "char": "char", "void": "void"}
RUST = {"c_char": "char", "c_void": "void"}
SWIFT = {"Int32": "i32", "Int64": "i64", "UInt64": "u64", "CChar": "char"}


def c_type(text):
    """`const char *_Nonnull` is `p char`."""
    pointers = text.count("*")
    name = re.sub(r"\b(const|_Nonnull|_Nullable)\b|\*", " ", text).split()
    assert len(name) == 1, text
    return "p " * pointers + C.get(name[0], name[0])


def c_declaration(text):
    """`const char *_Nonnull path` is ("path", "p char")."""
    text, name = re.fullmatch(r"(.*?)(\w+)", text.strip(), re.DOTALL).groups()
    return name, c_type(text)


def c_list(text):
    text = text.strip()
    return [] if text in ("", "void") else [c_declaration(part) for part in text.split(",")]


def header(text):
    text = re.sub(r"//.*", "", text)
    constants = {
        name: value.strip('"') for name, value in re.findall(r'#define (MILWRIGHT_SWIFT_\w+) (\d+|"[^"]*")', text)
    }
    text = re.sub(r"^#.*", "", text, flags=re.MULTILINE)
    structs = {
        name: [c_declaration(field) for field in body.split(";") if field.strip()]
        for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", text, re.DOTALL)
    }
    callbacks = {
        name: (c_list(arguments), "void")
        for name, arguments in re.findall(r"typedef void \(\*(\w+)\)\((.*?)\);", text, re.DOTALL)
    }
    rest = re.sub(r"typedef .*?;", "", re.sub(r"typedef struct.*?\} \w+;", "", text, flags=re.DOTALL), flags=re.DOTALL)
    functions = {
        name: (c_list(arguments), c_type(result))
        for result, name, arguments in re.findall(r"([\w \*]+?)\b(" + PREFIX + r"\w+)\((.*?)\);", rest, re.DOTALL)
    }
    return constants, structs, callbacks, functions


def rust_type(text):
    pointers = len(re.findall(r"\*(?:const|mut)", text))
    name = re.sub(r"\*(?:const|mut)", "", text).strip()
    return "p " * pointers + RUST.get(name, name)


def rust_list(text):
    pairs = [part.split(":") for part in text.split(",") if part.strip()]
    return [(re.sub(r"^pub(\(super\))?\s+", "", name.strip()), rust_type(type_)) for name, type_ in pairs]


def rust(text):
    text = re.sub(r"//.*", "", text)
    constants = {
        name: value.strip('"')
        for name, value in re.findall(r'const (MILWRIGHT_SWIFT_\w+): [&\w]+ = (\d+|"[^"]*");', text)
    }
    structs = {
        name: rust_list(body)
        for name, body in re.findall(r"#\[repr\(C\)\][^{]*?struct (\w+) \{(.*?)\}", text, re.DOTALL)
    }
    callbacks = {
        name: (rust_list(arguments), "void")
        for name, arguments in re.findall(r'type (\w+) =\s*extern "C" fn\((.*?)\);', text, re.DOTALL)
    }
    functions = {
        name: (rust_list(arguments), rust_type(result) if result else "void")
        for name, arguments, result in re.findall(
            r"fn (" + PREFIX + r"\w+)\((.*?)\)(?: -> ([^;]*))?;", text, re.DOTALL
        )
    }
    return constants, structs, callbacks, functions


def swift_type(text):
    text = text.replace("@escaping", "").strip().rstrip("?")
    pointer = re.fullmatch(r"Unsafe(?:Mutable)?Pointer<(\w+)>", text)
    if text == "UnsafeMutableRawPointer":
        return "p void"
    if pointer:
        return "p " + SWIFT.get(pointer[1], pointer[1])
    return SWIFT.get(text, text)


def swift(text):
    """The names of parameters, and whether each may be nil, too."""
    text = re.sub(r"//.*", "", text)
    functions, optional = {}, {}
    pattern = r'@_cdecl\("(\w+)"\)\s*public func \w+\((.*?)\)(?: -> (\w+\??))? \{'
    for name, arguments, result in re.findall(pattern, text, re.DOTALL):
        pairs = [part.split(":") for part in arguments.split(",") if part.strip()]
        pairs = [(re.fullmatch(r"_ (\w+)", n.strip())[1], t) for n, t in pairs]
        functions[name] = ([(n, swift_type(t)) for n, t in pairs], swift_type(result) if result else "void")
        optional[name] = [n for n, t in pairs if t.strip().endswith("?")]
    assert len(functions) == text.count("@_cdecl("), "a function of the Swift file was not understood"
    return functions, optional


def nullable(text):
    """The parameters of each function of the header that may be null."""
    text = re.sub(r"//.*", "", text)
    found = {}
    for name, arguments in re.findall(r"\b(" + PREFIX + r"\w+)\(([^()]*)\);", text):
        found[name] = [re.search(r"(\w+)\s*$", part)[1] for part in arguments.split(",") if "_Nullable" in part]
    return found


def main():
    c_text = (APPLE / "swift/milwright_swift.h").read_text()
    constants, structs, callbacks, functions = header(c_text)
    rust_constants, rust_structs, rust_callbacks, rust_functions = rust((APPLE / "src/swift/ffi.rs").read_text())
    swift_functions, optional = swift((APPLE / "swift/MilwrightSwift.swift").read_text())
    assert len(structs) == 4 and len(callbacks) == 4 and len(functions) == 8 and len(constants) == 9, "header"
    failures = []
    for what, ours, theirs in [
        ("constant, Rust", constants, rust_constants),
        ("struct, Rust", structs, rust_structs),
        ("callback, Rust", callbacks, rust_callbacks),
        ("function, Rust", functions, rust_functions),
        ("function, Swift", functions, swift_functions),
        ("what may be null, Swift", nullable(c_text), optional),
    ]:
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                failures.append(f"{what}: {name}\n  header: {ours.get(name)}\n  other:  {theirs.get(name)}")
    if failures:
        sys.exit("\n".join(failures))
    print(
        f"header, Rust and Swift agree: {len(functions)} functions, {len(callbacks)} callbacks, {len(structs)} structs, "
        f"{len(constants)} constants"
    )


if __name__ == "__main__":
    main()
