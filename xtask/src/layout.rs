//! Makes a table of the protobuf messages from the generated Rust types: which messages contain which, and how much
//! memory each takes. The table bounds the memory of a model before it is decoded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The messages of a format.
struct Format {
    /// The folder of the generated files, in which the table is written as `layout.rs`.
    folder: &'static str,
    /// The module with the types of the table, as seen from there.
    table: &'static str,
    /// The generated files and their modules.
    files: &'static [(&'static str, &'static str)],
    /// Messages that are decoded on their own, and the names of their constants in the table.
    roots: &'static [(&'static str, &'static str)],
}

const FORMATS: [Format; 2] = [
    Format {
        folder: "crates/formats/src/proto",
        table: "super::table",
        files: &[
            ("specification.rs", ""),
            ("core_ml_models.rs", "core_ml_models"),
            ("mil_spec.rs", "mil_spec"),
        ],
        roots: &[("Model", "MODEL"), ("ModelDescription", "MODEL_DESCRIPTION")],
    },
    Format {
        folder: "crates/formats/src/onnx/proto",
        table: "crate::proto::table",
        files: &[("messages.rs", "")],
        roots: &[("ModelProto", "MODEL")],
    },
];

/// Writes the tables, or with `check` compares them with the committed ones.
pub fn run(root: &Path, check: bool) -> Result<(), String> {
    FORMATS.iter().try_for_each(|format| write(root, format, check))
}

fn write(root: &Path, format: &Format, check: bool) -> Result<(), String> {
    let folder = root.join(format.folder);
    let mut types = Types::default();
    for &(file, module) in format.files {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let module = if module.is_empty() { Vec::new() } else { vec![module.to_owned()] };
        types.read(&text, module)?;
    }
    let path = folder.join("layout.rs");
    let text = types.table(format)?;
    if !check {
        return fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
    }
    if fs::read_to_string(&path).ok().as_deref() == Some(&text) {
        Ok(())
    } else {
        Err(format!("stale (run `cargo xtask codegen`): {}", path.display()))
    }
}

/// Structures and oneofs by their paths, such as `mil_spec::value::Value`.
#[derive(Default)]
struct Types {
    messages: BTreeMap<String, Vec<Field>>,
    oneofs: BTreeMap<String, Vec<Field>>,
}

enum Field {
    /// A field that holds messages: its number, how it holds them, the path of the message (`None` for a map without
    /// messages), and the Rust type of an element.
    Message(u32, &'static str, Option<String>, String),
    /// The fields of a oneof, by its path.
    Oneof(String),
}

impl Types {
    /// Reads a file that rustfmt has formatted.
    fn read(&mut self, text: &str, mut module: Vec<String>) -> Result<(), String> {
        let mut lines = text.lines().map(str::trim);
        let depth = module.len();
        let mut is_oneof = false;
        // The type that is being read, and its fields so far.
        let mut current: Option<(String, Vec<Field>)> = None;
        let mut attribute = String::new();
        while let Some(line) = lines.next() {
            if line.starts_with("#[derive") {
                is_oneof = line.contains("::prost::Oneof");
            } else if line.starts_with("#[prost(") {
                attribute = line.to_owned();
                while !attribute.ends_with(")]") {
                    attribute += lines.next().ok_or("an attribute without an end")?;
                }
            } else if let Some(name) = line.strip_prefix("pub mod ") {
                module.push(name.trim_end_matches(" {").to_owned());
            } else if let Some(rest) = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum ")) {
                let name = rest.split([' ', '{', '(']).next().unwrap_or_default();
                let done = rest.ends_with('}');
                let path = join(&module, name);
                match done {
                    true => drop(self.messages.insert(path, Vec::new())),
                    false if is_oneof || line.starts_with("pub struct") => current = Some((path, Vec::new())),
                    // A numeric enumeration and its `impl`: skip both, so that their closing braces do not seem to
                    // close a module.
                    false => skip_block(&mut lines),
                }
            } else if line.starts_with("impl ") {
                skip_block(&mut lines);
            } else if line == "}" {
                match current.take() {
                    Some((path, fields)) if is_oneof => drop(self.oneofs.insert(path, fields)),
                    Some((path, fields)) => drop(self.messages.insert(path, fields)),
                    None if module.len() > depth => drop(module.pop()),
                    None => return Err("a brace too many".to_owned()),
                }
            } else if let Some((_, fields)) = &mut current
                && !attribute.is_empty()
            {
                let mut item = line.to_owned();
                while !item.ends_with(',') || item.matches('<').count() != item.matches('>').count() {
                    item = item + " " + lines.next().ok_or("a field without an end")?;
                }
                fields.extend(field(&std::mem::take(&mut attribute), &item, &module)?);
            }
        }
        Ok(())
    }

