//! Fuses element-wise ops, so that intermediate results stay in the cache.
//!
//! ```text
//! before                         after
//! %1 = conv(%x)                  %4 = conv+mul+add+relu(%x, %y)
//! %2 = mul(%1, 0.5)
//! %3 = add(%2, %y)
//! %4 = relu(%3)
//! ```
//!
//! A group is a graph of element-wise ops of one shape. Only its last result is used outside the group, and the group
//! runs where its last op stood. If one of its inputs comes from a step that takes an epilogue, and nothing else reads
//! that input, the group becomes the epilogue.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{Class, Item};
use crate::plan::{Node, Place, Step, Ty, Value, ValueNo, Work};

/// The most ops in a group: their intermediate results must fit in the nearest caches.
const MAX_GROUP: usize = 16;

/// Makes steps of the ops of a block. `outputs` are the values that the block returns; `aliases` are values that are
/// another value in another shape.
pub(super) fn fuse(
    items: Vec<Item>,
    outputs: &[ValueNo],
    aliases: &HashMap<ValueNo, ValueNo>,
    values: &mut [Value],
) -> Vec<Step> {
    let users = users(&items, outputs, aliases);
    let groups = groups(&items, &users, values);
    let feeders = feeders(&items, &users, &groups, values);
    // The ops that are fused into a step, by the item that makes the step.
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, root) in groups.iter().enumerate() {
        if let Some(root) = root {
            members.entry(*root).or_default().push(i);
        }
    }
    let moved: Vec<bool> = (0..items.len())
        .map(|i| groups[i].is_some_and(|root| root != i) || feeders.values().any(|&f| f == i))
        .collect();
    let mut slots: Vec<Option<Item>> = items.into_iter().map(Some).collect();
    let mut steps = Vec::new();
    for i in 0..slots.len() {
        if moved[i] {
            continue;
        }
        let Some(group) = members.get(&i) else {
            let item = slots[i].take().expect("each item makes one step");
            let scratch = if let Class::Step(bytes, _) = item.class { bytes as u64 } else { 0 };
            steps.push(Step { name: item.name, work: item.work, scratch: (0, scratch) });
            continue;
        };
        let name = slots[i].as_ref().map_or_else(String::new, |item| item.name.clone());
        let nodes: Vec<Node> = group.iter().map(|&m| node(&mut slots[m])).collect();
        for inner in &nodes[..nodes.len() - 1] {
            values[inner.outputs[0]].place = Place::Fused;
        }
        let step = match feeders.get(&i) {
            Some(&f) => {
                let scratch = match slots[f].as_ref().map(|item| item.class) {
                    Some(Class::Step(bytes, _)) => bytes as u64,
                    _ => 0,
                };
                let op = node(&mut slots[f]);
                values[op.outputs[0]].place = Place::Fused;
                Step { name, work: Work::Op { op, epilogue: nodes }, scratch: (0, scratch) }
            }
            None => Step { name, work: Work::Chain(nodes), scratch: (0, 0) },
        };
        steps.push(step);
    }
    steps
}

fn node(slot: &mut Option<Item>) -> Node {
    match slot.take().map(|item| item.work) {
        Some(Work::Op { op, .. }) => op,
        _ => unreachable!("only ops are fused, and each once"),
    }
}

/// What reads a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    /// The item with this number.
    Item(usize),
    /// Something outside of the block.
    Outside,
}

/// For each value, what reads it.
fn users(
    items: &[Item],
    outputs: &[ValueNo],
    aliases: &HashMap<ValueNo, ValueNo>,
) -> HashMap<ValueNo, Vec<User>> {
    let mut users: HashMap<ValueNo, Vec<User>> = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        match &item.work {
            Work::Op { op, .. } => {
                for &v in op.args.iter().flat_map(|(_, a)| a) {
                    users.entry(v).or_default().push(User::Item(i));
                }
            }
            other => other.values().into_iter().for_each(|v| users.entry(v).or_default().push(User::Item(i))),
        }
    }
    for &v in outputs.iter().chain(aliases.values()) {
        users.entry(v).or_default().push(User::Outside);
    }
    users
}

/// For each element-wise op, the last op of its group.
fn groups(items: &[Item], users: &HashMap<ValueNo, Vec<User>>, values: &[Value]) -> Vec<Option<usize>> {
    let mut groups: Vec<Option<usize>> = vec![None; items.len()];
    let mut sizes = vec![0; items.len()];
    for i in (0..items.len()).rev() {
        if items[i].class != Class::Map {
            continue;
        }
        let shared = users.get(&output(&items[i])).and_then(|users| one_group(users, &groups));
        let root = shared.filter(|&root| {
            let (a, b) = (output(&items[i]), output(&items[root]));
            sizes[root] < MAX_GROUP && shape(&values[a]) == shape(&values[b])
        });
        let root = root.unwrap_or(i);
        groups[i] = Some(root);
        sizes[root] += 1;
    }
    groups
}

/// For each group that becomes an epilogue, the step that it becomes the epilogue of.
fn feeders(
    items: &[Item],
    users: &HashMap<ValueNo, Vec<User>>,
    groups: &[Option<usize>],
    values: &[Value],
) -> HashMap<usize, usize> {
    let mut feeders = HashMap::new();
    for i in (0..items.len()).rev() {
        let Class::Step(_, epilogue) = items[i].class else { continue };
        let Work::Op { op, .. } = &items[i].work else { continue };
        let Some(root) = users.get(&op.outputs[0]).and_then(|users| one_group(users, groups)) else {
            continue;
        };
        let (from, to) = (op.outputs[0], output(&items[root]));
        let why_not = if !epilogue {
            "it takes no epilogue"
        } else if op.outputs.len() > 1 {
            "it has several results"
        } else if values[from].ty != values[to].ty {
            "the element-wise ops change its type"
        } else if let Entry::Vacant(entry) = feeders.entry(root) {
            entry.insert(i);
            continue;
        } else {
            "they follow another step already"
        };
        tracing::debug!(
            op = op.kind.name(),
            name = items[i].name,
            why_not,
            "element-wise ops were not fused into a step"
        );
    }
    feeders
}

/// Returns the group that all of a value's readers belong to.
fn one_group(users: &[User], groups: &[Option<usize>]) -> Option<usize> {
    let group = |&user: &User| match user {
        User::Item(i) => groups[i],
        User::Outside => None,
    };
    let first = group(users.first()?)?;
    users.iter().all(|u| group(u) == Some(first)).then_some(first)
}

fn output(item: &Item) -> ValueNo {
    match &item.work {
        Work::Op { op, .. } => op.outputs[0],
        _ => unreachable!("only ops are fused"),
    }
}

fn shape(value: &Value) -> Option<&[Option<u64>]> {
    match &value.ty {
        Ty::Tensor(_, shape) => Some(shape),
        _ => None,
    }
}
