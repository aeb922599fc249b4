//! `non_maximum_suppression`

use crate::DType::Int32;
use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, Opset, TensorType};

op! {
    /// Selects boxes by descending score, leaving out those that overlap one already selected.
    ///
    /// `boxes` are (x, y, width, height), x and y being the centre: shape [n, boxes, 4], and `scores` is
    /// [n, boxes, classes]; from iOS17 on the last two dimensions of both are swapped. A box is dropped if its
    /// best score is below `score_threshold` (until iOS16), or if the intersection over union with a selected box is
    /// above `iou_threshold`; with `per_class_suppression` only boxes of the same class drop each other.
    ///
    /// Results, up to `max_boxes` per image: boxes, scores, indices (int32), and until iOS16 the number of boxes.
    /// Free places hold zeros, and -1 among the indices.
    NonMaximumSuppression since Ios13, Ios17 {
        boxes: Operand<T>,
        scores: Operand<T>,
        iou_threshold: f32<T>,
        score_threshold: Within<f32<T>> until Ios17,
        max_boxes: i64,
        per_class_suppression: bool = false,
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (boxes, scores) = (p.boxes, p.scores);
    require!(boxes.rank() == 3 && scores.rank() == 3, "inputs `boxes` and `scores` must have rank 3");
    let last = p.opset() < Opset::Ios17;
    let (count, width) = if last { (1, 2) } else { (2, 1) };
    require!(
        boxes.shape[width].agrees(Dim::Fixed(4)),
        "a box has 4 numbers; dimension {width} of `boxes` is {}",
        boxes.shape[width]
    );
    for d in [0, count] {
        require!(
            boxes.shape[d].agrees(scores.shape[d]),
            "`boxes` is {} in dimension {d}, `scores` is {}",
            boxes.shape[d],
            scores.shape[d]
        );
    }
    let max_boxes = p.max_boxes;
    require!(max_boxes >= 0, "input `max_boxes` is {max_boxes}");
    let n = boxes.shape[0].or(scores.shape[0]);
    let chosen = Dim::Fixed(max_boxes as usize);
    let shape = |inner: Dim| if last { [n, chosen, inner] } else { [n, inner, chosen] };
    let mut outputs = vec![
        TensorType::new(boxes.dtype, shape(Dim::Fixed(4))).into(),
        TensorType::new(scores.dtype, shape(scores.shape[width])).into(),
        TensorType::new(Int32, [n, chosen]).into(),
    ];
    if last {
        outputs.push(TensorType::new(Int32, [n]).into());
    }
    Ok(outputs)
}
