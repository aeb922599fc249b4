//! `cargo xtask new-op FAMILY/NAME`: the files of a new op, which compile, and its lines in the lists.

use std::fs;
use std::path::{Path, PathBuf};

use milwright_mil::{OpKind, Opset};

use crate::Result;

const TABLE: &str = "crates/mil/src/ops/mod.rs";
const ORACLE: &str = "scripts/oracle_ops.py";

/// Writes the files of the op `family/name`, which `since` is the oldest opset to have, and prints what is left to do.
pub fn run(root: &Path, op: &str, since: &str) -> Result {
    let op = NewOp::parse(op, since)?;
    for (path, text) in op.files(root)? {
        fs::write(root.join(&path), text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", path.display());
    }
    println!("{}", op.steps());
    Ok(())
}

struct NewOp {
    family: String,
    name: String,
    ty: String,
    since: String,
}

impl NewOp {
    fn parse(op: &str, since: &str) -> Result<Self> {
        let is_name = |s: &str| {
            s.starts_with(|c: char| c.is_ascii_lowercase())
                && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let (family, name) = op.split_once('/').ok_or("give the family, too: tensor/NAME")?;
        if !is_name(name) {
            return Err(format!("`{name}` is no name of an op: lower case, digits, underscores").into());
        }
        if OpKind::from_name(name).is_some() {
            return Err(format!("there is an op `{name}` already").into());
        }
        let mut families: Vec<_> = OpKind::ALL.iter().map(|kind| kind.family().name()).collect();
        families.dedup();
        if !families.contains(&family) {
            return Err(format!("no family `{family}`; there are {}", families.join(", ")).into());
        }
        let since = since.to_ascii_lowercase();
        let opset = Opset::ALL.iter().find(|opset| opset.text_name() == since);
        let opset = opset.ok_or_else(|| format!("no opset `{since}`; for example, ios18"))?;
        let capitalized = |part: &str| part[..1].to_ascii_uppercase() + &part[1..];
        let ty = name.split('_').filter(|part| !part.is_empty()).map(capitalized).collect();
        Ok(NewOp { family: family.into(), name: name.into(), ty, since: format!("{opset:?}") })
    }

    /// Every file to write, with its text.
    fn files(&self, root: &Path) -> Result<Vec<(PathBuf, String)>> {
        let NewOp { family, name, .. } = self;
        let read = |path: &str| fs::read_to_string(root.join(path)).map_err(|e| format!("{path}: {e}"));
        let mut files = Vec::new();
        for (folder, visibility, text) in [
            ("crates/mil/src/ops", "pub ", self.declaration()),
            ("crates/cpu/src/kernels", "", self.kernel()),
        ] {
            let list = format!("{folder}/{family}/mod.rs");
            files.push((PathBuf::from(format!("{folder}/{family}/{name}.rs")), text));
            files.push((
                PathBuf::from(&list),
                with_module(&read(&list)?, &format!("{visibility}mod {name};"))?,
            ));
        }
        files.push((TABLE.into(), self.listed(&read(TABLE)?)?));
        files.push((ORACLE.into(), read(ORACLE)?.trim_end().to_owned() + &self.oracle()));
        Ok(files)
    }

    /// A declaration that compiles. Its TODO is for the person who adds the op.
    fn declaration(&self) -> String {
        let NewOp { name, ty, since, .. } = self;
        format!(
            "//! `{name}`

use crate::op;
use crate::ops::{{InferError, Inferred}};

op! {{
    /// TODO: what it computes, in one sentence.
    {ty} since {since} {{
        x: Operand<T>,
    }}
    where T: [Fp16, Fp32]
    => infer
}}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {{
    Ok(vec![p.x.into()])
}}
"
        )
    }

    fn kernel(&self) -> String {
        let NewOp { name, ty, .. } = self;
        format!("//! `{name}`\n\nunsupported!({ty}, \"its kernel is not written yet\");\n")
    }

    fn oracle(&self) -> String {
        let name = &self.name;
        format!(
            "\n\n\n@operation()\ndef {name}(p):\n    raise NotImplementedError(\"compute it from p[\\\"x\\\"], in float64\")\n"
        )
    }

    /// The table of ops with a line for this one, at its place in its family.
    fn listed(&self, table: &str) -> Result<String> {
        let NewOp { family, name, ty, .. } = self;
        let line = format!("            {ty} \"{name}\" {family}::{name},");
        let mut lines: Vec<&str> = table.lines().collect();
        let of_family = |l: &&str| l.trim_end().ends_with(',') && l.contains(&format!("\" {family}::"));
        let after = lines.iter().rposition(|l| of_family(l) && *l < line.as_str());
        let first = lines.iter().position(of_family).ok_or("the table of ops has no such family")?;
        lines.insert(after.map_or(first, |at| at + 1), &line);
        Ok(lines.join("\n") + "\n")
    }

    fn steps(&self) -> String {
        let NewOp { family, name, .. } = self;
        format!(
            "
All of it compiles. Left to do (CONTRIBUTING.md, \"Adding an op\"):
  1. the declaration's documentation, parameters, type inference and tests
  2. the kernel, instead of `unsupported!`
  3. its reference in {ORACLE}, and cases in scripts/op_cases.py:
         case(\"{family}\", \"{name}\", \"plain\", {{\"x\": x}})
     then: python scripts/op_cases.py --only {name}
           MILWRIGHT_CASE={name} cargo test -p milwright-testkit --test ops
  4. cargo xtask docs, cargo xtask tidy, a line in CHANGELOG.md"
        )
    }
}

/// The text of a `mod.rs` with a line for a module, in alphabetical order.
fn with_module(text: &str, line: &str) -> Result<String> {
    let module =
        |l: &str| l.split_once("mod ").and_then(|(_, name)| name.strip_suffix(';')).map(str::to_owned);
    let new = module(line).ok_or("not a module")?;
    let mut lines: Vec<&str> = text.lines().collect();
    let listed = |l: &&str| !l.starts_with([' ', '/', '#']) && module(l).is_some();
    let after = lines.iter().rposition(|l| listed(l) && module(l).is_some_and(|name| name < new));
    let at = after.map(|at| at + 1).or_else(|| lines.iter().position(listed));
    lines.insert(at.ok_or("no list of modules")?, line);
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_in_order() {
        let text = "//! Words.\n\npub mod add;\npub mod tile;\n\nuse x;\n";
        assert!(with_module(text, "pub mod b;").unwrap().contains("add;\npub mod b;\npub mod tile;"));
        assert!(with_module(text, "pub mod z;").unwrap().contains("tile;\npub mod z;\n\nuse x;"));
        assert!(with_module(text, "pub mod a;").unwrap().contains("\n\npub mod a;\npub mod add;"));
    }

    #[test]
    fn the_table_keeps_its_families() {
        let table = fs::read_to_string(crate::root().join(TABLE)).unwrap();
        let op = NewOp::parse("tensor/roll_over", "ios18").unwrap();
        let listed = op.listed(&table).unwrap();
        let line = "            RollOver \"roll_over\" tensor::roll_over,\n            Shape \"shape\"";
        assert!(listed.contains(line), "{listed}");
        assert_eq!(listed.lines().count(), table.lines().count() + 1);
    }

    #[test]
    fn bad_names_are_refused() {
        for (op, why) in [
            ("roll", "give the family"),
            ("tensor/Roll", "no name"),
            ("tensor/../x", "no name"),
            ("tensor/tile", "already"),
            ("shapes/roll", "no family"),
        ] {
            let error = NewOp::parse(op, "ios18").err().unwrap().to_string();
            assert!(error.contains(why), "{op}: {error}");
        }
        assert!(NewOp::parse("tensor/roll", "ios3").is_err());
    }
}
