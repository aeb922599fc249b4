//! Ensembles of trees: every sample walks all trees at once, a level at a time, by gathering from tables of nodes.

use std::collections::HashMap;

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::super::compose::{V, one};
use super::super::elem::Elem;
use super::super::node::Node;
use super::{FLOAT, Labels, Post, best, column, matrix};
use crate::Error;
use crate::lower::{Lowering, Result, tensor_of};

/// The most levels of a tree.
const MAX_LEVELS: usize = 512;

/// A node of a tree: a question, or a leaf (whose branches are itself).
#[derive(Clone, Debug)]
struct Question {
    feature: i32,
    /// A sample goes to the true branch if it is at most this, or (`equal`) if it is this.
    threshold: f32,
    equal: bool,
    yes: i32,
    no: i32,
    /// Where NaN goes.
    missing: i32,
}

/// What each leaf adds: pairs of target and weight.
type Weights = HashMap<usize, Vec<(usize, f32)>>;

struct Forest {
    nodes: Vec<Question>,
    roots: Vec<i32>,
    weights: Weights,
    targets: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// The largest fp32 number that is at most t.
fn at_most(t: f64) -> f32 {
    let near = t as f32;
    if f64::from(near) > t { near.next_down() } else { near }
}

/// The largest fp32 number below t.
fn below(t: f64) -> f32 {
    let near = t as f32;
    if f64::from(near) >= t { near.next_down() } else { near }
}

/// A threshold as the inputs are: doubles were rounded to fp32, so that the threshold is, too.
fn threshold(t: f64, rounded: bool) -> f64 {
    if rounded { f64::from(t as f32) } else { t }
}

impl Question {
    /// A question in one of the modes: inputs are fp32, so that a double threshold may be moved to the next fp32 number.
    fn new(
        mode: &str,
        feature: i32,
        threshold: f64,
        yes: i32,
        no: i32,
        missing_true: bool,
    ) -> Result<Question> {
        let missing = if missing_true { yes } else { no };
        let (threshold, equal, swapped) = match mode {
            "BRANCH_LEQ" => (at_most(threshold), false, false),
            "BRANCH_LT" => (below(threshold), false, false),
            "BRANCH_GTE" => (below(threshold), false, true),
            "BRANCH_GT" => (at_most(threshold), false, true),
            // A number that is no fp32 number equals none.
            "BRANCH_EQ" | "BRANCH_NEQ" => {
                let near = threshold as f32;
                let exact = if f64::from(near) == threshold { near } else { f32::NAN };
                (exact, true, mode == "BRANCH_NEQ")
            }
            other => return Err(Error::malformed(format!("the mode `{other}`"))),
        };
        // NaN equals nothing, also where the question is whether it differs.
        let missing = if mode == "BRANCH_NEQ" { yes } else { missing };
        let (yes, no) = if swapped { (no, yes) } else { (yes, no) };
        Ok(Question { feature, threshold, equal, yes, no, missing })
    }

