//! Non-maximum suppression: of overlapping boxes, keeps the one with the highest confidence.

use milwright_formats::proto::NonMaximumSuppression;
use milwright_formats::proto::non_maximum_suppression::SuppressionMethod;

use super::given::Given;
use super::{Stop, array, malformed};
use crate::{Error, FeatureInfo, FeatureType, Flexibility, Prediction, Result, largest};

/// The largest number of elements in a padded output. More is refused, whatever the file declares.
const MOST_NUMBERS: usize = 1 << 24;

#[derive(Debug)]
pub(super) struct Suppression {
    model: NonMaximumSuppression,
    /// The names of the inputs for the thresholds.
    thresholds: Vec<String>,
    per_class: bool,
}

/// A box whose confidence reaches the threshold.
struct Candidate {
    /// The index of the box in the inputs.
    row: usize,
    class: usize,
    confidence: f64,
    corners: [f64; 4],
}

impl Suppression {
    pub fn new(m: &NonMaximumSuppression) -> Result<Suppression> {
        check_iou(m.iou_threshold).map_err(malformed)?;
        check_confidence(m.confidence_threshold).map_err(malformed)?;
        for (what, name) in [
            ("input of confidences", &m.confidence_input_feature_name),
            ("input of coordinates", &m.coordinates_input_feature_name),
            ("output of confidences", &m.confidence_output_feature_name),
            ("output of coordinates", &m.coordinates_output_feature_name),
        ] {
            if name.is_empty() {
                return Err(malformed(format!("the suppression does not name its {what}")));
            }
        }
        let names = [&m.iou_threshold_input_feature_name, &m.confidence_threshold_input_feature_name];
        Ok(Suppression {
            thresholds: names.into_iter().filter(|n| !n.is_empty()).cloned().collect(),
            // PickTop is the only method, and the format's default.
            per_class: matches!(&m.suppression_method, Some(SuppressionMethod::PickTop(p)) if p.per_class),
            model: m.clone(),
        })
    }

    pub fn thresholds(&self) -> &[String] {
        &self.thresholds
    }

    /// The range of thresholds that find at least as many boxes as the model's own threshold.
    pub fn range(&self, threshold: &str) -> Option<(f64, f64)> {
        let m = &self.model;
        match threshold {
            "" => None,
            name if name == m.iou_threshold_input_feature_name => Some((m.iou_threshold, 1.0)),
            name if name == m.confidence_threshold_input_feature_name => Some((0.0, m.confidence_threshold)),
            _ => None,
        }
    }

    pub fn compute(&self, given: &Given<'_>, stop: Stop<'_>) -> Result<Prediction> {
        let m = &self.model;
        let iou = threshold(given, &m.iou_threshold_input_feature_name, m.iou_threshold, check_iou)?;
        let least = threshold(
            given,
            &m.confidence_threshold_input_feature_name,
            m.confidence_threshold,
            check_confidence,
        )?;
        let (confidences, classes) = matrix(given, &m.confidence_input_feature_name)?;
        let (coordinates, four) = matrix(given, &m.coordinates_input_feature_name)?;
        if four != 4 {
            let name = &m.coordinates_input_feature_name;
            return Err(Error::invalid(format!("the input `{name}` has boxes of {four} numbers, not of 4")));
        }
        let rows = coordinates.len() / 4;
        // A vector holds one confidence for each box, or all confidences of a single box.
        let classes =
            if classes == rows && confidences.len() == rows && is_vector(given, m) { 1 } else { classes };
        if classes.checked_mul(rows) != Some(confidences.len()) {
            let found = confidences.len().checked_div(classes).unwrap_or(0);
            return Err(Error::invalid(format!("there are confidences of {found} boxes, and {rows} boxes")));
        }
        let kept = self.keep(candidates(&confidences, classes, &coordinates, least), iou, stop)?;
        let pick = |values: &[f64], width: usize| -> Vec<f64> {
            kept.iter().flat_map(|&row| values[row * width..(row + 1) * width].iter().copied()).collect()
        };
        let outputs = [
            (&m.confidence_output_feature_name, pick(&confidences, classes), classes),
            (&m.coordinates_output_feature_name, pick(&coordinates, 4), 4),
        ];
        let declared = |name: &String| given.function.outputs.named(name);
        let (fewest, most) = limits(outputs.iter().filter_map(|(name, ..)| declared(name)))?;
        let rows = kept.len().max(fewest).min(most);
        if rows.checked_mul(classes.max(4)).is_none_or(|n| n > MOST_NUMBERS) {
            return Err(Error::invalid(format!("the model wants {rows} boxes, which are too many")));
        }
        let mut tensors = Vec::new();
        for (name, mut values, width) in outputs {
            let Some(output) = declared(name) else { continue };
            values.resize(rows * width, 0.0);
            let FeatureType::MultiArray { dtype, .. } = &output.ty else {
                return Err(malformed(format!("the output `{name}` is not declared as an array")));
            };
            let tensor = array(*dtype, &[rows, width], &values);
            tensors.push((name.clone(), tensor.expect("the shape is that of the values")));
        }
        // In declared order.
        tensors.sort_by_key(|(name, _)| given.function.outputs.position(name));
        Ok(Prediction::new(tensors))
    }

