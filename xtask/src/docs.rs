//! `cargo xtask docs`: writes what the docs say about ops and quantizations from their lists, which keeps it right.
//!
//! * `docs/ops/README.md`: every op, by family;
//! * `docs/ops/FAMILY.md`: what each op computes, its parameters and their types in every opset;
//! * `docs/support.md`: which op exists in which opset, and whether the engine runs it;
//! * `docs/quantizations.md`: what each `--quantize` does;
//! * `docs/onnx.md`, the end of it: the ops of ONNX;
//! * `crates/milwright/src/selftest/cases.gz`: the numeric cases, for `milwright selftest`;
//! * `crates/python/python/milwright/_choices.py`: the same names, as a type for Python's type checkers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use milwright_convert::onnx::table::{self as onnx, Entry};
use milwright_cpu::Support;
use milwright_mil::ops::{Default, Kind, Param, Version};
use milwright_mil::{DType, OpKind, Opset};
use milwright_optimize::{Family, OPTIONS, Quantization};

use crate::Result;

/// The page about ONNX, and the heading of the part that is written here.
const ONNX_PAGE: &str = "docs/onnx.md";
const ONNX_OPS: &str = "## Ops";

const HEADER: &str = "<!-- Made by `cargo xtask docs` from the op table. Do not edit. -->\n\n";

/// Writes the pages, or with `check` only reports those that are out of date.
pub fn run(root: &Path, check: bool) -> Result {
    let mut pages = pages();
    let onnx = fs::read_to_string(root.join(ONNX_PAGE)).map_err(|error| format!("{ONNX_PAGE}: {error}"))?;
    pages.insert(ONNX_PAGE.into(), onnx_page(&onnx)?);
    let mut stale = Vec::new();
    for (path, text) in &pages {
        let path = root.join(path);
        if fs::read_to_string(&path).ok().as_ref() != Some(text) {
            stale.push(path.display().to_string());
            if !check {
                fs::create_dir_all(path.parent().unwrap_or(root))?;
                fs::write(&path, text)?;
            }
        }
    }
    let folder = root.join("docs/ops");
    for entry in folder.read_dir().into_iter().flatten() {
        let path = entry?.path();
        let known = path.strip_prefix(root).is_ok_and(|p| pages.contains_key(p));
        if !known {
            stale.push(path.display().to_string());
            if !check {
                fs::remove_file(&path)?;
            }
        }
    }
    if let Some(path) = archive(root, check)? {
        stale.push(path);
    }
    if check && !stale.is_empty() {
        let list = stale.join("\n  ");
        return Err(format!("out of date; run `cargo xtask docs`:\n  {list}").into());
    }
    Ok(())
}

/// Packs the numeric cases for `milwright selftest`, or with `check` only compares them. Returns the path if it was out
/// of date.
fn archive(root: &Path, check: bool) -> Result<Option<String>> {
    let path = root.join("crates/milwright/src/selftest/cases.gz");
    let ops = root.join("crates/testkit/ops");
    let mut text = String::new();
    for file in cases(&ops)? {
        let name = file.strip_prefix(&ops)?.with_extension("");
        let name = name.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        write!(text, "=== {name}\n{}", fs::read_to_string(&file)?)?;
    }
    let mut packed = String::new();
    let known = fs::read(&path).unwrap_or_default();
    if GzDecoder::new(&known[..]).read_to_string(&mut packed).is_ok() && packed == text {
        return Ok(None);
    }
    if !check {
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text.as_bytes())?;
        fs::write(&path, encoder.finish()?)?;
    }
    Ok(Some(path.display().to_string()))
}