    fn leaf(at: i32) -> Question {
        Question { feature: 0, threshold: 0.0, equal: false, yes: at, no: at, missing: at }
    }
}

impl Forest {
    /// Reads the nodes of versions 1 and 3, which are given by tree and number.
    fn read(n: &mut Node<'_, '_>, prefix: Prefix) -> Result<Forest> {
        let ints = |n: &mut Node<'_, '_>, name: &'static str| -> Result<Vec<i64>> {
            Ok(n.ints(name)?.unwrap_or_default().to_vec())
        };
        let trees = ints(n, "nodes_treeids")?;
        let numbers = ints(n, "nodes_nodeids")?;
        let features = ints(n, "nodes_featureids")?;
        let yes = ints(n, "nodes_truenodeids")?;
        let no = ints(n, "nodes_falsenodeids")?;
        let missing = ints(n, "nodes_missing_value_tracks_true")?;
        let rounded = n.elem(0)? == Elem::Double;
        let modes: Vec<String> =
            n.texts("nodes_modes")?.unwrap_or_default().into_iter().map(str::to_owned).collect();
        let values = floats(n, "nodes_values", "nodes_values_as_tensor")?;
        floats(n, "nodes_hitrates", "nodes_hitrates_as_tensor")?;
        let count = trees.len();
        let same = [numbers.len(), features.len(), yes.len(), no.len(), modes.len(), values.len()];
        if count == 0 || same.iter().any(|&l| l != count) {
            return Err(Error::malformed("the lists of nodes have different lengths"));
        }
        let index: HashMap<(i64, i64), usize> =
            trees.iter().zip(&numbers).enumerate().map(|(i, (&t, &k))| ((t, k), i)).collect();
        let mut nodes = Vec::with_capacity(count);
        let mut is_child = vec![false; count];
        for i in 0..count {
            let child = |number: i64| -> Result<i32> {
                let found = index.get(&(trees[i], number)).copied();
                let found = found.ok_or_else(|| Error::malformed(format!("a tree has no node {number}")))?;
                Ok(found as i32)
            };
            if modes[i] == "LEAF" {
                nodes.push(Question::leaf(i as i32));
                continue;
            }
            let (yes, no) = (child(yes[i])?, child(no[i])?);
            is_child[yes as usize] = true;
            is_child[no as usize] = true;
            let feature = i32::try_from(features[i]).map_err(|_| Error::malformed("a feature"))?;
            let tracks = missing.get(i).is_some_and(|&m| m != 0);
            let value = threshold(values[i], rounded);
            nodes.push(Question::new(&modes[i], feature, value, yes, no, tracks)?);
        }
        // A root is a node that is no child, the first of its tree.
        let mut roots = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for i in 0..count {
            if !is_child[i] && seen.insert(trees[i]) {
                roots.push(i as i32);
            }
        }
        let [tree_ids, node_ids, target_ids, names] = prefix.names();
        let (leaf_trees, leaf_nodes) = (ints(n, tree_ids)?, ints(n, node_ids)?);
        let targets = ints(n, target_ids)?;
        let weights = floats(n, names, prefix.tensor())?;
        if leaf_trees.len() != leaf_nodes.len()
            || leaf_trees.len() != targets.len()
            || leaf_trees.len() != weights.len()
        {
            return Err(Error::malformed("the lists of leaves have different lengths"));
        }
        let mut of_leaf: Weights = HashMap::new();
        for i in 0..leaf_trees.len() {
            let node = index.get(&(leaf_trees[i], leaf_nodes[i])).copied();
            let node = node.ok_or_else(|| Error::malformed("a weight of a node that is not there"))?;
            let target = usize::try_from(targets[i]).map_err(|_| Error::malformed("a negative target"))?;
            of_leaf.entry(node).or_default().push((target, weights[i] as f32));
        }
        Ok(Forest { nodes, roots, weights: of_leaf, targets: 0 })
    }

    /// The number of levels below the roots. Branches may meet again, but not go in a circle: that has no end.
    fn levels(&self) -> Result<usize> {
        let mut level: Vec<i32> = self.roots.clone();
        for depth in 0..=MAX_LEVELS {
            let mut next = Vec::new();
            for &i in &level {
                let q = &self.nodes[i as usize];
                if q.yes == i && q.no == i {
                    continue;
                }
                next.extend([q.yes, q.no]);
            }
            next.sort_unstable();
            next.dedup();
            if next.is_empty() {
                return Ok(depth);
            }
            level = next;
        }
        Err(Error::unsupported(format!("a tree of more than {MAX_LEVELS} levels"))
            .with_hint("train trees of a limited depth"))
    }

