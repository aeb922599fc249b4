//! Finds circles of modules: siblings that use each other, directly or through others. Such modules can only be
//! understood, tested and moved together.
//!
//! A module uses another one if a path in it leads there: `use crate::a::B`, `super::a::f()`, `crate::B` where the crate's
//! root re-exports `B` from `a`. Tests do not count. Two modules are siblings if they have the same parent; what a parent
//! and its children share does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, UseTree};

use crate::Result;

/// Circles that are there, by how they begin, and why they stay.
const KNOWN: &[(&str, &str)] = &[
    ("milwright-convert: neural_network: control table", "a loop is a layer that has layers in it"),
    ("milwright-convert: onnx: ", "a loop is a node that has a graph in it"),
    (
        "milwright-cpu: : chain convert kernel math simd",
        "the matrix product runs element-wise chains as its epilogue",
    ),
    ("milwright-mil: ops: declare view", "the declaration of an op makes a type that reads a view of it"),
    ("milwright-optimize: : compression scheme", "a scheme is a named compression"),
];

/// Returns a line for each circle that is not [`KNOWN`], and for each known one that is gone.
pub fn problems(name: &str, root_file: &Path) -> Result<Vec<String>> {
    let mut modules = Modules::default();
    modules.read(root_file, &[])?;
    let found: BTreeSet<String> = modules.circles().into_iter().map(|c| format!("{name}: {c}")).collect();
    let known: Vec<&str> =
        KNOWN.iter().map(|(circle, _)| *circle).filter(|c| c.starts_with(&format!("{name}: "))).collect();
    let new = found.iter().filter(|c| !known.iter().any(|k| c.starts_with(k)));
    let gone = known.iter().filter(|k| !found.iter().any(|c| c.starts_with(**k)));
    let new = new.map(|c| format!("{c} use each other in a circle"));
    Ok(new.chain(gone.map(|c| format!("{c} is no circle any more: take it from the list"))).collect())
}

type ModulePath = Vec<String>;

/// The modules of a crate.
#[derive(Default)]
struct Modules {
    /// The paths that each module mentions, absolute within the crate.
    mentions: BTreeMap<ModulePath, BTreeSet<ModulePath>>,
    /// What each module re-exports: a name, and the path that it stands for.
    exports: BTreeMap<ModulePath, BTreeMap<String, ModulePath>>,
}

impl Modules {
    /// Reads a module's file and those of its children.
    fn read(&mut self, file: &Path, path: &[String]) -> Result {
        let text = fs::read_to_string(file)?;
        let parsed = syn::parse_file(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        let mut reader = Reader { path: path.to_vec(), ..Reader::default() };
        reader.visit_file(&parsed);
        self.mentions.insert(path.to_vec(), reader.mentions);
        self.exports.insert(path.to_vec(), reader.exports);
        for child in reader.children {
            let folder = match path.last() {
                None => file.parent().unwrap_or(file).to_owned(),
                Some(_) if file.ends_with("mod.rs") => file.parent().unwrap_or(file).to_owned(),
                Some(_) => file.with_extension(""),
            };
            let files = [folder.join(format!("{child}.rs")), folder.join(&child).join("mod.rs")];
            let Some(file) = files.iter().find(|f| f.is_file()) else { continue };
            self.read(file, &[path, &[child]].concat())?;
        }
        Ok(())
    }

    /// The module that a path leads to: through re-exports, to the longest prefix that is a module.
    fn target(&self, path: &[String], depth: usize) -> Option<ModulePath> {
        let at = (0..=path.len()).rev().find(|&n| self.mentions.contains_key(&path[..n]))?;
        let (module, rest) = path.split_at(at);
        let exported = rest.first().and_then(|name| self.exports.get(module)?.get(name));
        match exported {
            // Re-exports in a circle would be an error of the compiler.
            Some(to) if depth < 8 && to[..] != *path => {
                self.target(&[&to[..], &rest[1..]].concat(), depth + 1)
            }
            _ => Some(module.to_vec()),
        }
    }

    /// The circles among siblings, each as `parent: module module …`.
    fn circles(&self) -> Vec<String> {
        let mut uses: BTreeMap<ModulePath, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
        for (from, mentions) in &self.mentions {
            for to in mentions.iter().filter_map(|path| self.target(path, 0)) {
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) {
                    let siblings = uses.entry(from[..shared].to_vec()).or_default();
                    siblings.entry(a).or_default().insert(b.clone());
                }
            }
        }
        let mut circles = Vec::new();
        for (parent, uses) in &uses {
            let reached = |from: &str| -> BTreeSet<&str> {
                let mut reached = BTreeSet::new();
                let mut todo = vec![from];
                while let Some(next) = todo.pop() {
                    for to in uses.get(next).into_iter().flatten() {
                        if reached.insert(to.as_str()) {
                            todo.push(to);
                        }
                    }
                }
                reached
            };
            let all: BTreeMap<&str, BTreeSet<&str>> = uses.keys().map(|&m| (m, reached(m))).collect();
            let mut seen = BTreeSet::new();
            for (&module, reached) in all.iter().filter(|(m, reached)| reached.contains(**m)) {
                let circle: BTreeSet<&str> = reached
                    .iter()
                    .copied()
                    .filter(|other| all.get(other).is_some_and(|back| back.contains(module)))
                    .collect();
                if circle.len() > 1 && seen.insert(circle.clone()) {
                    let names: Vec<&str> = circle.into_iter().collect();
                    circles.push(format!("{}: {}", parent.join("::"), names.join(" ")));
                }
            }
        }
        circles
    }
}

