//! Support vector machines, computed as in libsvm, whose parameters the format uses.

use milwright_formats::proto::kernel::Kernel;
use milwright_formats::proto::support_vector_classifier::{ClassLabels, SupportVectors as OfClassifier};
use milwright_formats::proto::support_vector_regressor::SupportVectors as OfRegressor;
use milwright_formats::proto::{
    self as pb, DenseSupportVectors, SparseSupportVectors, SupportVectorClassifier, SupportVectorRegressor,
};

use super::{Stop, labels, malformed};
use crate::{Error, Result, Tensor, largest};

#[derive(Debug)]
pub(super) struct Machine {
    kernel: Kernel,
    vectors: Vectors,
    decision: Decision,
}

#[derive(Debug)]
enum Vectors {
    Dense(Vec<Vec<f64>>),
    /// For each vector, its nonzero elements with their indices, which start at 0 and ascend.
    Sparse(Vec<Vec<(usize, f64)>>),
}

#[derive(Debug)]
enum Decision {
    Sum { coefficients: Vec<f64>, rho: f64 },
    Pairs(Pairs),
}

/// One binary machine for each pair of classes.
#[derive(Debug)]
struct Pairs {
    /// The index of the first support vector of each class, and the end of the last class.
    starts: Vec<usize>,
    /// For all but one of the classes, a coefficient for each support vector.
    coefficients: Vec<Vec<f64>>,
    /// For each pair of classes, in the order (0, 1), (0, 2) … (1, 2) …: a threshold here, and the two parameters of
    /// the sigmoid in `probability`.
    rho: Vec<f64>,
    probability: Option<(Vec<f64>, Vec<f64>)>,
}

/// The result of a machine.
pub(super) struct Outcome {
    /// The best class, in a classifier.
    pub best: usize,
    /// The votes or probabilities of a classifier, or the number of a regressor.
    pub scores: Vec<f64>,
    pub are_probabilities: bool,
}

impl Machine {
    pub fn regressor(m: &SupportVectorRegressor) -> Result<Machine> {
        let vectors = match &m.support_vectors {
            Some(OfRegressor::DenseSupportVectors(v)) => dense(v)?,
            Some(OfRegressor::SparseSupportVectors(v)) => sparse(v)?,
            None => return Err(malformed("there are no support vectors")),
        };
        let coefficients = m.coefficients.as_ref().map_or(&[][..], |c| &c.alpha).to_vec();
        if coefficients.len() != vectors.len() {
            let (found, wanted) = (coefficients.len(), vectors.len());
            return Err(malformed(format!("{found} coefficients for {wanted} support vectors")));
        }
        let decision = Decision::Sum { coefficients, rho: m.rho };
        Ok(Machine { kernel: kernel(m.kernel.as_ref())?, vectors, decision })
    }

    pub fn classifier(m: &SupportVectorClassifier, classes: usize) -> Result<Machine> {
        let vectors = match &m.support_vectors {
            Some(OfClassifier::DenseSupportVectors(v)) => dense(v)?,
            Some(OfClassifier::SparseSupportVectors(v)) => sparse(v)?,
            None => return Err(malformed("there are no support vectors")),
        };
        let decision = Decision::Pairs(Pairs::new(m, classes, vectors.len())?);
        Ok(Machine { kernel: kernel(m.kernel.as_ref())?, vectors, decision })
    }

    pub fn compute(&self, x: &[f64], stop: Stop<'_>) -> Result<Outcome> {
        let values = self.kernel_values(x, stop)?;
        Ok(match &self.decision {
            Decision::Sum { coefficients, rho } => {
                let sum: f64 = coefficients.iter().zip(&values).map(|(c, v)| c * v).sum();
                Outcome { best: 0, scores: vec![sum - rho], are_probabilities: false }
            }
            Decision::Pairs(pairs) => pairs.decide(&values, stop)?,
        })
    }

    /// The kernel between the input and each support vector.
    fn kernel_values(&self, x: &[f64], stop: Stop<'_>) -> Result<Vec<f64>> {
        let misfit = |found: usize| {
            Error::invalid(format!("the inputs have {} numbers, the support vectors {found}", x.len()))
        };
        let mut values = Vec::with_capacity(self.vectors.len());
        match &self.vectors {
            Vectors::Dense(vectors) => {
                for (i, vector) in vectors.iter().enumerate() {
                    if i % 1024 == 0 {
                        stop()?;
                    }
                    if vector.len() != x.len() {
                        return Err(misfit(vector.len()));
                    }
                    let terms = || x.iter().copied().zip(vector.iter().copied());
                    values.push(value(&self.kernel, terms));
                }
            }
            Vectors::Sparse(vectors) => {
                for (i, vector) in vectors.iter().enumerate() {
                    if i % 1024 == 0 {
                        stop()?;
                    }
                    if let Some(&(last, _)) = vector.last()
                        && last >= x.len()
                    {
                        return Err(misfit(last + 1));
                    }
                    let terms = || {
                        let mut nodes = vector.iter().peekable();
                        x.iter().enumerate().map(move |(i, &x)| {
                            (x, nodes.next_if(|(place, _)| *place == i).map_or(0.0, |(_, v)| *v))
                        })
                    };
                    values.push(value(&self.kernel, terms));
                }
            }
        }
        Ok(values)
    }
}