    /// The indices of the boxes to keep, by descending confidence, and then in the order of the input.
    fn keep(&self, mut candidates: Vec<Candidate>, iou: f64, stop: Stop<'_>) -> Result<Vec<usize>> {
        candidates.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.row.cmp(&b.row)));
        let mut kept = Vec::new();
        let mut dropped = vec![false; candidates.len()];
        for (i, top) in candidates.iter().enumerate() {
            if dropped[i] {
                continue;
            }
            stop()?;
            kept.push(top.row);
            for (other, dropped) in candidates.iter().zip(&mut dropped).skip(i + 1) {
                let rivals = !self.per_class || other.class == top.class;
                *dropped |= rivals && overlap(&top.corners, &other.corners) > iou;
            }
        }
        Ok(kept)
    }
}

fn candidates(confidences: &[f64], classes: usize, coordinates: &[f64], least: f64) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (row, at) in coordinates.chunks_exact(4).enumerate() {
        // NaN does not count as a confidence.
        let scores: Vec<f64> = confidences[row * classes..(row + 1) * classes]
            .iter()
            .map(|&c| if c.is_nan() { f64::NEG_INFINITY } else { c })
            .collect();
        let class = largest(&scores);
        match scores.get(class) {
            Some(&confidence) if confidence >= least => {
                let [x, y, w, h] = [at[0], at[1], at[2], at[3]];
                let corners = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
                candidates.push(Candidate { row, class, confidence, corners });
            }
            _ => {}
        }
    }
    candidates
}

/// The intersection over union of two boxes; 0 if it cannot be computed.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    // `min` and `max` would ignore NaN.
    if a.iter().chain(b).any(|x| x.is_nan()) {
        return 0.0;
    }
    let area = |c: &[f64; 4]| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let shared = area(&[a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let share = shared / (area(a) + area(b) - shared);
    if share.is_nan() { 0.0 } else { share }
}

/// The threshold from the inputs, or else the model's own.
fn threshold(
    given: &Given<'_>,
    name: &str,
    of_model: f64,
    check: fn(f64) -> std::result::Result<(), String>,
) -> Result<f64> {
    if name.is_empty() || given.request.get(name).is_none() {
        return Ok(of_model);
    }
    match given.array(name)?.to_f64()[..] {
        [value] => {
            check(value).map(|()| value).map_err(|e| Error::invalid(format!("the input `{name}`: {e}")))
        }
        ref values => Err(Error::invalid(format!("the input `{name}` has {} values, not one", values.len()))),
    }
}

fn check_iou(value: f64) -> std::result::Result<(), String> {
    let fits = (0.0..=1.0).contains(&value);
    fits.then_some(()).ok_or_else(|| format!("a threshold of overlap is from 0 to 1, not {value}"))
}

fn check_confidence(value: f64) -> std::result::Result<(), String> {
    let fits = value >= 0.0;
    fits.then_some(()).ok_or_else(|| format!("a threshold of confidence is 0 or more, not {value}"))
}

/// An input as rows, and the row length. Dimensions in front of the last two must be batches of one.
fn matrix(given: &Given<'_>, name: &str) -> Result<(Vec<f64>, usize)> {
    let tensor = given.array(name)?;
    let shape = tensor.shape();
    let Some((&width, front)) = shape.split_last() else {
        return Err(Error::invalid(format!(
            "the input `{name}` is one number, the model takes boxes x numbers"
        )));
    };
    if front.iter().rev().skip(1).any(|&n| n != 1) {
        let message =
            format!("the input `{name}` has the shape {shape:?}, the model takes the boxes of one image");
        return Err(Error::invalid(message).with_hint("give it as boxes x numbers"));
    }
    Ok((tensor.to_f64(), width))
}

/// Whether the confidences come without a class dimension.
fn is_vector(given: &Given<'_>, m: &NonMaximumSuppression) -> bool {
    given.array(&m.confidence_input_feature_name).is_ok_and(|t| t.shape().len() == 1)
}

/// The smallest and the largest number of rows that the outputs may have.
fn limits<'a>(outputs: impl Iterator<Item = &'a FeatureInfo>) -> Result<(usize, usize)> {
    let (mut fewest, mut most) = (0, usize::MAX);
    for output in outputs {
        let FeatureType::MultiArray { shape, flexibility, .. } = &output.ty else { continue };
        let (low, high) = match (flexibility, &shape[..]) {
            (Flexibility::Range { dimensions }, _) => match dimensions.first() {
                Some(range) => (range.least, range.most),
                None => continue,
            },
            (Flexibility::Fixed, &[rows, _]) => (rows, Some(rows)),
            (Flexibility::Fixed, &[]) => continue,
            _ => {
                let message = format!(
                    "the output `{}` is declared with a shape that is not boxes x numbers",
                    output.name
                );
                return Err(malformed(message));
            }
        };
        fewest = fewest.max(usize::try_from(low).unwrap_or(usize::MAX));
        most = most.min(high.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)));
    }
    if fewest > most {
        return Err(malformed(
            "the numbers of boxes that the outputs are declared with contradict each other",
        ));
    }
    Ok((fewest, most))
}
