//! What is left of text once it is numbers.

use milwright_mil::OpKind::*;
use milwright_mil::ValueId;

use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Result, Size, i32_from};

/// Counts n-grams of tokens, which may skip tokens between their elements, and weights the counts.
pub(super) fn tf_idf(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let Some(pool) = n.ints("pool_int64s")?.filter(|p| !p.is_empty()) else {
        return Err(Error::unsupported("n-grams of strings").with_hint(super::cast::STRINGS));
    };
    let count = |v: i64| usize::try_from(v).ok();
    let attribute = |n: &mut Node<'_, '_>, name: &'static str| -> Result<usize> {
        n.int(name)?.and_then(count).ok_or_else(|| Error::malformed(format!("`{name}` is missing")))
    };
    let least = attribute(n, "min_gram_length")?.max(1);
    let most = attribute(n, "max_gram_length")?;
    let skips = attribute(n, "max_skip_count")?;
    let starts = n.ints("ngram_counts")?.unwrap_or_default();
    let places = n.ints("ngram_indexes")?.unwrap_or_default();
    let weights = n.floats("weights")?.unwrap_or_default().to_vec();
    let mode = n.text("mode")?.unwrap_or("TF");
    let (counted, weighted) = match mode {
        "TF" => (true, false),
        "IDF" => (false, true),
        "TFIDF" => (true, true),
        other => return Err(Error::malformed(format!("the mode `{other}`"))),
    };
    let flat = n.rank(x.id)? == 1;
    let rows = if flat { n.expand_dims(x.id, &[0])? } else { x.id };
    let length = n.size(rows, 1).map_err(|_| {
        Error::unsupported("n-grams of a number of tokens that only a run knows")
            .with_hint("give the model's length of sequences a number")
    })?;
    let width = places.iter().max().and_then(|&p| count(p)).map_or(0, |p| p + 1);
    // The grams of each length, each with its place in the result.
    let mut total: Option<ValueId> = None;
    let mut gram_number = 0;
    for (k, &start) in starts.iter().enumerate() {
        let size = k + 1;
        let end = starts.get(k + 1).copied().unwrap_or(pool.len() as i64);
        let (Some(start), Some(end)) = (count(start), count(end)) else {
            return Err(Error::malformed("`ngram_counts`"));
        };
        let tokens = pool.get(start..end.max(start)).ok_or_else(|| Error::malformed("`ngram_counts`"))?;
        let grams: Vec<&[i64]> = tokens.chunks_exact(size).collect();
        let first = gram_number;
        gram_number += grams.len();
        if size < least || size > most || grams.is_empty() {
            continue;
        }
        let slots =
            places.get(first..first + grams.len()).ok_or_else(|| Error::malformed("`ngram_indexes`"))?;
        // Single tokens have nothing between them.
        for skip in 0..=if size == 1 { 0 } else { skips } {
            let reach = (size - 1) * (skip + 1);
            if reach >= length {
                break;
            }
            let windows = length - reach;
            let mut all: Option<ValueId> = None;
            for j in 0..size {
                let from = (j * (skip + 1)) as i32;
                let part = n.cut(rows, 1, from, Some(from + windows as i32))?;
                let part = n.expand_dims(part, &[2])?;
                let wanted: Vec<i32> = grams.iter().map(|g| i32_from(g[j])).collect();
                let wanted = n.int_vector(&wanted);
                let hit = n.equal(part, wanted)?;
                all = Some(match all {
                    Some(all) => n.and(all, hit)?,
                    None => hit,
                });
            }
            let hits = all.ok_or_else(|| Error::malformed("an n-gram without tokens"))?;
            let hits = n.float_of(hits)?;
            let counts = n.sum(hits, &[1], false)?;
            // To the places of the result.
            let mut spread = vec![0f32; grams.len() * width];
            for (g, &slot) in slots.iter().enumerate() {
                let slot = count(slot).ok_or_else(|| Error::malformed("`ngram_indexes`"))?;
                spread[g * width + slot] = 1.0;
            }
            let spread = n.float_tensor(&[grams.len(), width], spread, milwright_mil::DType::Fp32)?;
            let placed = n.matmul(counts, spread, false, false)?;
            total = Some(match total {
                Some(total) => n.add(total, placed)?,
                None => placed,
            });
        }
    }
    let mut y = match total {
        Some(total) => total,
        None => n.full(&[Size::Of(rows, 0..1), Size::Fixed(width)], 0.0, milwright_mil::DType::Fp32)?,
    };
    if !counted {
        let some = n.greater(y, 0.0)?;
        y = n.float_of(some)?;
    }
    if weighted && !weights.is_empty() {
        // A weight belongs to a gram, whose place may be another.
        let mut placed = vec![0f32; width];
        for (g, &slot) in places.iter().enumerate() {
            if let (Some(slot), Some(&w)) = (count(slot), weights.get(g)) {
                placed[slot] = w;
            }
        }
        let placed = n.float_tensor(&[width], placed, milwright_mil::DType::Fp32)?;
        y = n.mul(y, placed)?;
    }
    let y = if flat { n.squeeze(y, &[0])? } else { y };
    let _ = ReduceSum;
    one(y, Elem::Float)
}
