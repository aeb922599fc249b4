//! What is known about the inputs that a weight meets: how often, their means and their products.

use std::collections::HashMap;

/// The inputs that a weight is multiplied with, over the samples: vectors of as many elements as a row of the weight has.
#[derive(Clone, Debug)]
pub struct Moments {
    size: usize,
    count: f64,
    sums: Vec<f64>,
    /// The sums of products of each two elements; only those of `a <= b`, at `a * size + b`.
    products: Vec<f32>,
}

/// Moments by function and weight.
pub type Observed = HashMap<(String, String), Moments>;

/// The vectors that are multiplied at a time.
const BATCH: usize = 32;

impl Moments {
    /// The most elements of a row: beyond, the products take too much memory.
    pub const MAX_SIZE: usize = 4608;

    /// Of no vectors yet.
    pub fn new(size: usize) -> Moments {
        Moments { size, count: 0.0, sums: vec![0.0; size], products: vec![0.0; size * size] }
    }

    /// The number of vectors.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Adds vectors, one after the other. Those with NaN or infinity are left out.
    pub fn add(&mut self, vectors: &[f32]) {
        let size = self.size;
        let mut columns = vec![0f32; size * BATCH];
        for batch in vectors.chunks(size * BATCH) {
            columns.fill(0.0);
            for (at, vector) in batch.chunks_exact(size).enumerate() {
                if !vector.iter().all(|x| x.is_finite()) {
                    continue;
                }
                self.count += 1.0;
                for (i, &x) in vector.iter().enumerate() {
                    self.sums[i] += f64::from(x);
                    columns[i * BATCH + at] = x;
                }
            }
            for a in 0..size {
                let x: &[f32; BATCH] = columns[a * BATCH..][..BATCH].try_into().expect("it is a batch");
                if x.iter().all(|x| *x == 0.0) {
                    continue;
                }
                let products = &mut self.products[a * size + a..(a + 1) * size];
                for (p, y) in products.iter_mut().zip(columns[a * BATCH..].chunks_exact(BATCH)) {
                    let mut lanes = [0f32; 8];
                    for (x, y) in x.chunks_exact(8).zip(y.chunks_exact(8)) {
                        for i in 0..8 {
                            lanes[i] += x[i] * y[i];
                        }
                    }
                    *p += lanes.iter().sum::<f32>();
                }
            }
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The mean of each element.
    pub fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|s| s / self.count.max(1.0)).collect()
    }

    /// The mean product of two elements.
    pub(crate) fn product(&self, a: usize, b: usize) -> f64 {
        f64::from(self.products[a.min(b) * self.size + a.max(b)]) / self.count.max(1.0)
    }
}
