//! Which weights get which compression.

use std::collections::{BTreeMap, BTreeSet};

use milwright_mil::{Function, OpId, Opset};

use crate::Error;
use crate::compression::Compression;
use crate::weights::{Weight, all_candidates, candidates};

/// A compression for each weight: the one for its name, else the one for the name or type of the op that uses it, else
/// the one for all. `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// For every weight that no other entry is for.
    pub all: Option<Compression>,
    /// By the type of the op that uses the weight, such as `linear`.
    pub op_types: BTreeMap<String, Option<Compression>>,
    /// By the name of the weight, or of the op that uses it.
    pub op_names: BTreeMap<String, Option<Compression>>,
}

impl From<Compression> for Config {
    fn from(all: Compression) -> Config {
        Config { all: Some(all), ..Config::default() }
    }
}

impl Config {
    /// The compressions that it holds.
    pub fn compressions(&self) -> impl Iterator<Item = &Compression> {
        let named = self.op_types.values().chain(self.op_names.values());
        self.all.iter().chain(named.filter_map(Option::as_ref))
    }

    /// Whether the whole program is converted to fp16 first.
    pub fn computes_in_fp16(&self) -> bool {
        self.compressions().any(|c| c.float16)
    }

    /// Whether weights that are compressed already are expanded first.
    pub fn expands(&self) -> bool {
        self.compressions().any(|c| c.dense)
    }

    /// Whether it compresses weights.
    pub fn compresses(&self) -> bool {
        self.compressions().any(|c| !c.steps.is_empty())
    }

    /// The weights that it may be for: with a joint compression, those that are compressed already, too.
    pub(crate) fn candidates(&self, function: &Function) -> Vec<Weight> {
        if self.compressions().any(|c| c.joint) { all_candidates(function) } else { candidates(function) }
    }

    /// The lowest SNR of outputs that is accepted by default, in dB.
    pub fn tolerance_db(&self) -> f64 {
        let none = Compression::default().tolerance_db();
        self.compressions().map(Compression::tolerance_db).fold(none, f64::min)
    }

    /// Checks that each compression can be expressed in `opset`.
    ///
    /// # Errors
    /// One cannot; see [`Compression::check_opset`].
    pub fn check_opset(&self, opset: Opset) -> Result<(), String> {
        self.compressions().try_for_each(|c| c.check_opset(opset))
    }

    /// Checks that each entry is for a weight of one of these functions.
    ///
    /// # Errors
    /// One is not, and would have no effect; the text names it and what there is.
    pub fn check_matches<'a>(&self, functions: impl IntoIterator<Item = &'a Function>) -> Result<(), String> {
        let (mut types, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut uses = BTreeSet::new();
        for function in functions {
            for weight in self.candidates(function) {
                names.insert(function[weight.value].name.clone());
                for &user in &weight.users {
                    types.insert(function[user].kind.name().to_owned());
                    uses.insert(function[user].name().to_owned());
                }
            }
        }
        let list = |known: &BTreeSet<String>| {
            let shown: Vec<_> = known.iter().take(8).map(|n| format!("`{n}`")).collect();
            let more = if known.len() > 8 { format!(" and {} more", known.len() - 8) } else { String::new() };
            shown.join(", ") + &more
        };
        if let Some(key) = self.op_types.keys().find(|k| !types.contains(*k)) {
            let why = if key == "const" {
                "it is the ops that use a weight which have types here; `global_config` is for all weights"
                    .to_owned()
            } else {
                format!("weights are used by {}", list(&types))
            };
            return Err(format!("no weight is used by an op of type `{key}`: {why}"));
        }
        if let Some(key) = self.op_names.keys().find(|k| !names.contains(*k) && !uses.contains(*k)) {
            let near =
                names.iter().chain(&uses).min_by_key(|n| distance(n, key)).filter(|n| distance(n, key) <= 3);
            let why = match near {
                Some(near) => format!("there is `{near}`"),
                None => format!("there are {}", list(&names)),
            };
            return Err(format!("no weight, and no op that uses one, is named `{key}`: {why}"));
        }
        Ok(())
    }

    /// The compression of a weight, and whether it is by name.
    ///
    /// # Errors
    /// The ops that use it have different ones.
    pub(crate) fn of(
        &self,
        function: &Function,
        weight: &Weight,
    ) -> Result<(Option<&Compression>, bool), Error> {
        let name = &function[weight.value].name;
        if let Some(named) = self.op_names.get(name) {
            return Ok((named.as_ref(), true));
        }
        if self.op_types.is_empty() && self.op_names.is_empty() {
            return Ok((self.all.as_ref(), false));
        }
        let of_user = |user: OpId| {
            let op = &function[user];
            let found = self.op_names.get(op.name()).or_else(|| self.op_types.get(op.kind.name()));
            found.map_or(self.all.as_ref(), Option::as_ref)
        };
        let first = weight.users.first().map(|&u| of_user(u)).unwrap_or_default();
        if let Some(&other) = weight.users.iter().find(|&&u| of_user(u) != first) {
            let text = |c: Option<&Compression>| c.map_or_else(|| "none".to_owned(), Compression::to_string);
            return Err(Error::Config(format!(
                "the ops that use the weight `{name}` have different settings: `{}` has `{}`, `{}` has `{}`; give the weight \
                 itself one, by its name",
                function[weight.users[0]].name(),
                text(first),
                function[other].name(),
                text(of_user(other)),
            )));
        }
        Ok((first, false))
    }
}

/// The number of letters to insert, remove or replace that make one text the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