/// The files of cases in a folder, in order.
fn cases(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(cases(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "mil") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn pages() -> BTreeMap<PathBuf, String> {
    let mut families: BTreeMap<&str, Vec<OpKind>> = BTreeMap::new();
    for &kind in OpKind::ALL {
        families.entry(kind.family().name()).or_default().push(kind);
    }
    for ops in families.values_mut() {
        ops.sort_by_key(|op| op.name());
    }
    let mut pages = BTreeMap::new();
    for (family, ops) in &families {
        pages.insert(format!("docs/ops/{family}.md").into(), family_page(family, ops));
    }
    pages.insert("docs/ops/README.md".into(), index_page(&families));
    pages.insert("docs/support.md".into(), support_page(&families));
    pages.insert("docs/quantizations.md".into(), quantizations_page());
    pages.insert("crates/python/python/milwright/_choices.py".into(), python_choices());
    pages
}

/// The page about ONNX. Its introduction is written by hand; the list of ops at its end is not.
fn onnx_page(page: &str) -> Result<String> {
    let (by_hand, _) = page.split_once(ONNX_OPS).ok_or_else(|| format!("{ONNX_PAGE} has no `{ONNX_OPS}`"))?;
    let mut domains: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in onnx::OPS {
        domains.entry(entry.domain).or_default().push(entry);
    }
    let mut page = format!(
        "{by_hand}{ONNX_OPS}\n\n<!-- Made by `cargo xtask docs` from the list of ONNX ops: from here on, do not edit. -->\n"
    );
    for (domain, entries) in domains {
        let names = |entries: &[&Entry]| {
            let mut names: Vec<String> = entries.iter().map(|e| format!("`{}`", e.name)).collect();
            names.sort();
            names.join(", ")
        };
        let (refused, lowered): (Vec<&Entry>, Vec<&Entry>) =
            entries.into_iter().partition(|e| e.refusal().is_some());
        let is_later = |e: &&Entry| e.refusal().is_some_and(|(reason, _)| reason == onnx::LATER);
        let (later, refused): (Vec<&Entry>, Vec<&Entry>) = refused.into_iter().partition(is_later);
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        page += &format!("\n**{domain}**: {}.\n", names(&lowered));
        if !later.is_empty() {
            page += &format!("\nNot yet: {}.\n", names(&later));
        }
        if !refused.is_empty() {
            page += "\nRefused:\n\n";
        }
        for (entry, (reason, _)) in refused.iter().filter_map(|e| Some((e, e.refusal()?))) {
            page += &format!("* `{}` {reason}\n", entry.name);
        }
    }
    Ok(page)
}

fn quantizations_page() -> String {
    let mut page = String::from(
        "<!-- Made by `cargo xtask docs` from the list of quantizations. Do not edit. -->\n\n# Quantizations\n\n\
         The values of `--quantize`, and of `quantize` in Python. [optimize.md](optimize.md) says which constants are \
         weights; those with NaN or infinity stay as they are.\n\n\
         | form | what becomes of a weight | weights that stay as they are | oldest opset | tolerance by default |\n\
         |---|---|---|---|---|\n",
    );
    for info in Quantization::ALL.iter().map(|q| q.info()) {
        page += &format!(
            "| `{}` | {} | {} | {} | {} dB |\n",
            info.name,
            info.effect,
            info.refuses.unwrap_or("–"),
            info.min_opset,
            info.tolerance_db
        );
    }
    page += "\n## Options\n\n\
             Options follow the name after a colon, separated by commas: `int4:block=32,asymmetric`. Blocks, groups, vectors \
             and rows need ios18.\n\n\
             | option | of | what it does |\n|---|---|---|\n";
    for option in OPTIONS {
        let of: Vec<&str> = option.of.iter().copied().map(Family::name).collect();
        page += &format!("| `{}` | {} | {} |\n", option.form, of.join(", "), option.doc);
    }
    page += "\n## Several steps\n\n\
             Steps that a plus joins are taken one after the other; they need ios18:\n\n\
             * `prune:sparsity=0.75+palette4` and `prune:ratio=2:4+int8` store the elements that are left as indices or \
             integers;\n\
             * `palette4+int8` stores the values of the table as int8, with a scale for each table;\n\
             * `int8+palette4` stores int8 values as indices into a table of integers, which the scales of the channels \
             multiply;\n\
             * `int8+prune:sparsity=0.5` and `palette4+prune:sparsity=0.5` leave out the smallest of the values that the \
             first step made;\n\
             * `float16+int4:block=32` converts the program to fp16 first.\n";
    page
}

fn python_choices() -> String {
    let names: Vec<_> = Quantization::ALL.iter().map(|q| format!("    {:?},\n", q.name())).collect();
    format!(
        "# Made by `cargo xtask docs` from the list of quantizations. Do not edit.\n\
         \"\"\"The choices that options have.\"\"\"\n\n\
         from typing import Literal\n\n\
         Quantize = Literal[\n{}]\n",
        names.concat()
    )
}

fn index_page(families: &BTreeMap<&str, Vec<OpKind>>) -> String {
    let mut page = format!("{HEADER}# Ops\n\n");
    let versions: usize = OpKind::ALL.iter().map(|op| op.versions().len()).sum();
    page += &format!("{} ops in {versions} versions.\n", OpKind::ALL.len());
    for (family, ops) in families {
        page += &format!("\n## [{}]({family}.md)\n\n", title(family));
        for op in ops {
            page += &format!("* [`{0}`]({family}.md#{0}): {1}\n", op.name(), first_sentence(op.doc()));
        }
    }
    page
}

fn family_page(family: &str, ops: &[OpKind]) -> String {
    let mut page = format!("{HEADER}# {}\n", title(family));
    for op in ops {
        page += &format!("\n## {}\n\n{}\n", op.name(), undent(op.doc()));
        for version in op.versions() {
            page += &version_section(version);
        }
        page += &match milwright_cpu::kernels::support(*op) {
            Support::Kernel | Support::Engine => String::new(),
            Support::No(reason) => format!("\nThe engine does not run it: {reason}.\n"),
        };
    }
    page
}

fn version_section(version: &Version) -> String {
    let mut text = format!("\n**From {}**\n\n", first_program_opset(version));
    if version.params().next().is_none() {
        return text + "No parameters.\n";
    }
    text += "| parameter | takes | default |\n|---|---|---|\n";
    for param in version.params() {
        text += &format!("| `{}` | {} | {} |\n", param.name, takes(param), default(param.default));
    }
    for (variable, dtypes) in version.types() {
        text += &format!("\n`{variable}` is {}.\n", names(&dtypes, " or "));
    }
    text
}

/// The first opset with ML programs that has the version.
fn first_program_opset(version: &Version) -> Opset {
    version.opset.max(Opset::Ios15)
}

fn takes(param: &Param) -> String {
    let kind = match param.kind {
        Kind::Var(variable) => format!("`{variable}`"),
        Kind::Of(dtypes) => names(dtypes, ", "),
        Kind::List => "a list".to_owned(),
        Kind::State => "a state".to_owned(),
        Kind::Any => "anything".to_owned(),
    };
    let many = if param.variadic { "one or more of " } else { "" };
    let constant = if param.constant { ", constant" } else { "" };
    format!("{many}{kind}{constant}")
}

fn default(default: Default) -> String {
    match default {
        Default::Required => "required".to_owned(),
        Default::Absent => "absent".to_owned(),
        Default::Bool(b) => format!("`{b}`"),
        Default::Int(i) => format!("`{i}`"),
        Default::Float(x) => format!("`{x:?}`"),
        Default::Str(s) => format!("`\"{s}\"`"),
    }
}

fn names(dtypes: &[DType], separator: &str) -> String {
    let names: Vec<String> = dtypes.iter().map(|d| format!("`{d}`")).collect();
    names.join(separator)
}

fn support_page(families: &BTreeMap<&str, Vec<OpKind>>) -> String {
    let opsets: Vec<Opset> = Opset::ALL.iter().copied().filter(|&o| o >= Opset::Ios15).collect();
    let mut page = format!("{HEADER}# What is supported\n\n");
    let runs = |op: &&OpKind| !matches!(milwright_cpu::kernels::support(**op), Support::No(_));
    page += &format!(
        "Milwright reads, verifies and writes {} ops; its engine runs {} of them. ML programs begin with ios15. \
         **new**: a version of the op came with this opset; ✓: the version before still holds; –: the op does not \
         exist yet.\n",
        OpKind::ALL.len(),
        OpKind::ALL.iter().filter(runs).count()
    );
    for (family, ops) in families {
        page += &format!("\n## {}\n\n| op |", title(family));
        for opset in &opsets {
            let _ = write!(page, " {opset} |");
        }
        page += " engine |\n|---|";
        page += &":-:|".repeat(opsets.len());
        page += "---|\n";
        for op in ops {
            let _ = write!(page, "| [`{0}`](ops/{family}.md#{0}) |", op.name());
            for &opset in &opsets {
                page += match op.version(opset) {
                    Some(v) if first_program_opset(v) == opset => " **new** |",
                    Some(_) => " ✓ |",
                    None => " – |",
                };
            }
            page += &match milwright_cpu::kernels::support(*op) {
                Support::Kernel | Support::Engine => " runs |\n".to_owned(),
                Support::No(reason) => format!(" no: {reason} |\n"),
            };
        }
    }
    page
}

/// Turns `scatter_gather` into a title.
fn title(family: &str) -> String {
    let words = family.replace('_', " ");
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn first_sentence(doc: &str) -> String {
    let doc = undent(doc);
    let paragraph = doc.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    match paragraph.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => paragraph,
    }
}

/// Removes the space that doc comments keep after `///`.
fn undent(doc: &str) -> String {
    let lines: Vec<&str> = doc.trim().lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n")
}
