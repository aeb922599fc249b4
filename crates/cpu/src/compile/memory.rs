//! Lays out the arena: gives every buffer an offset so that buffers that are alive at the same time do not overlap.
//!
//! Uses greedy best fit, largest first. Each buffer goes into the smallest gap that holds it, among the buffers already
//! placed that are alive at the same time.
//!
//! ```text
//! step        0    1    2    3
//! offset 0    [-- a --] [-- c --]     c takes the place of a, which is dead by then
//! offset 64        [---- b -----]
//! ```

use crate::memory::align_up;

/// A buffer, and the range of steps during which it is alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    /// Bytes.
    pub size: u64,
    /// The first step that uses it.
    pub first: usize,
    /// The last step that uses it.
    pub last: usize,
}

/// Returns the offset of each buffer, a multiple of the alignment, and the size of the arena; `None` if the arena is
/// too large for the address space.
pub(super) fn place(buffers: &[Buffer]) -> Option<(Vec<u64>, u64)> {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].size), buffers[i].first));
    let mut offsets = vec![0; buffers.len()];
    // Placed buffers by offset: (start, end, index).
    let mut placed: Vec<(u64, u64, usize)> = Vec::new();
    let mut total = 0;
    for i in order {
        let b = buffers[i];
        // Empty tensors get an offset of their own, too: equal offsets mean that one tensor replaces another in place.
        let size = align_up(usize::try_from(b.size.max(1)).ok()?)? as u64;
        let mut best: Option<(u64, u64)> = None;
        let mut end = 0u64;
        for &(from, to, other) in &placed {
            let o = buffers[other];
            if o.last < b.first || b.last < o.first {
                continue;
            }
            if from > end && from - end >= size && best.is_none_or(|(gap, _)| from - end < gap) {
                best = Some((from - end, end));
            }
            end = end.max(to);
        }
        let offset = best.map_or(end, |(_, offset)| offset);
        let to = offset.checked_add(size)?;
        offsets[i] = offset;
        total = total.max(to);
        let at = placed.partition_point(|&(from, ..)| from < offset);
        placed.insert(at, (offset, to, i));
    }
    (total <= isize::MAX as u64).then_some((offsets, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuses_memory() {
        let b = |size, first, last| Buffer { size, first, last };
        // A chain of three: the third takes the place of the first.
        let (offsets, total) = place(&[b(64, 0, 1), b(64, 1, 2), b(64, 2, 3)]).unwrap();
        assert_eq!(total, 128);
        assert_eq!(offsets[0], offsets[2]);
    }

    #[test]
    fn never_overlaps() {
        let mut state = 1u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let buffers: Vec<Buffer> = (0..200)
            .map(|_| {
                let first = random(100) as usize;
                Buffer { size: random(5000), first, last: first + random(20) as usize }
            })
            .collect();
        let (offsets, total) = place(&buffers).unwrap();
        for (i, a) in buffers.iter().enumerate() {
            assert!(offsets[i] % 64 == 0 && offsets[i] + a.size <= total);
            for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = offsets[i] + a.size <= offsets[j] || offsets[j] + b.size <= offsets[i];
                assert!(!together || apart || a.size == 0 || b.size == 0);
            }
        }
    }
}
