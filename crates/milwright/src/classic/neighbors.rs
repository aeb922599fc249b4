//! The k-nearest-neighbours classifier.

use milwright_formats::proto::KNearestNeighborsClassifier;
use milwright_formats::proto::k_nearest_neighbors_classifier::{
    ClassLabels, DefaultClassLabel, WeightingScheme,
};
use milwright_formats::proto::nearest_neighbors_index::{DistanceFunction, IndexType};

use super::{Stop, labelled, malformed};
use crate::{Error, FunctionInfo, Prediction, Result, Tensor};

#[derive(Debug)]
pub(super) struct Neighbors {
    dimensions: usize,
    /// All samples, one after the other.
    samples: Vec<f32>,
    /// The class index of each sample.
    class_of: Vec<usize>,
    classes: usize,
    k: usize,
    by_distance: bool,
    /// The label to return if there are no samples.
    default: Option<Tensor>,
}

impl Neighbors {
    /// Reads a model. Also returns its classes: each label once, in ascending order.
    ///
    /// A file may ask for a tree index. That would not change the neighbours, so all samples are compared.
    pub fn new(m: &KNearestNeighborsClassifier) -> Result<(Neighbors, Tensor)> {
        let index =
            m.nearest_neighbors_index.as_ref().ok_or_else(|| malformed("there is no index of neighbours"))?;
        match (&index.index_type, &index.distance_function) {
            (None, _) => return Err(malformed("the index of neighbours has no type")),
            (_, None) => return Err(malformed("the index of neighbours has no distance")),
            (
                Some(IndexType::LinearIndex(_) | IndexType::SingleKdTreeIndex(_)),
                Some(DistanceFunction::SquaredEuclideanDistance(_)),
            ) => {}
        }
        let dimensions = usize::try_from(index.number_of_dimensions).ok().filter(|&n| n > 0);
        let dimensions = dimensions.ok_or_else(|| malformed("the neighbours have no dimensions"))?;
        let samples = &index.float_samples;
        if let Some(sample) = samples.iter().find(|s| s.vector.len() != dimensions) {
            let found = sample.vector.len();
            return Err(malformed(format!("a neighbour has {found} numbers, the others {dimensions}")));
        }
        let (class_of, classes, count) = match &m.class_labels {
            Some(ClassLabels::StringClassLabels(s)) => {
                let (class_of, classes) = number(&s.vector);
                let count = classes.len();
                (class_of, Tensor::from_strings(&[count], classes), count)
            }
            Some(ClassLabels::Int64ClassLabels(i)) => {
                let (class_of, classes) = number(&i.vector);
                let count = classes.len();
                (class_of, Tensor::from_vec(&[count], classes), count)
            }
            None => (Vec::new(), Tensor::from_strings(&[0], Vec::new()), 0),
        };
        if class_of.len() != samples.len() {
            return Err(malformed(format!("{} labels for {} neighbours", class_of.len(), samples.len())));
        }
        let default = m.default_class_label.as_ref().map(|label| match label {
            DefaultClassLabel::DefaultStringLabel(s) => Tensor::string(s),
            DefaultClassLabel::DefaultInt64Label(n) => Tensor::scalar(*n),
        });
        if samples.is_empty() && default.is_none() {
            return Err(malformed("there are neither neighbours nor a label for that case"));
        }
        let k = m.number_of_neighbors.as_ref().map_or(0, |k| k.default_value);
        let k = usize::try_from(k).ok().filter(|&k| k > 0);
        let k = k.ok_or_else(|| malformed("the number of neighbours to look at is not above 0"))?;
        let by_distance = match m.weighting_scheme {
            Some(WeightingScheme::UniformWeighting(_)) => false,
            Some(WeightingScheme::InverseDistanceWeighting(_)) => true,
            None => return Err(malformed("it is not said how neighbours are weighted")),
        };
        let samples = samples.iter().flat_map(|s| s.vector.iter().copied()).collect();
        let neighbors = Neighbors { dimensions, samples, class_of, classes: count, k, by_distance, default };
        Ok((neighbors, classes.map_err(|e| malformed(e.to_string()))?))
    }

    /// The share of each class among the neighbours; empty if there are no samples.
    pub fn compute(&self, x: &[f64], stop: Stop<'_>) -> Result<Vec<f64>> {
        if x.len() != self.dimensions {
            let (found, wanted) = (x.len(), self.dimensions);
            return Err(Error::invalid(format!("the inputs have {found} numbers, the model takes {wanted}")));
        }
        if let Some(x) = x.iter().find(|x| !x.is_finite()) {
            return Err(Error::invalid(format!("an input is {x}: nothing is near to that")));
        }
        let mut distances = Vec::with_capacity(self.class_of.len());
        for (i, sample) in self.samples.chunks_exact(self.dimensions).enumerate() {
            if i % 4096 == 0 {
                stop()?;
            }
            let squares = sample.iter().zip(x).map(|(s, x)| (f64::from(*s) - x).powi(2));
            distances.push((squares.sum::<f64>(), i));
        }
        // Of equally distant samples, the first comes first. NaN in a sample counts as the largest distance.
        let nearer = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if self.k < distances.len() {
            distances.select_nth_unstable_by(self.k - 1, nearer);
            distances.truncate(self.k);
        }
        // A neighbour at distance 0 outweighs all others.
        let same = self.by_distance && distances.iter().any(|(d, _)| *d == 0.0);
        let weight = |distance: f64| match (self.by_distance, same) {
            (false, _) => 1.0,
            (true, true) => f64::from(u8::from(distance == 0.0)),
            (true, false) => 1.0 / distance,
        };
        let mut shares = vec![0.0; self.classes];
        distances.iter().for_each(|&(distance, i)| shares[self.class_of[i]] += weight(distance));
        let sum: f64 = shares.iter().sum();
        let are_comparable = sum > 0.0 && sum.is_finite();
        if !distances.is_empty() && !are_comparable {
            return Err(Error::invalid("the neighbours are too far away for distances to be compared"));
        }
        Ok(shares.iter().map(|share| share / sum).collect())
    }

    /// The prediction of a model without samples: the default label, and no probabilities.
    pub fn of_nothing(&self, function: &FunctionInfo, classes: &Tensor) -> Result<Prediction> {
        let label = self.default.clone().ok_or_else(|| malformed("there are no neighbours"))?;
        let none = Tensor::from_vec::<f64>(&[0], Vec::new()).map_err(|e| Error::invalid(e.to_string()))?;
        Ok(labelled(function, label, Some(none)).with_classes(classes.clone()))
    }
}

/// The class index of each label, and the distinct labels in ascending order.
fn number<T: Clone + Ord>(labels: &[T]) -> (Vec<usize>, Vec<T>) {
    let mut classes = labels.to_vec();
    classes.sort();
    classes.dedup();
    let class = |label: &T| classes.binary_search(label).expect("every label is among the classes");
    (labels.iter().map(class).collect(), classes)
}
