//! `non_maximum_suppression`

use half::f16;
use milwright_mil::ops::defs::NonMaximumSuppression;
use milwright_mil::{DType, Opset, TensorType};

use super::order::{keys, sorted};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared, ViewMut};

impl Kernel for NonMaximumSuppression {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (boxes, scores) = (p.boxes.slot, p.scores.slot);
        let last = p.opset() < Opset::Ios17;
        let shape = concrete(&p.scores)?;
        let (count, classes) = if last { (shape[1], shape[2]) } else { (shape[2], shape[1]) };
        let rule = Rule {
            iou: f64::from(p.iou_threshold),
            score: p.score_threshold.map_or(f64::NEG_INFINITY, f64::from),
            most: p.max_boxes as usize,
            per_class: p.per_class_suppression,
        };
        // The index of number `column` of box `i` in an image's data.
        let at = move |i: usize, column: usize, columns: usize| {
            if last { i * columns + column } else { column * count + i }
        };
        Ok(Prepared::step(move |run| {
            let (box_keys, score_keys) = (keys(run.inputs[boxes])?, keys(run.inputs[scores])?);
            for image in 0..shape[0] {
                let boxes = &box_keys[image * count * 4..][..count * 4];
                let scores = &score_keys[image * count * classes..][..count * classes];
                let candidates: Vec<Candidate> = (0..count)
                    .map(|i| {
                        Candidate::new(
                            [0, 1, 2, 3].map(|c| boxes[at(i, c, 4)]),
                            (0..classes).map(|c| scores[at(i, c, classes)]),
                        )
                    })
                    .collect();
                let chosen = rule.choose(&candidates);
                let place = |row: usize, column: usize, columns: usize| {
                    image * rule.most * columns
                        + if last { row * columns + column } else { column * rule.most + row }
                };
                for row in 0..rule.most {
                    let i = chosen.get(row).copied();
                    for c in 0..4 {
                        write(&mut run.outputs[0], place(row, c, 4), i.map_or(0.0, |i| boxes[at(i, c, 4)]));
                    }
                    for c in 0..classes {
                        let score = i.map_or(0.0, |i| scores[at(i, c, classes)]);
                        write(&mut run.outputs[1], place(row, c, classes), score);
                    }
                    run.outputs[2].slice::<i32>()[image * rule.most + row] = i.map_or(-1, |i| i as i32);
                }
                if let Some(out) = run.outputs.get_mut(3) {
                    out.slice::<i32>()[image] = chosen.len() as i32;
                }
            }
            Ok(())
        }))
    }
}

fn write(out: &mut ViewMut<'_>, at: usize, x: f64) {
    if out.dtype() == DType::Fp16 {
        out.slice::<f16>()[at] = f16::from_f64(x);
    } else {
        out.slice::<f32>()[at] = x as f32;
    }
}

/// A box, its best score, and the class with that score.
struct Candidate {
    low: [f64; 2],
    high: [f64; 2],
    score: f64,
    class: usize,
}

impl Candidate {
    fn new([x, y, w, h]: [f64; 4], scores: impl Iterator<Item = f64>) -> Candidate {
        let mut best = (0, f64::NEG_INFINITY);
        for (class, score) in scores.enumerate() {
            if score > best.1 {
                best = (class, score);
            }
        }
        Candidate {
            low: [x - w / 2.0, y - h / 2.0],
            high: [x + w / 2.0, y + h / 2.0],
            score: best.1,
            class: best.0,
        }
    }

    /// Intersection over union; 0 for boxes without area.
    fn overlap(&self, other: &Candidate) -> f64 {
        let area = |c: &Candidate| (c.high[0] - c.low[0]) * (c.high[1] - c.low[1]);
        let side = |d: usize| (self.high[d].min(other.high[d]) - self.low[d].max(other.low[d])).max(0.0);
        let both = side(0) * side(1);
        let union = area(self) + area(other) - both;
        if area(self) <= 0.0 || area(other) <= 0.0 || union <= 0.0 { 0.0 } else { both / union }
    }
}

struct Rule {
    iou: f64,
    score: f64,
    most: usize,
    per_class: bool,
}

impl Rule {
    /// Returns the boxes to keep, best first. If the thresholds leave none, keeps the best one.
    fn choose(&self, candidates: &[Candidate]) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::new();
        let order = sorted(candidates.len(), candidates.len(), false, |i| candidates[i].score);
        for i in order.iter().map(|&i| i as usize) {
            if chosen.len() == self.most {
                break;
            }
            let c = &candidates[i];
            let hides = |&k: &usize| {
                let other = &candidates[k];
                (!self.per_class || other.class == c.class) && c.overlap(other) > self.iou
            };
            if c.score > self.score && !chosen.iter().any(hides) {
                chosen.push(i);
            }
        }
        if chosen.is_empty() && self.most > 0 {
            chosen.extend(order.first().map(|&i| i as usize));
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn keeps_the_best_of_overlapping_boxes() {
        let boxes = vec![0f32, 0., 2., 2., 0.1, 0., 2., 2., 5., 5., 1., 1., 0., 0.2, 2., 2.];
        let boxes = [Tensor::from_vec(&[1, 4, 4], boxes).unwrap()];
        let scores = [Tensor::from_vec(&[1, 4, 2], vec![0.5f32, 0.1, 0.9, 0., 0.3, 0.2, 0.1, 0.8]).unwrap()];
        let run = |score: f32, per_class| {
            let (iou, score, most) =
                ([Tensor::scalar(0.5f32)], [Tensor::scalar(score)], [Tensor::scalar(3i32)]);
            let per_class = [Tensor::from_bools(&[], &[per_class]).unwrap()];
            let inputs: [(&str, &[Tensor]); 6] = [
                ("boxes", &boxes),
                ("scores", &scores),
                ("iou_threshold", &iou),
                ("score_threshold", &score),
                ("max_boxes", &most),
                ("per_class_suppression", &per_class),
            ];
            let known = |n: &str| !matches!(n, "boxes" | "scores");
            let out = run_op(OpKind::NonMaximumSuppression, Opset::Ios15, &inputs, known).unwrap();
            (out[2].to_vec::<i32>().unwrap(), out[3].to_vec::<i32>().unwrap())
        };
        assert_eq!(run(0.0, false), (vec![1, 2, -1], vec![2]));
        assert_eq!(run(0.0, true), (vec![1, 3, 2], vec![3]));
        assert_eq!(run(0.35, false), (vec![1, -1, -1], vec![1]));
        assert_eq!(run(2.0, false), (vec![1, -1, -1], vec![1]));
    }
}
