//! Pruning: the smallest elements become zero, and zeros are not stored.

use crate::code::FloatWeight;

/// Which elements become zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Prune {
    /// How they are chosen.
    pub rule: Rule,
}

/// How the elements that become zero are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// Those of at most this magnitude; but the weight stays as it is if they are a smaller share than `least`.
    Threshold {
        /// The magnitude.
        threshold: f32,
        /// The share, 0 to 1.
        least: f64,
    },
    /// This share of them, rounded down to whole elements or blocks: those of the least magnitude, or the blocks of the
    /// least Euclidean norm. Of equal ones, the first.
    Magnitude {
        /// The share, 0 to 1.
        sparsity: f64,
        /// The elements of a block, along `dim`.
        block: usize,
        /// 0 or 1.
        dim: usize,
    },
    /// The `n` of least magnitude in every `m` elements along `dim`.
    Ratio {
        /// How many become zero.
        n: usize,
        /// Of how many.
        m: usize,
        /// 0 or 1.
        dim: usize,
    },
}

impl Prune {
    /// The threshold by default.
    pub const THRESHOLD: f32 = 1e-12;
    /// The least share of zeros by default.
    pub const LEAST: f64 = 0.5;

    /// Stores weights without their zeros, if these are half of them.
    pub const fn zeros() -> Prune {
        Prune { rule: Rule::Threshold { threshold: Self::THRESHOLD, least: Self::LEAST } }
    }

    /// Returns which elements stay.
    ///
    /// # Errors
    /// The rule does not suit the weight.
    pub(crate) fn mask(&self, values: &[f32], weight: &FloatWeight<'_>) -> Result<Vec<bool>, String> {
        let shape = weight.shape;
        let mut mask = match self.rule {
            Rule::Threshold { threshold, least } => {
                let mask: Vec<bool> = values.iter().map(|x| x.abs() > threshold).collect();
                let zeros = mask.iter().filter(|m| !**m).count() as f64 / mask.len() as f64;
                if zeros < least {
                    return Err(format!(
                        "{:.1} % of it would be zero, less than {:.1} %",
                        100.0 * zeros,
                        100.0 * least
                    ));
                }
                mask
            }
            Rule::Magnitude { sparsity, block: 1, .. } => {
                let mut order: Vec<u32> = (0..values.len() as u32).collect();
                let zeros = share(values.len(), sparsity);
                let key = |&i: &u32| (values[i as usize].abs().to_bits(), i);
                let mut mask = vec![true; values.len()];
                if zeros > 0 {
                    let (below, last, _) = order.select_nth_unstable_by_key(zeros - 1, key);
                    below.iter().chain([&*last]).for_each(|&i| mask[i as usize] = false);
                }
                mask
            }
            Rule::Magnitude { sparsity, block, dim } => {
                check_pattern(weight, dim, block, "a block")?;
                blocks(values, shape, sparsity, block, dim)
            }
            Rule::Ratio { n, m, dim } => {
                check_pattern(weight, dim, m, "the second number of a ratio")?;
                ratio(values, shape, n, m, dim)
            }
        };
        mask.iter_mut().zip(values).for_each(|(m, x)| *m &= *x != 0.0);
        Ok(mask)
    }
}

/// The elements that a share is, rounded down.
fn share(count: usize, sparsity: f64) -> usize {
    // 0.7 of 10 is 7, although 0.7 is a little less than seven tenths in binary.
    ((count as f64 * sparsity) * (1.0 + 1e-12)).floor() as usize
}

fn check_pattern(weight: &FloatWeight<'_>, dim: usize, size: usize, what: &str) -> Result<(), String> {
    if !weight.prunes_in_patterns {
        return Err("patterns of zeros are for the weights of conv and linear".into());
    }
    let channels = weight.shape[dim];
    if 2 * size > channels {
        return Err(format!("{what} of {size} is more than half of {channels} channels"));
    }
    Ok(())
}

/// Calls `f` with the index of each line of elements along a dimension: the first element, and the distance between
/// neighbors.
fn for_each_line(shape: &[usize], dim: usize, mut f: impl FnMut(usize, usize)) {
    let inner: usize = shape[dim + 1..].iter().product();
    let outer: usize = shape[..dim].iter().product();
    for o in 0..outer {
        for i in 0..inner {
            f(o * shape[dim] * inner + i, inner);
        }
    }
}

fn blocks(values: &[f32], shape: &[usize], sparsity: f64, block: usize, dim: usize) -> Vec<bool> {
    let n = shape[dim];
    // The squared norm, the first element, the distance and the number of elements of each block. The last block of a
    // line may be shorter.
    let mut found: Vec<(f64, usize, usize, usize)> = Vec::with_capacity(values.len() / block + 1);
    for_each_line(shape, dim, |first, step| {
        for at in (0..n).step_by(block) {
            let len = block.min(n - at);
            let first = first + at * step;
            let norm = (0..len).map(|i| f64::from(values[first + i * step]).powi(2)).sum();
            found.push((norm, first, step, len));
        }
    });
    found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut left = share(values.len(), sparsity);
    let mut mask = vec![true; values.len()];
    for (_, first, step, len) in found {
        if len > left {
            break;
        }
        left -= len;
        (0..len).for_each(|i| mask[first + i * step] = false);
    }
    mask
}