    fn table(&self, format: &Format) -> Result<String, String> {
        let indices: BTreeMap<&str, usize> =
            self.messages.keys().enumerate().map(|(i, path)| (path.as_str(), i)).collect();
        let index = |path: &str| indices.get(path).copied().ok_or_else(|| format!("no message {path}"));
        let mut text = "// Generated by `cargo xtask codegen`. Do not edit.\n\n".to_owned();
        let _ = write!(text, "use super::*;\nuse {}::{{Field, Holds, Message}};\n\n", format.table);
        for (path, name) in format.roots {
            let _ = writeln!(text, "pub(crate) const {name}: usize = {};", index(path)?);
        }
        let _ = writeln!(
            text,
            "\n#[rustfmt::skip]\npub(crate) static MESSAGES: [Message; {}] = [",
            indices.len()
        );
        for (path, fields) in &self.messages {
            let mut flat = Vec::new();
            for field in fields {
                match field {
                    Field::Oneof(path) => {
                        flat.extend(self.oneofs.get(path).ok_or_else(|| format!("no oneof {path}"))?);
                    }
                    field => flat.push(field),
                }
            }
            let mut entries = Vec::new();
            for field in flat {
                let Field::Message(number, holds, target, size) = field else { continue };
                let target = match target {
                    Some(target) => format!("Some({})", index(target)?),
                    None => "None".to_owned(),
                };
                entries.push((*number, format!("Field {{ number: {number}, holds: Holds::{holds}, message: {target}, size: size_of::<{size}>() }}")));
            }
            entries.sort();
            let _ = writeln!(text, "    // {path}\n    Message {{ fields: &[");
            for (_, entry) in entries {
                let _ = writeln!(text, "        {entry},");
            }
            text += "    ] },\n";
        }
        text += "];\n";
        Ok(text)
    }
}

/// Skips to the end of a block whose first line has been read.
fn skip_block<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    let mut open = 1;
    while open > 0 {
        let Some(line) = lines.next() else { return };
        open += line.matches('{').count();
        open -= line.matches('}').count();
    }
}

/// Returns a field, if it holds messages or is a map.
fn field(attribute: &str, item: &str, module: &[String]) -> Result<Option<Field>, String> {
    let quoted = |key: &str| {
        let (_, rest) = attribute.split_once(&format!("{key} = \""))?;
        rest.split('"').next()
    };
    if let Some(oneof) = quoted("oneof") {
        return Ok(Some(Field::Oneof(join(module, oneof))));
    }
    let is_map = quoted("btree_map").is_some();
    if !is_map && !attribute.contains("(message") {
        return Ok(None);
    }
    let number =
        quoted("tag").and_then(|tag| tag.parse().ok()).ok_or_else(|| format!("no tag: {attribute}"))?;
    // `pub name: TYPE,` of a structure, `Name(TYPE),` of a oneof.
    let ty = match item.strip_prefix("pub ") {
        Some(item) => item.split_once(": ").map(|(_, ty)| ty.trim_end_matches(',')),
        None => item.split_once('(').and_then(|(_, ty)| ty.strip_suffix("),")),
    };
    let mut ty = ty.ok_or_else(|| format!("no type: {item}"))?.trim();
    let mut holds = "Inline";
    if is_map {
        let inner = ty.split_once('<').and_then(|(_, inner)| inner.trim().strip_suffix('>'));
        let (_, value) =
            inner.and_then(|inner| inner.split_once(',')).ok_or_else(|| format!("no map: {item}"))?;
        let value = value.trim().trim_end_matches(',').trim();
        let target = quoted("btree_map").is_some_and(|map| map.ends_with("message"));
        let path = if target { resolve(module, value) } else { value.to_owned() };
        let entry = format!("(String, {path})");
        return Ok(Some(Field::Message(number, "Map", target.then_some(path), entry)));
    }
    for (wrapper, kind) in [("Option<", "Inline"), ("Vec<", "List"), ("Box<", "Boxed")] {
        if let Some((before, inner)) = ty.split_once(wrapper)
            && (before.is_empty() || before.ends_with("::"))
            && !before.contains('<')
        {
            ty = inner
                .trim()
                .trim_end_matches(',')
                .trim()
                .strip_suffix('>')
                .ok_or("a type without an end")?
                .trim();
            if kind != "Inline" {
                holds = kind;
            }
        }
    }
    let path = resolve(module, ty);
    Ok(Some(Field::Message(number, holds, Some(path.clone()), path)))
}

fn resolve(module: &[String], ty: &str) -> String {
    let mut path = module.to_vec();
    for part in ty.split("::") {
        match part {
            "super" => drop(path.pop()),
            part => path.push(part.to_owned()),
        }
    }
    path.join("::")
}

fn join(module: &[String], name: &str) -> String {
    module.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("::")
}
