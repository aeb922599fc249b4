//! Blocks of a tensor: which elements share a scale.

use std::ops::Range;

/// Calls `f` with runs of consecutive elements, in order: the elements, the block of the first one, and by how much the
/// block number grows from each element to the next (0 or 1, or a stride). `counts` is the number of blocks in each
/// dimension, and must divide that of `shape`.
pub(crate) fn for_each_run(shape: &[usize], counts: &[usize], mut f: impl FnMut(Range<usize>, usize, usize)) {
    // Each dimension becomes two: that of blocks, and that inside a block, over which the block stays the same.
    let mut dims: Vec<(usize, usize)> = Vec::with_capacity(2 * shape.len());
    let mut stride: usize = counts.iter().product();
    for (&n, &count) in shape.iter().zip(counts) {
        stride /= count.max(1);
        dims.extend([(count, stride), (n / count.max(1), 0)]);
    }
    dims.retain(|&(n, _)| n != 1);
    // Neighbors that advance alike become one.
    let mut merged: Vec<(usize, usize)> = Vec::with_capacity(dims.len());
    for (n, step) in dims {
        match merged.last_mut() {
            Some((outer, outer_step)) if *outer_step == step * n => {
                (*outer, *outer_step) = (*outer * n, step)
            }
            _ => merged.push((n, step)),
        }
    }
    let (len, step) = merged.pop().unwrap_or((1, 0));
    if len == 0 || merged.iter().any(|&(n, _)| n == 0) {
        return;
    }
    let mut at = vec![0; merged.len()];
    let (mut start, mut block) = (0, 0);
    loop {
        f(start..start + len, block, step);
        start += len;
        let mut d = merged.len();
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            let (n, step) = merged[d];
            at[d] += 1;
            block += step;
            if at[d] < n {
                break;
            }
            block -= n * step;
            at[d] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, element by element.
    fn expected(shape: &[usize], counts: &[usize]) -> Vec<usize> {
        let n: usize = shape.iter().product();
        (0..n)
            .map(|mut i| {
                let (mut block, mut stride) = (0, 1);
                for (&size, &count) in shape.iter().zip(counts).rev() {
                    block += (i % size) / (size / count) * stride;
                    stride *= count;
                    i /= size;
                }
                block
            })
            .collect()
    }

    #[test]
    fn runs_cover_every_element_in_order() {
        let cases: &[(&[usize], &[usize])] = &[
            (&[4, 6], &[1, 1]),
            (&[4, 6], &[4, 1]),
            (&[4, 6], &[1, 6]),
            (&[4, 6], &[4, 3]),
            (&[4, 6], &[2, 6]),
            (&[4, 6], &[4, 6]),
            (&[2, 4, 3, 3], &[2, 2, 1, 1]),
            (&[2, 4, 3, 3], &[1, 4, 1, 1]),
            (&[2, 4, 3, 6], &[2, 1, 3, 2]),
            (&[1, 1], &[1, 1]),
            (&[], &[]),
        ];
        for (shape, counts) in cases {
            let mut found = Vec::new();
            for_each_run(shape, counts, |range, block, step| {
                assert_eq!(range.start, found.len());
                found.extend((0..range.len()).map(|i| block + i * step));
            });
            assert_eq!(found, expected(shape, counts), "{shape:?} {counts:?}");
        }
        for_each_run(&[0, 3], &[0, 1], |_, _, _| panic!("nothing to visit"));
    }
}