    /// The leaf of each sample in each tree: [samples, trees].
    fn walk(&self, n: &mut Lowering, x: ValueId) -> Result<ValueId> {
        let levels = self.levels()?;
        if let Some(width) = n.dim(x, 1)?.fixed()
            && self.nodes.iter().any(|q| q.feature < 0 || q.feature as usize >= width)
        {
            return Err(Error::malformed(format!("a feature beyond the {width} of the input")));
        }
        let table = |n: &mut Lowering, f: &dyn Fn(&Question) -> i32| {
            let all: Vec<i32> = self.nodes.iter().map(f).collect();
            n.int_vector(&all)
        };
        let features = table(n, &|q| q.feature);
        let yes = table(n, &|q| q.yes);
        let no = table(n, &|q| q.no);
        let missing = table(n, &|q| q.missing);
        let thresholds: Vec<f32> = self.nodes.iter().map(|q| q.threshold).collect();
        let thresholds = n.float_tensor(&[thresholds.len()], thresholds, FLOAT)?;
        let any_equal = self.nodes.iter().any(|q| q.equal);
        let equal = table(n, &|q| i32::from(q.equal));
        let roots = n.constant(tensor_of(&[1, self.roots.len()], self.roots.clone())?);
        // All samples start at the roots.
        let first = column(n, x, 0)?;
        let zero = n.not_equal(first, first)?;
        let zero = n.cast(zero, DType::Int32)?;
        let zero = n.mul(zero, 0.0)?;
        let mut at = n.add(zero, roots)?;
        for _ in 0..levels {
            let feature = n.gather(features, at, 0)?;
            let value = crate::lower::op!(n, GatherAlongAxis, x = x, indices = feature, axis = 1)?;
            let threshold = n.gather(thresholds, at, 0)?;
            let mut hit = n.less_equal(value, threshold)?;
            if any_equal {
                let same = n.equal(value, threshold)?;
                let asked = n.gather(equal, at, 0)?;
                let asked = n.bool_of(asked)?;
                // MIL selects bools, too.
                hit = n.select_as(asked, same, hit, DType::Bool)?;
            }
            let (to_yes, to_no) = (n.gather(yes, at, 0)?, n.gather(no, at, 0)?);
            let next = n.select(hit, to_yes, to_no)?;
            let nan = n.not_equal(value, value)?;
            let to_missing = n.gather(missing, at, 0)?;
            at = n.select(nan, to_missing, next)?;
        }
        Ok(at)
    }

    /// The weights of the leaves, added up (or otherwise) over the trees: [samples, targets].
    fn scores(&self, n: &mut Lowering, x: ValueId, aggregate: Aggregate) -> Result<ValueId> {
        let leaves = self.walk(n, x)?;
        let missing = match aggregate {
            Aggregate::Min => f32::INFINITY,
            Aggregate::Max => f32::NEG_INFINITY,
            _ => 0.0,
        };
        let mut table = vec![missing; self.nodes.len() * self.targets];
        for (&node, all) in &self.weights {
            for &(target, weight) in all {
                if target >= self.targets {
                    return Err(Error::malformed(format!("target {target} of {}", self.targets)));
                }
                let entry = &mut table[node * self.targets + target];
                *entry = match aggregate {
                    Aggregate::Min => entry.min(weight),
                    Aggregate::Max => entry.max(weight),
                    _ => *entry + weight,
                };
            }
        }
        let table = n.float_tensor(&[self.nodes.len(), self.targets], table, FLOAT)?;
        let parts = n.gather(table, leaves, 0)?;
        match aggregate {
            Aggregate::Sum => n.sum(parts, &[1], false),
            Aggregate::Average => {
                let sum = n.sum(parts, &[1], false)?;
                n.div(sum, self.roots.len() as f64)
            }
            Aggregate::Min => n.reduce(ReduceMin, parts, &[1], false),
            Aggregate::Max => n.reduce(ReduceMax, parts, &[1], false),
        }
    }
}

/// Which of the two ops names the attributes of leaves.
#[derive(Clone, Copy)]
enum Prefix {
    Class,
    Target,
}

impl Prefix {
    fn names(self) -> [&'static str; 4] {
        match self {
            Prefix::Class => ["class_treeids", "class_nodeids", "class_ids", "class_weights"],
            Prefix::Target => ["target_treeids", "target_nodeids", "target_ids", "target_weights"],
        }
    }

    fn tensor(self) -> &'static str {
        match self {
            Prefix::Class => "class_weights_as_tensor",
            Prefix::Target => "target_weights_as_tensor",
        }
    }
}

/// Numbers that are floats, or a tensor of doubles.
fn floats(n: &mut Node<'_, '_>, name: &'static str, tensor: &'static str) -> Result<Vec<f64>> {
    if let Some(stored) = n.tensor(tensor)? {
        return Ok(stored.numbers());
    }
    Ok(n.floats(name)?.unwrap_or_default().iter().map(|&f| f64::from(f)).collect())
}

