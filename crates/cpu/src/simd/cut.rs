//! How matrix products are cut into tasks for threads.

/// What each task costs beside its work, in cycles.
const START: f64 = 500.0;

/// Returns the rows and columns of panels that a task computes. The product has `batch` grids of `panels`; a task may have
/// `most` rows and columns of them, and takes `cost` cycles: what is not shared, such as packing, makes small tasks cost
/// more than their part. Of some ways to cut, the one that is soonest done is taken.
pub fn cut(
    threads: usize,
    batch: usize,
    panels: [usize; 2],
    most: [usize; 2],
    cost: impl Fn([usize; 2]) -> f64,
) -> [usize; 2] {
    let most = [0, 1].map(|d| most[d].min(panels[d]).max(1));
    if threads <= 1 {
        return most;
    }
    let parts = |d: usize| {
        let fewest = panels[d].div_ceil(most[d]);
        [fewest, fewest.next_multiple_of(threads), threads, 2 * threads, 3 * threads, 4 * threads]
            .into_iter()
            .filter(move |&parts| parts >= fewest)
            .map(move |parts| panels[d].div_ceil(parts).clamp(1, most[d]))
    };
    let time = |part: [usize; 2]| {
        let count = batch * panels[0].div_ceil(part[0]) * panels[1].div_ceil(part[1]);
        // Threads do not begin and end together: a part of a task is lost.
        (count.div_ceil(threads) as f64 + 0.2) * (cost(part) + START)
    };
    let all = parts(0).flat_map(|rows| parts(1).map(move |columns| [rows, columns]));
    let timed = all.map(|part| (time(part), part));
    timed.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(most, |(_, part)| part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_gets_its_part() {
        let even = |part: [usize; 2]| (part[0] * part[1]) as f64 * 1e4;
        // One thread has all that it may have at a time.
        assert_eq!(cut(1, 1, [9, 5], [4, 8], even), [4, 5]);
        for threads in [2, 3, 8] {
            for panels in [[1, 1], [1, 40], [7, 9], [64, 64]] {
                let part = cut(threads, 1, panels, [16, 16], even);
                assert!(part[0] >= 1 && part[0] <= 16 && part[1] >= 1 && part[1] <= 16);
                let count = panels[0].div_ceil(part[0]) * panels[1].div_ceil(part[1]);
                assert!(count > threads.min(panels[0] * panels[1]) / 2, "{threads} {panels:?} {part:?}");
            }
        }
        // What must be done for each row of a task again makes rows the side that is cut.
        let rows = cut(2, 1, [8, 8], [8, 8], |p| {
            (p[0] * p[1]) as f64 * 100.0 + p[1] as f64 * 10.0 + p[0] as f64 * 1e4
        });
        assert_eq!(rows[1], 8);
        // A batch that is large enough is not cut further.
        assert_eq!(cut(2, 64, [2, 2], [2, 2], |p| (p[0] * p[1] + 4) as f64 * 100.0), [2, 2]);
    }
}
