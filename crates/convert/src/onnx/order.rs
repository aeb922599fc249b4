//! The order in which the nodes of a graph are lowered.

use std::collections::{HashMap, HashSet};

use milwright_formats::onnx::proto::{GraphProto, NodeProto};

use crate::Error;
use crate::lower::Result;

/// The nodes that `results` need, each after those whose outputs it uses. Nodes in order keep their order. Most files
/// are sorted, but the format's readers accept others.
pub(super) fn sorted<'m>(nodes: &'m [NodeProto], results: &[&str]) -> Result<Vec<&'m NodeProto>> {
    let mut definer: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if definer.insert(name, i).is_some() {
                return Err(Error::malformed(format!("two nodes define `{name}`")));
            }
        }
    }
    let needs: Vec<Vec<usize>> = nodes
        .iter()
        .enumerate()
        .map(|(i, node)| {
            let mut needed: Vec<usize> =
                inputs(node).into_iter().filter_map(|name| definer.get(name).copied()).collect();
            needed.sort_unstable();
            needed.dedup();
            // Inside the node, its own output's name can only mean another one outside.
            needed
                .retain(|&j| j != i || node.input.iter().any(|name| definer.get(name.as_str()) == Some(&i)));
            needed
        })
        .collect();

    // A depth-first walk from the results, without recursion.
    let mut wanted = vec![false; nodes.len()];
    let mut open: Vec<usize> = results.iter().filter_map(|name| definer.get(name).copied()).collect();
    while let Some(i) = open.pop() {
        if !std::mem::replace(&mut wanted[i], true) {
            open.extend(&needs[i]);
        }
    }

    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    needs.iter().enumerate().for_each(|(i, needed)| needed.iter().for_each(|&j| users[j].push(i)));
    let mut ready: std::collections::BTreeSet<usize> =
        (0..nodes.len()).filter(|&i| wanted[i] && missing[i] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(i) = ready.pop_first() {
        order.push(&nodes[i]);
        for &user in &users[i] {
            missing[user] -= 1;
            if missing[user] == 0 && wanted[user] {
                ready.insert(user);
            }
        }
    }
    if order.len() < wanted.iter().filter(|&&w| w).count() {
        let stuck = (0..nodes.len()).find(|&i| wanted[i] && missing[i] > 0).map(|i| &nodes[i]);
        let name = stuck.and_then(|n| n.output.first()).map_or("", String::as_str);
        return Err(Error::malformed(format!(
            "nodes need each other's outputs in a circle, such as `{name}`"
        )));
    }
    Ok(order)
}

/// The names that a node uses: its inputs, and what its graphs use from outside.
pub(super) fn inputs(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
    for graph in graphs(node) {
        names.extend(free(graph));
    }
    names
}

/// The graphs in a node's attributes.
pub(super) fn graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.as_deref().into_iter().chain(&a.graphs))
}

/// The names that a graph uses and does not define. The decoder limits how deep graphs nest.
pub(super) fn free(graph: &GraphProto) -> Vec<&str> {
    let own = graph.input.iter().map(|i| i.name());
    let own = own.chain(graph.initializer.iter().map(|t| t.name()));
    let own = own.chain(graph.sparse_initializer.iter().filter_map(|t| Some(t.values.as_ref()?.name())));
    let own: HashSet<&str> =
        own.chain(graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str))).collect();
    let used = graph.node.iter().flat_map(inputs).chain(graph.output.iter().map(|o| o.name()));
    used.filter(|name| !own.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(input: &[&str], output: &[&str]) -> NodeProto {
        let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        NodeProto { input: names(input), output: names(output), ..NodeProto::default() }
    }

    fn order(nodes: &[NodeProto], results: &[&str]) -> Result<Vec<String>> {
        Ok(sorted(nodes, results)?.iter().map(|n| n.output[0].clone()).collect())
    }

    #[test]
    fn nodes_follow_what_they_need() {
        let nodes =
            [node(&["b"], &["c"]), node(&["x"], &["a"]), node(&["a", ""], &["b"]), node(&["x"], &["d"])];
        assert_eq!(order(&nodes, &["c"]).unwrap(), ["a", "b", "c"]);
        assert_eq!(order(&nodes, &["d"]).unwrap(), ["d"]);
        assert_eq!(order(&nodes, &["x"]).unwrap(), [""; 0]);
        let circle = [node(&["b"], &["a"]), node(&["a"], &["b"])];
        assert!(order(&circle, &["a"]).unwrap_err().to_string().contains("circle"));
        assert!(order(&[node(&["a"], &["a"])], &["a"]).is_err());
        assert!(order(&[node(&[], &["a"]), node(&[], &["a"])], &["a"]).is_err());
    }
}