fn plus_base(n: &mut Lowering, scores: ValueId, base: Vec<f64>) -> Result<ValueId> {
    if base.is_empty() || base.iter().all(|&b| b == 0.0) {
        return Ok(scores);
    }
    let base = n.float_tensor(&[base.len()], base.into_iter().map(|b| b as f32).collect(), FLOAT)?;
    n.add(scores, base)
}

pub(in super::super) fn tree_regressor(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = matrix(n)?;
    let mut forest = Forest::read(n, Prefix::Target)?;
    forest.targets = usize::try_from(n.int_or("n_targets", 1)?).unwrap_or(0);
    let aggregate = match n.text_or("aggregate_function", "SUM")? {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(Error::malformed(format!("the function `{other}`"))),
    };
    let base = floats(n, "base_values", "base_values_as_tensor")?;
    let post = Post::read(n)?;
    let scores = forest.scores(n, x, aggregate)?;
    let scores = plus_base(n, scores, base)?;
    let y = post.apply(n, scores)?;
    one(y, Elem::Float)
}

pub(in super::super) fn tree_classifier(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = matrix(n)?;
    let labels = Labels::read(n, "classlabels_int64s")?;
    let mut forest = Forest::read(n, Prefix::Class)?;
    let base = floats(n, "base_values", "base_values_as_tensor")?;
    let post = Post::read(n)?;
    let ids: std::collections::HashSet<usize> =
        forest.weights.values().flatten().map(|&(target, _)| target).collect();
    let positive = forest.weights.values().flatten().all(|&(_, w)| w >= 0.0);
    let binary = ids.len() == 1 && labels.count <= 2;
    forest.targets = if binary { ids.iter().max().map_or(1, |&t| t + 1) } else { labels.count };
    let scores = forest.scores(n, x, Aggregate::Sum)?;
    if !binary {
        let scores = plus_base(n, scores, base)?;
        // The class with the highest sum, before the transform: it keeps the order.
        let index = best(n, scores)?;
        let label = labels.of(n, index)?;
        let scores = post.apply(n, scores)?;
        return Ok(vec![label, V { id: scores, elem: Elem::Float }]);
    }
    // One number stands for two classes.
    let only = forest.targets as i32 - 1;
    let mut score = column(n, scores, only)?;
    if let Some(&base) = base.last() {
        score = n.add(score, base)?;
    }
    let (both, limit) = match post {
        Post::None | Post::Probit if positive => {
            let other = n.sub(1.0, score)?;
            (n.concat(vec![other, score], 1)?, 0.5)
        }
        _ => {
            let other = n.neg(score)?;
            (n.concat(vec![other, score], 1)?, 0.0)
        }
    };
    let flat = n.squeeze(score, &[1])?;
    let hit = n.greater(flat, limit)?;
    let hit = n.cast(hit, DType::Int32)?;
    let label = if labels.count == 1 { V { id: hit, elem: Elem::Int64 } } else { labels.of(n, hit)? };
    let scores = post.apply(n, both)?;
    Ok(vec![label, V { id: scores, elem: Elem::Float }])
}

