//! Names that MIL and Core ML take: letters, digits and underscores.

use std::collections::HashSet;

use milwright_mil::{Function, Value, ValueId};

/// Turns every name inside a function into a MIL identifier, and keeps those of inputs and outputs.
pub(crate) fn make_identifiers(function: &mut Function) {
    let mut values: Vec<ValueId> = Vec::new();
    let ops = function.walk();
    for &op in &ops {
        values.extend(&function[op].outputs);
        function[op].blocks.iter().for_each(|&b| values.extend(&function[b].inputs));
    }
    let taken = values.iter().chain(&function.inputs).map(|&v| function[v].name.clone());
    let mut taken: HashSet<String> = taken.filter(|name| is_identifier(name)).collect();
    let outputs = function[function.body].outputs.clone();
    for value in values {
        if !outputs.contains(&value) && !is_identifier(&function[value].name) {
            let name = unique(&identifier(&function[value].name), &mut taken);
            function[value].name = name;
        }
    }
    for op in ops {
        let Some(&first) = function[op].outputs.first() else { continue };
        let name = function[first].name.clone();
        function[op].attributes.insert("name".into(), Value::string(name));
    }
}

/// Whether MIL and Core ML take a name.
pub(crate) fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Replaces all that an identifier cannot contain.
pub(crate) fn identifier(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if is_identifier(&plain) { plain } else { format!("_{plain}") }
}

/// Returns the name, or one with a number if it is taken, and takes it.
pub(crate) fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 0;
    while !taken.insert(candidate.clone()) {
        number += 1;
        candidate = format!("{name}_{number}");
    }
    candidate
}
