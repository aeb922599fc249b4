//! Generalized linear models: a weighted sum, an offset, and a link function.

use milwright_formats::proto::glm_classifier::{ClassEncoding, ClassLabels, PostEvaluationTransform as Link};
use milwright_formats::proto::glm_regressor::PostEvaluationTransform;
use milwright_formats::proto::{GlmClassifier, GlmRegressor};

use super::{labels, logistic, malformed, softmax};
use crate::{Error, Result, Tensor};

#[derive(Debug)]
pub(super) struct Glm {
    /// The weights of each sum.
    weights: Vec<Vec<f64>>,
    offset: Vec<f64>,
    transform: Transform,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Transform {
    None,
    Logit,
    Probit,
    /// The probabilities of all classes but the first, which is the reference class.
    Reference(Curve),
    /// The probability of each class against all others, normalized.
    OneVersusRest(Curve),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Curve {
    Logit,
    Probit,
}

impl Glm {
    pub fn regressor(model: &GlmRegressor) -> Result<Glm> {
        let transform = match PostEvaluationTransform::try_from(model.post_evaluation_transform) {
            Ok(PostEvaluationTransform::NoTransform) => Transform::None,
            Ok(PostEvaluationTransform::Logit) => Transform::Logit,
            Ok(PostEvaluationTransform::Probit) => Transform::Probit,
            Err(_) => return Err(malformed("an unknown transform")),
        };
        let weights = model.weights.iter().map(|w| w.value.clone()).collect();
        Glm::new(weights, model.offset.clone(), transform)
    }

    pub fn classifier(model: &GlmClassifier) -> Result<Glm> {
        let curve = match Link::try_from(model.post_evaluation_transform) {
            Ok(Link::Logit) => Curve::Logit,
            Ok(Link::Probit) => Curve::Probit,
            Err(_) => return Err(malformed("an unknown transform")),
        };
        let transform = match ClassEncoding::try_from(model.class_encoding) {
            Ok(ClassEncoding::ReferenceClass) => Transform::Reference(curve),
            Ok(ClassEncoding::OneVsRest) => Transform::OneVersusRest(curve),
            Err(_) => return Err(malformed("an unknown encoding of classes")),
        };
        let weights = model.weights.iter().map(|w| w.value.clone()).collect();
        Glm::new(weights, model.offset.clone(), transform)
    }

    fn new(weights: Vec<Vec<f64>>, mut offset: Vec<f64>, transform: Transform) -> Result<Glm> {
        if offset.is_empty() {
            offset = vec![0.0; weights.len()];
        }
        if weights.is_empty() || offset.len() != weights.len() {
            return Err(malformed(format!("{} offsets for {} rows of weights", offset.len(), weights.len())));
        }
        if matches!(transform, Transform::Reference(Curve::Probit)) && weights.len() > 1 {
            return Err(malformed("probit is for two classes"));
        }
        Ok(Glm { weights, offset, transform })
    }

    pub fn compute(&self, x: &[f64]) -> Result<Vec<f64>> {
        let mut sums = Vec::with_capacity(self.weights.len());
        for (weights, offset) in self.weights.iter().zip(&self.offset) {
            if weights.len() != x.len() {
                let message =
                    format!("the inputs have {} numbers, the model takes {}", x.len(), weights.len());
                return Err(Error::invalid(message));
            }
            sums.push(weights.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + offset);
        }
        let each = |curve: Curve| sums.iter().map(|&s| curve.at(s)).collect::<Vec<f64>>();
        Ok(match (self.transform, &sums[..]) {
            (Transform::None, _) => sums,
            (Transform::Logit, _) => each(Curve::Logit),
            (Transform::Probit, _) => each(Curve::Probit),
            (Transform::Reference(curve) | Transform::OneVersusRest(curve), &[sum]) => {
                let p = curve.at(sum);
                vec![1.0 - p, p]
            }
            (Transform::Reference(_), _) => softmax(&[&[0.0], &sums[..]].concat()),
            (Transform::OneVersusRest(curve), _) => {
                let each = each(curve);
                let sum: f64 = each.iter().sum();
                each.iter().map(|p| p / sum).collect()
            }
        })
    }
}

impl Curve {
    fn at(self, x: f64) -> f64 {
        match self {
            Curve::Logit => logistic(x),
            // The normal distribution.
            Curve::Probit => 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2),
        }
    }
}

pub(super) fn classes(model: &GlmClassifier) -> Result<Tensor> {
    match &model.class_labels {
        Some(ClassLabels::StringClassLabels(s)) => labels(Some(&s.vector), None),
        Some(ClassLabels::Int64ClassLabels(i)) => labels(None, Some(&i.vector)),
        None => labels(None, None),
    }
}