/// Collects what a file mentions.
#[derive(Default)]
struct Reader {
    path: ModulePath,
    mentions: BTreeSet<ModulePath>,
    exports: BTreeMap<String, ModulePath>,
    children: Vec<String>,
}

impl Reader {
    /// A path that begins with `crate`, `self` or `super`, or with a child of this module, made absolute.
    fn absolute(&self, segments: &[String]) -> Option<ModulePath> {
        let mut base = match segments.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.path.clone(),
            child if self.children.iter().any(|c| c == child) => {
                return Some([&self.path[..], segments].concat());
            }
            _ => return None,
        };
        let mut rest = segments.iter().peekable();
        while let Some(segment) = rest.next_if(|s| matches!(s.as_str(), "crate" | "self" | "super")) {
            if segment == "super" {
                base.pop();
            }
        }
        Some(base.into_iter().chain(rest.cloned()).collect())
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String], is_public: bool) {
        match tree {
            UseTree::Path(path) => {
                let before = [before, &[path.ident.to_string()]].concat();
                self.add_tree(&path.tree, &before, is_public);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_tree(tree, before, is_public));
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                let path = if name == "self" {
                    before.to_vec()
                } else {
                    [before, std::slice::from_ref(&name)].concat()
                };
                self.add_use(&path, &name, is_public);
            }
            UseTree::Rename(rename) => {
                let path = [before, &[rename.ident.to_string()]].concat();
                self.add_use(&path, &rename.rename.to_string(), is_public);
            }
            UseTree::Glob(_) => self.add_use(before, "", false),
        }
    }

    fn add_use(&mut self, path: &[String], name: &str, is_public: bool) {
        let Some(path) = self.absolute(path) else { return };
        if is_public {
            self.exports.insert(name.to_owned(), path.clone());
        }
        self.mentions.insert(path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_file(&mut self, file: &'ast syn::File) {
        // Children first: paths may begin with one.
        for item in &file.items {
            if let Item::Mod(ItemMod { attrs, ident, content: None, .. }) = item
                && !is_for_tests(attrs)
            {
                self.children.push(ident.to_string());
            }
        }
        visit::visit_file(self, file);
    }

    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, syn::Visibility::Inherited);
        self.add_tree(&item.tree, &[], is_public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.mentions.extend(self.absolute(&segments));
        }
        visit::visit_path(self, path);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("test")
            || (a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|p| p.is_ident("test")))
    })
}