/// The kernel of two vectors, given as pairs of their elements.
fn value<I: Iterator<Item = (f64, f64)>>(kernel: &Kernel, terms: impl Fn() -> I) -> f64 {
    let dot = || terms().map(|(a, b)| a * b).sum::<f64>();
    match kernel {
        Kernel::LinearKernel(_) => dot(),
        Kernel::RbfKernel(k) => (-k.gamma * terms().map(|(a, b)| (a - b) * (a - b)).sum::<f64>()).exp(),
        Kernel::PolyKernel(k) => (k.gamma * dot() + k.c).powi(k.degree),
        Kernel::SigmoidKernel(k) => (k.gamma * dot() + k.c).tanh(),
    }
}

impl Pairs {
    fn new(m: &SupportVectorClassifier, classes: usize, vectors: usize) -> Result<Pairs> {
        let pairs = classes.checked_mul(classes.saturating_sub(1)).map(|n| n / 2);
        let check = |what: &str, found: usize, wanted: Option<usize>| {
            if Some(found) == wanted {
                return Ok(());
            }
            let wanted = wanted.map_or_else(|| "more".to_owned(), |n| n.to_string());
            Err(malformed(format!("{found} {what} for {classes} classes, it takes {wanted}")))
        };
        if classes == 0 {
            return Err(malformed("the classifier has no classes"));
        }
        let counts = &m.number_of_support_vectors_per_class;
        check("numbers of support vectors", counts.len(), Some(classes))?;
        check("rows of coefficients", m.coefficients.len(), Some(classes - 1))?;
        check("constants (rho)", m.rho.len(), pairs)?;
        let mut starts = vec![0usize];
        for &count in counts {
            let end = usize::try_from(count).ok().and_then(|n| starts[starts.len() - 1].checked_add(n));
            starts.push(end.ok_or_else(|| malformed(format!("{count} support vectors of a class")))?);
        }
        if starts[classes] != vectors {
            let found = starts[classes];
            return Err(malformed(format!("the classes have {found} support vectors, there are {vectors}")));
        }
        if let Some(row) = m.coefficients.iter().find(|c| c.alpha.len() != vectors) {
            let found = row.alpha.len();
            return Err(malformed(format!("{found} coefficients for {vectors} support vectors")));
        }
        let probability = match (&m.prob_a[..], &m.prob_b[..]) {
            ([], []) => None,
            (a, b) => {
                check("constants of probability (probA)", a.len(), pairs)?;
                check("constants of probability (probB)", b.len(), pairs)?;
                Some((a.to_vec(), b.to_vec()))
            }
        };
        let coefficients = m.coefficients.iter().map(|c| c.alpha.clone()).collect();
        Ok(Pairs { starts, coefficients, rho: m.rho.clone(), probability })
    }

    fn decide(&self, values: &[f64], stop: Stop<'_>) -> Result<Outcome> {
        let classes = self.starts.len() - 1;
        let mut decisions = Vec::with_capacity(self.rho.len());
        for i in 0..classes {
            stop()?;
            for j in i + 1..classes {
                let part = |of: usize, row: usize| {
                    let range = self.starts[of]..self.starts[of + 1];
                    let coefficients = &self.coefficients[row][range.clone()];
                    coefficients.iter().zip(&values[range]).map(|(c, v)| c * v).sum::<f64>()
                };
                decisions.push(part(i, j - 1) + part(j, i) - self.rho[decisions.len()]);
            }
        }
        if decisions.iter().any(|d| d.is_nan()) {
            return Err(Error::invalid("the inputs are not numbers that classes can be told apart by (NaN)"));
        }
        if let Some((a, b)) = &self.probability {
            let pairs = decisions.iter().zip(a.iter().zip(b));
            let pairs: Vec<f64> =
                pairs.map(|(d, (a, b))| logistic(-(d * a + b)).clamp(1e-7, 1.0 - 1e-7)).collect();
            let probabilities = match (classes, &pairs[..]) {
                (2, &[p]) => vec![p, 1.0 - p],
                _ => couple(classes, &pairs, stop)?,
            };
            return Ok(Outcome {
                best: largest(&probabilities),
                scores: probabilities,
                are_probabilities: true,
            });
        }
        let mut votes = vec![0.0; classes];
        let pairs = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j)));
        pairs.zip(&decisions).for_each(|((i, j), d)| votes[if *d > 0.0 { i } else { j }] += 1.0);
        Ok(Outcome { best: largest(&votes), scores: votes, are_probabilities: false })
    }
}

