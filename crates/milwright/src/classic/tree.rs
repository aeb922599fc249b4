//! Ensembles of decision trees.

use std::collections::{HashMap, HashSet};

use milwright_formats::proto::tree_ensemble_classifier::ClassLabels;
use milwright_formats::proto::tree_ensemble_parameters::TreeNode;
use milwright_formats::proto::tree_ensemble_parameters::tree_node::TreeNodeBehavior as Behavior;
use milwright_formats::proto::{
    TreeEnsembleClassifier, TreeEnsembleParameters, TreeEnsemblePostEvaluationTransform as Transform,
    TreeEnsembleRegressor,
};

use super::{labels, logistic, malformed, softmax};
use crate::{Error, Result, Tensor};

#[derive(Debug)]
pub(super) struct Trees {
    nodes: Vec<Node>,
    roots: Vec<usize>,
    base: Vec<f64>,
    transform: Transform,
    /// A classifier with a single score, that of the second of two classes.
    binary: bool,
}

#[derive(Debug)]
enum Node {
    Leaf(Vec<(usize, f64)>),
    /// An inner node. Its children come later in `nodes`, so every walk ends.
    Branch {
        behavior: Behavior,
        feature: usize,
        value: f64,
        yes: usize,
        no: usize,
        missing_is_yes: bool,
    },
}

impl Trees {
    pub fn regressor(model: &TreeEnsembleRegressor) -> Result<Trees> {
        Trees::new(model.tree_ensemble.as_ref(), model.post_evaluation_transform, false)
    }

    pub fn classifier(model: &TreeEnsembleClassifier) -> Result<Trees> {
        Trees::new(model.tree_ensemble.as_ref(), model.post_evaluation_transform, true)
    }

    fn new(params: Option<&TreeEnsembleParameters>, transform: i32, classifier: bool) -> Result<Trees> {
        let params = params.ok_or_else(|| malformed("there are no trees"))?;
        let transform = Transform::try_from(transform).map_err(|_| malformed("an unknown transform"))?;
        let base = params.base_prediction_value.clone();
        if base.is_empty() || base.len() as u64 != params.num_prediction_dimensions {
            let (found, wanted) = (base.len(), params.num_prediction_dimensions);
            return Err(malformed(format!("{found} base values for {wanted} dimensions")));
        }
        let (nodes, roots) = arrange(&params.nodes, base.len())?;
        let binary = classifier && base.len() == 1;
        Ok(Trees { nodes, roots, base, transform, binary })
    }

    pub fn compute(&self, x: &[f64]) -> Result<Vec<f64>> {
        let mut sums = self.base.clone();
        for &root in &self.roots {
            let mut at = root;
            loop {
                match &self.nodes[at] {
                    Node::Leaf(values) => {
                        values.iter().for_each(|&(i, value)| sums[i] += value);
                        break;
                    }
                    &Node::Branch { behavior, feature, value, yes, no, missing_is_yes } => {
                        let x = x.get(feature).copied().ok_or_else(|| {
                            let message =
                                format!("a tree looks at number {feature}, the inputs have {}", x.len());
                            Error::invalid(message)
                        })?;
                        at = if holds(behavior, x, value, missing_is_yes) { yes } else { no };
                    }
                }
            }
        }
        Ok(match self.transform {
            Transform::RegressionLogistic => {
                let each: Vec<f64> = sums.iter().map(|&s| logistic(s)).collect();
                if self.binary { vec![1.0 - each[0], each[0]] } else { each }
            }
            Transform::ClassificationSoftMax => softmax(&sums),
            Transform::ClassificationSoftMaxWithZeroClassReference => softmax(&[&[0.0], &sums[..]].concat()),
            Transform::NoTransform if self.binary => vec![1.0 - sums[0], sums[0]],
            Transform::NoTransform => sums,
        })
    }
}

fn holds(behavior: Behavior, x: f64, value: f64, missing_is_yes: bool) -> bool {
    if x.is_nan() {
        return missing_is_yes;
    }
    match behavior {
        Behavior::BranchOnValueLessThanEqual => x <= value,
        Behavior::BranchOnValueLessThan => x < value,
        Behavior::BranchOnValueGreaterThanEqual => x >= value,
        Behavior::BranchOnValueGreaterThan => x > value,
        Behavior::BranchOnValueEqual => x == value,
        Behavior::BranchOnValueNotEqual => x != value,
        Behavior::LeafNode => false,
    }
}

/// Orders the nodes with parents before children, and finds the roots.
fn arrange(nodes: &[TreeNode], dimensions: usize) -> Result<(Vec<Node>, Vec<usize>)> {
    let mut places = HashMap::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        if places.insert((node.tree_id, node.node_id), i).is_some() {
            return Err(malformed(format!("tree {} has two nodes {}", node.tree_id, node.node_id)));
        }
    }
    let is_leaf = |node: &TreeNode| node.node_behavior == i32::from(Behavior::LeafNode);
    let child = |node: &TreeNode, id: u64| {
        let missing = || malformed(format!("tree {} has no node {id}", node.tree_id));
        places.get(&(node.tree_id, id)).copied().ok_or_else(missing)
    };
    let mut children = HashSet::new();
    for node in nodes.iter().filter(|n| !is_leaf(n)) {
        for id in [node.true_child_node_id, node.false_child_node_id] {
            if !children.insert(child(node, id)?) {
                return Err(malformed(format!("node {id} of tree {} has two parents", node.tree_id)));
            }
        }
    }
    // Every node has at most one parent, so a walk from the roots visits each node once.
    let mut order: Vec<usize> = (0..nodes.len()).filter(|i| !children.contains(i)).collect();
    let roots = order.len();
    let mut arranged = Vec::with_capacity(nodes.len());
    let mut next = 0;
    while let Some(&i) = order.get(next) {
        let node = &nodes[i];
        if is_leaf(node) {
            let value =
                |v: &milwright_formats::proto::tree_ensemble_parameters::tree_node::EvaluationInfo| {
                    let index = usize::try_from(v.evaluation_index).ok().filter(|&i| i < dimensions);
                    index.map(|i| (i, v.evaluation_value))
                };
            let values: Option<Vec<_>> = node.evaluation_info.iter().map(value).collect();
            arranged.push(Node::Leaf(
                values.ok_or_else(|| malformed("a leaf for a dimension that is not there"))?,
            ));
        } else {
            let behavior =
                Behavior::try_from(node.node_behavior).map_err(|_| malformed("an unknown kind of node"))?;
            let (yes, no) = (order.len(), order.len() + 1);
            order.push(child(node, node.true_child_node_id)?);
            order.push(child(node, node.false_child_node_id)?);
            arranged.push(Node::Branch {
                behavior,
                feature: usize::try_from(node.branch_feature_index).unwrap_or(usize::MAX),
                value: node.branch_feature_value,
                yes,
                no,
                missing_is_yes: node.missing_value_tracks_true_child,
            });
        }
        next += 1;
    }
    Ok((arranged, (0..roots).collect()))
}

pub(super) fn classes(model: &TreeEnsembleClassifier) -> Result<Tensor> {
    match &model.class_labels {
        Some(ClassLabels::StringClassLabels(s)) => labels(Some(&s.vector), None),
        Some(ClassLabels::Int64ClassLabels(i)) => labels(None, Some(&i.vector)),
        None => labels(None, None),
    }
}