/// The op of version 5: nodes and leaves are counted apart, and a node may ask whether a value is in a set.
pub(in super::super) fn tree_ensemble(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let elem = n.elem(0)?;
    let rounded = elem == Elem::Double;
    let x = matrix(n)?;
    let list = |n: &mut Node<'_, '_>, name: &'static str| -> Result<Vec<i64>> {
        Ok(n.ints(name)?.unwrap_or_default().to_vec())
    };
    let roots = list(n, "tree_roots")?;
    let features = list(n, "nodes_featureids")?;
    let (yes, no) = (list(n, "nodes_truenodeids")?, list(n, "nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (list(n, "nodes_trueleafs")?, list(n, "nodes_falseleafs")?);
    let missing = list(n, "nodes_missing_value_tracks_true")?;
    let targets = list(n, "leaf_targetids")?;
    let numbers = |n: &mut Node<'_, '_>, name: &'static str| -> Result<Vec<f64>> {
        Ok(n.tensor(name)?.map(|t| t.numbers()).unwrap_or_default())
    };
    let modes = numbers(n, "nodes_modes")?;
    let splits = numbers(n, "nodes_splits")?;
    let weights = numbers(n, "leaf_weights")?;
    let members = numbers(n, "membership_values")?;
    numbers(n, "nodes_hitrates")?;
    let n_targets = usize::try_from(n.int_or("n_targets", 1)?).unwrap_or(0);
    let aggregate = match n.int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(Error::malformed(format!("the function {other}"))),
    };
    let post = match n.int_or("post_transform", 0)? {
        0 => Post::None,
        1 => Post::Softmax,
        2 => Post::Logistic,
        3 => Post::SoftmaxZero,
        4 => Post::Probit,
        other => return Err(Error::malformed(format!("the transform {other}"))),
    };
    let count = features.len();
    let lengths = [yes.len(), no.len(), yes_leaf.len(), no_leaf.len(), modes.len(), splits.len()];
    if lengths.iter().any(|&l| l != count) || targets.len() != weights.len() {
        return Err(Error::malformed("the lists of nodes have different lengths"));
    }
    // Leaves come after the nodes; further questions of sets after those.
    let leaf_at = |i: i64| count as i64 + i;
    let check = |i: i64, is_leaf: bool| -> Result<i32> {
        let limit = if is_leaf { targets.len() } else { count };
        if i < 0 || i as usize >= limit {
            return Err(Error::malformed(format!("a tree has no node or leaf {i}")));
        }
        Ok(if is_leaf { leaf_at(i) as i32 } else { i as i32 })
    };
    let mut nodes = Vec::with_capacity(count + targets.len());
    let mut more: Vec<Question> = Vec::new();
    let mut sets = members.split(|m| m.is_nan());
    for i in 0..count {
        let (t, f) = (check(yes[i], yes_leaf[i] != 0)?, check(no[i], no_leaf[i] != 0)?);
        let feature = i32::try_from(features[i]).map_err(|_| Error::malformed("a feature"))?;
        let tracks = missing.get(i).is_some_and(|&m| m != 0);
        let name = match modes[i] as i64 {
            0 => "BRANCH_LEQ",
            1 => "BRANCH_LT",
            2 => "BRANCH_GTE",
            3 => "BRANCH_GT",
            4 => "BRANCH_EQ",
            5 => "BRANCH_NEQ",
            6 => {
                // One question after the other, whether it is this member.
                let set = sets.next().unwrap_or_default();
                let base = count + targets.len() + more.len();
                let Some((first, rest)) = set.split_first() else {
                    nodes.push(Question {
                        feature,
                        threshold: f32::NAN,
                        equal: true,
                        yes: f,
                        no: f,
                        missing: f,
                    });
                    continue;
                };
                for (k, &member) in rest.iter().enumerate() {
                    let next = if k + 1 < rest.len() { (base + k + 1) as i32 } else { f };
                    more.push(Question::new(
                        "BRANCH_EQ",
                        feature,
                        threshold(member, rounded),
                        t,
                        next,
                        tracks,
                    )?);
                }
                let next = if rest.is_empty() { f } else { base as i32 };
                nodes.push(Question::new("BRANCH_EQ", feature, threshold(*first, rounded), t, next, tracks)?);
                continue;
            }
            other => return Err(Error::malformed(format!("the mode {other}"))),
        };
        nodes.push(Question::new(name, feature, threshold(splits[i], rounded), t, f, tracks)?);
    }
    let mut of_leaf: Weights = HashMap::new();
    for (i, &target) in targets.iter().enumerate() {
        let at = leaf_at(i as i64) as usize;
        nodes.push(Question::leaf(at as i32));
        let target = usize::try_from(target).map_err(|_| Error::malformed("a negative target"))?;
        of_leaf.entry(at).or_default().push((target, weights[i] as f32));
    }
    nodes.extend(more);
    // A tree that is a leaf alone: its node's branches are the same leaf.
    let roots = roots.iter().map(|&r| check(r, false)).collect::<Result<Vec<_>>>()?;
    let forest = Forest { nodes, roots, weights: of_leaf, targets: n_targets };
    let scores = forest.scores(n, x, aggregate)?;
    let y = post.apply(n, scores)?;
    let y = n.cast(y, elem.carried()?)?;
    one(y, elem)
}