fn logistic(x: f64) -> f64 {
    // Avoids an overflow of the exponential for large |x|.
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// Combines the probabilities of class pairs into probabilities of classes: the second method of Wu, Lin and Weng,
/// "Probability Estimates for Multi-class Classification by Pairwise Coupling" (2004), as implemented in libsvm.
fn couple(classes: usize, pairs: &[f64], stop: Stop<'_>) -> Result<Vec<f64>> {
    let k = classes;
    if k == 1 {
        return Ok(vec![1.0]);
    }
    // r[i][j] is the probability of class i, given that it is i or j.
    let mut r = vec![vec![0.0; k]; k];
    let numbered = (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j)));
    numbered.zip(pairs).for_each(|((i, j), p)| (r[i][j], r[j][i]) = (*p, 1.0 - p));
    let mut q = vec![vec![0.0; k]; k];
    for i in 0..k {
        for j in 0..k {
            if i != j {
                q[i][i] += r[j][i] * r[j][i];
                q[i][j] = -r[j][i] * r[i][j];
            }
        }
    }
    let mut p = vec![1.0 / k as f64; k];
    let close = 0.005 / k as f64;
    for _ in 0..k.max(100) {
        stop()?;
        let mut qp: Vec<f64> = q.iter().map(|row| row.iter().zip(&p).map(|(q, p)| q * p).sum()).collect();
        let mut pqp: f64 = p.iter().zip(&qp).map(|(p, q)| p * q).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < close) {
            break;
        }
        for t in 0..k {
            let step = (pqp - qp[t]) / q[t][t];
            p[t] += step;
            pqp = (pqp + step * (step * q[t][t] + 2.0 * qp[t])) / (1.0 + step) / (1.0 + step);
            for j in 0..k {
                qp[j] = (qp[j] + step * q[t][j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    Ok(p)
}

impl Vectors {
    fn len(&self) -> usize {
        match self {
            Vectors::Dense(vectors) => vectors.len(),
            Vectors::Sparse(vectors) => vectors.len(),
        }
    }
}

fn dense(vectors: &DenseSupportVectors) -> Result<Vectors> {
    let vectors: Vec<Vec<f64>> = vectors.vectors.iter().map(|v| v.values.clone()).collect();
    if vectors.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
        return Err(malformed("the support vectors differ in length"));
    }
    Ok(Vectors::Dense(vectors))
}

fn sparse(vectors: &SparseSupportVectors) -> Result<Vectors> {
    let vector = |v: &pb::SparseVector| {
        let node = |n: &pb::SparseNode| {
            // Indices in the file start at 1.
            let place = usize::try_from(n.index).ok().and_then(|i| i.checked_sub(1));
            place
                .map(|place| (place, n.value))
                .ok_or_else(|| malformed(format!("a number at the place {}", n.index)))
        };
        let mut nodes = v.nodes.iter().map(node).collect::<Result<Vec<_>>>()?;
        nodes.sort_by_key(|(place, _)| *place);
        match nodes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(malformed(format!("two numbers at the place {}", pair[0].0 + 1))),
            None => Ok(nodes),
        }
    };
    Ok(Vectors::Sparse(vectors.vectors.iter().map(vector).collect::<Result<_>>()?))
}

fn kernel(kernel: Option<&pb::Kernel>) -> Result<Kernel> {
    let kernel =
        kernel.and_then(|k| k.kernel).ok_or_else(|| malformed("the kernel is not one that is known"))?;
    let gamma = match &kernel {
        Kernel::LinearKernel(_) => 0.0,
        Kernel::RbfKernel(k) => k.gamma,
        Kernel::PolyKernel(k) if k.degree < 0 => {
            return Err(malformed("the degree of the kernel is below 0"));
        }
        Kernel::PolyKernel(k) => k.gamma,
        Kernel::SigmoidKernel(k) => k.gamma,
    };
    if gamma >= 0.0 {
        Ok(kernel)
    } else {
        Err(malformed(format!("the kernel's gamma is {gamma}, which is not 0 or more")))
    }
}

pub(super) fn classes(model: &SupportVectorClassifier) -> Result<Tensor> {
    match &model.class_labels {
        Some(ClassLabels::StringClassLabels(s)) => labels(Some(&s.vector), None),
        Some(ClassLabels::Int64ClassLabels(i)) => labels(None, Some(&i.vector)),
        None => labels(None, None),
    }
}