fn ratio(values: &[f32], shape: &[usize], n: usize, m: usize, dim: usize) -> Vec<bool> {
    let size = shape[dim];
    let mut mask = vec![true; values.len()];
    let mut order: Vec<usize> = Vec::with_capacity(m);
    for_each_line(shape, dim, |first, step| {
        for at in (0..size).step_by(m) {
            let len = m.min(size - at);
            order.clear();
            order.extend((0..len).map(|i| first + (at + i) * step));
            order.sort_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
            // The last group is thought of as filled with zeros, which go first.
            order.iter().take(n.saturating_sub(m - len)).for_each(|&i| mask[i] = false);
        }
    });
    mask
}

#[cfg(test)]
mod tests {
    use milwright_mil::DType;

    use super::*;

    fn mask(rule: Rule, values: &[f32], shape: &[usize]) -> Result<String, String> {
        let weight = FloatWeight {
            values,
            shape,
            dtype: DType::Fp32,
            output_axis: Some(0),
            input_axis: Some(1),
            vector_limit: None,
            prunes_in_patterns: true,
        };
        let mask = Prune { rule }.mask(values, &weight)?;
        Ok(mask.iter().map(|&m| if m { 'x' } else { '.' }).collect())
    }

    #[test]
    fn by_threshold() {
        let rule = |threshold, least| Rule::Threshold { threshold, least };
        let values = [0.0, -0.5, 1.0, -2.0];
        assert_eq!(mask(rule(0.5, 0.5), &values, &[4, 1]).unwrap(), "..xx");
        let error = mask(rule(0.1, 0.5), &values, &[4, 1]).unwrap_err();
        assert_eq!(error, "25.0 % of it would be zero, less than 50.0 %");
        assert_eq!(mask(rule(9.0, 0.5), &values, &[4, 1]).unwrap(), "....", "nothing is left");
    }

    #[test]
    fn by_magnitude() {
        let rule = |sparsity| Rule::Magnitude { sparsity, block: 1, dim: 0 };
        let values = [4.0, -1.0, 3.0, -2.0, 0.5, 9.0, 8.0, -7.0, 6.0, 5.0];
        assert_eq!(mask(rule(0.7), &values, &[10, 1]).unwrap(), ".....xxx..");
        assert_eq!(mask(rule(0.0), &values, &[10, 1]).unwrap(), "xxxxxxxxxx");
        // Equal magnitudes do not go all at once.
        assert_eq!(
            mask(rule(0.25), &[0.5, -0.5, 0.5, -0.5, 0.5, -0.5, 0.5, -0.5], &[8, 1]).unwrap(),
            "..xxxxxx"
        );
        // More elements than fp16 can count, of which a percentile in fp16 would be NaN.
        let many: Vec<f32> = (0..70_000).map(|i| ((i * 7919) % 70_000) as f32 / 70_000.0).collect();
        let mask = mask(rule(0.75), &many, &[70_000, 1]).unwrap();
        assert_eq!(mask.chars().filter(|&c| c == '.').count(), 52_500);
    }

    #[test]
    fn by_blocks() {
        let rule = |sparsity, dim| Rule::Magnitude { sparsity, block: 2, dim };
        let values = [1.0, 9.0, 1.0, 1.0, 5.0, 1.0, 5.0, 9.0, 3.0, 3.0];
        // Five rows of two, in blocks of two rows. The squared norms of the left column are 2, 50 and 9 (one row), of
        // the right one 82, 82 and 9: half of the elements are 2 + 1 + 1 and one more, which is not a whole block.
        assert_eq!(mask(rule(0.5, 0), &values, &[5, 2]).unwrap(), ".x.xxxxx..");
        // Two rows of five, in blocks of two columns: 82, 2, 25 (one column); 26, 90, 9.
        assert_eq!(mask(rule(0.5, 1), &values, &[2, 5]).unwrap(), "xx...xxxx.");
        let error = mask(rule(0.5, 1), &values, &[5, 2]).unwrap_err();
        assert_eq!(error, "a block of 2 is more than half of 2 channels");
    }

    #[test]
    fn by_ratio() {
        let rule = |n, m, dim| Rule::Ratio { n, m, dim };
        let values = [1.0, -4.0, 3.0, 2.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0];
        // The fifth column is thought of as paired with a zero, which is the smaller one.
        assert_eq!(mask(rule(1, 2, 1), &values, &[2, 5]).unwrap(), ".xx.xx.x.x");
        assert_eq!(mask(rule(1, 2, 0), &values, &[5, 2]).unwrap(), ".xx.xx..xx");
    }
}
