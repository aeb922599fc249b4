//! Divides a loss among weights: which form each gets, so that all of them together are smallest.
//!
//! What weights add to the outputs' noise is taken to add up. For each price of a byte there is then a best form for
//! every weight by itself (Lagrange); as the price rises, weights step along the convex hull of their forms. A path is
//! the order of all these steps, and each of its places a choice that no other of its size beats. Whether it
//! holds a tolerance is for real runs to say.

/// The form of each weight, by its place in the list of its forms; `None` leaves it as it is.
pub(super) type Choice = Vec<Option<usize>>;

/// A form of a weight: its bytes, and what it adds to the noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub form: Option<usize>,
    pub bytes: usize,
    pub noise: f64,
}

/// The choices from the largest to the smallest.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// The form of each weight that loses nothing, if one does.
    start: Choice,
    /// The weight and the form that it gets, in the order of the noise that this adds for what it saves.
    steps: Vec<(usize, Option<usize>)>,
}

impl Path {
    pub fn new(weights: &[Vec<Point>]) -> Path {
        let mut start = Vec::with_capacity(weights.len());
        let mut steps: Vec<(f64, (usize, Option<usize>))> = Vec::new();
        for (weight, points) in weights.iter().enumerate() {
            let hull = hull(points);
            start.push(hull.first().and_then(|p| p.form));
            for pair in hull.windows(2) {
                steps.push((price(&pair[0], &pair[1]), (weight, pair[1].form)));
            }
        }
        // The sort is stable, so that the steps of a weight stay in order.
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        Path { start, steps: steps.into_iter().map(|(_, step)| step).collect() }
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// The choice after the first `count` steps.
    pub fn at(&self, count: usize) -> Choice {
        let mut choice = self.start.clone();
        for &(weight, form) in &self.steps[..count.min(self.steps.len())] {
            choice[weight] = form;
        }
        choice
    }
}

/// The noise that a byte less costs.
fn price(from: &Point, to: &Point) -> f64 {
    (to.noise - from.noise) / (from.bytes - to.bytes) as f64
}

/// The lower convex hull, from the largest to the smallest. Points of infinite noise are left out.
fn hull(points: &[Point]) -> Vec<Point> {
    let mut sorted: Vec<Point> = points.iter().copied().filter(|p| p.noise.is_finite()).collect();
    // Of equal sizes, the one with the least noise comes last, and replaces the others.
    sorted.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(b.noise.total_cmp(&a.noise)));
    let mut hull: Vec<Point> = Vec::new();
    for point in sorted {
        while let Some(last) = hull.last() {
            // A smaller form with no more noise makes the last one pointless, and so does a price that falls.
            let is_better = point.noise <= last.noise || point.bytes == last.bytes;
            let falls = hull.len() > 1 && price(last, &point) <= price(&hull[hull.len() - 2], last);
            if !is_better && !falls {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(of: &[(usize, f64)]) -> Vec<Point> {
        let point =
            |(i, &(bytes, noise)): (usize, &(usize, f64))| Point { form: i.checked_sub(1), bytes, noise };
        of.iter().enumerate().map(point).collect()
    }

    /// Every choice on the path is the best of all choices that are no larger: tried out, one by one.
    #[test]
    fn no_choice_of_the_same_size_has_less_noise() {
        let weights = [
            points(&[(4000, 0.0), (1000, 0.1), (500, 1.5), (760, 0.3), (250, 9.0)]),
            points(&[(800, 0.0), (200, 0.01), (100, 4.0), (150, 3.9)]),
            points(&[(2000, 0.0), (500, 0.02), (250, f64::INFINITY), (260, 0.05), (600, 0.03)]),
        ];
        let path = Path::new(&weights);
        let cost = |choice: &Choice| {
            let of = |(points, form): (&Vec<Point>, &Option<usize>)| points[form.map_or(0, |f| f + 1)];
            let chosen = || weights.iter().zip(choice).map(of);
            (chosen().map(|p| p.bytes).sum::<usize>(), chosen().map(|p| p.noise).sum::<f64>())
        };
        for count in 0..=path.len() {
            let (bytes, noise) = cost(&path.at(count));
            for a in 0..5 {
                for b in 0..4 {
                    for c in 0..5 {
                        let other: Choice = [a, b, c].iter().map(|i: &usize| i.checked_sub(1)).collect();
                        let (other_bytes, other_noise) = cost(&other);
                        assert!(other_bytes > bytes || other_noise >= noise - 1e-12, "{count}: {other:?}");
                    }
                }
            }
        }
        assert_eq!(path.at(path.len()), [Some(3), Some(1), Some(2)]);
    }

    #[test]
    fn a_form_that_loses_nothing_comes_first() {
        let weights = [points(&[(100, 0.0), (50, 0.0), (20, 1.0)]), points(&[(100, 0.0), (30, 0.5)])];
        let path = Path::new(&weights);
        assert_eq!(path.at(0), [Some(0), None]);
        assert_eq!(path.at(1), [Some(0), Some(0)], "the cheaper step comes first");
        assert_eq!(path.len(), 2);
    }
}
