//! Weights and their forms: which forms are run by themselves, and what the others add to the noise.

/// How many forms of a weight are run by itself; what the others add follows from these.
const PROBED: usize = 3;

/// A weight of the default function: constants of one name in every part of the model.
pub(super) struct Weight {
    pub name: String,
    pub shape: Vec<usize>,
    pub elements: usize,
    /// Bytes as it is.
    pub bytes: usize,
    /// The forms that make it smaller.
    pub forms: Vec<Trial>,
    /// Why it stays as it is, if no form suits it.
    pub left: Option<String>,
}

impl Weight {
    /// Takes a form, unless it makes the weight no smaller, or does not suit it, for which `left` is the reason.
    pub fn take(&mut self, trial: Trial, left: Option<String>) {
        if left.is_none() && trial.bytes < self.bytes {
            self.forms.push(trial);
        }
        self.left = self.left.take().or(left);
    }
}

/// A weight in a form.
pub(super) struct Trial {
    /// The place in the list of forms.
    pub form: usize,
    pub bytes: usize,
    /// The SNR of the weight, or of what it makes of observed inputs, in dB.
    pub local_db: f64,
    /// What it adds to the noise of each output, measured, or estimated from the other forms of the weight; `None` if
    /// nothing is known.
    pub noise: Option<Vec<f64>>,
}

/// The forms that are not both larger and worse than another one, by what is known of the weight alone.
fn front(weight: &Weight) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weight.forms.len()).collect();
    let key = |&i: &usize| (weight.forms[i].bytes, weight.forms[i].local_db);
    order.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.cmp(&b.0).then(b.1.total_cmp(&a.1))
    });
    let mut best = f64::NEG_INFINITY;
    order.retain(|&i| {
        let better = weight.forms[i].local_db > best;
        best = best.max(weight.forms[i].local_db);
        better
    });
    order
}

/// The forms of a weight that are run by itself: a few of those that may be worth it, from the smallest to the best.
pub(super) fn probed(weight: &Weight) -> Vec<usize> {
    // What is lossless adds nothing.
    let mut front = front(weight);
    front.retain(|&i| weight.forms[i].local_db.is_finite());
    let last = front.len().saturating_sub(1);
    match front.len() {
        n if n <= PROBED => front,
        // The smallest form often breaks everything, and then tells little of the others.
        _ => [1, last.div_ceil(2), last].map(|i| front[i]).to_vec(),
    }
}

/// Estimates what the other forms of a weight add to the noise, from those that were run. Noise is taken to be in
/// proportion to that of the weight itself, by a factor that changes slowly from one form to the next.
pub(super) fn estimate(weight: &mut Weight) {
    let mut known: Vec<(f64, Vec<f64>)> =
        weight.forms.iter().filter_map(|t| Some((t.local_db, t.noise.clone()?))).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let front = front(weight);
    let Some(outputs) = known.first().map(|(_, noise)| noise.len()) else {
        for i in front {
            if weight.forms[i].local_db.is_infinite() {
                weight.forms[i].noise = Some(Vec::new());
            }
        }
        return;
    };
    for i in front {
        let trial = &weight.forms[i];
        if trial.noise.is_some() {
            continue;
        }
        let db = trial.local_db;
        let at = |output: usize| {
            // The noise of a form divided by that of the weight itself, in dB.
            let gain = |(db, noise): &(f64, Vec<f64>)| (*db, 10.0 * noise[output].log10() + db);
            let gains: Vec<(f64, f64)> = known.iter().filter(|(_, n)| n[output] > 0.0).map(gain).collect();
            let above = gains.iter().position(|(x, _)| *x >= db);
            let gain = match (gains.first(), gains.last(), above) {
                (None, ..) | (_, None, _) => return 0.0,
                (Some((_, first)), _, Some(0)) => *first,
                (_, Some((_, last)), None) => *last,
                (_, _, Some(at)) => {
                    let ((a, low), (b, high)) = (gains[at - 1], gains[at]);
                    if low.is_finite() && high.is_finite() {
                        low + (high - low) * (db - a) / (b - a).max(1e-9)
                    } else {
                        low.max(high)
                    }
                }
            };
            10f64.powf((gain - db) / 10.0)
        };
        let noise = if db.is_infinite() { vec![0.0; outputs] } else { (0..outputs).map(at).collect() };
        weight.forms[i].noise = Some(noise);
    }
}
