//! Sums over products of elements, determinants.

use milwright_mil::OpKind::*;
use milwright_mil::{Dim, ValueId};

use super::cast;
use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, Size, op, usize_of};

/// The terms of an equation, a letter or `None` (a dimension of the ellipsis) for each dimension.
struct Equation {
    terms: Vec<Vec<char>>,
    output: Vec<char>,
}

/// The letters that stand for the dimensions of the ellipsis: none that an equation can have.
fn ellipsis(count: usize) -> Vec<char> {
    (0..count).map(|i| char::from(b'0' + i as u8)).collect()
}

impl Equation {
    fn parse(text: &str, ranks: &[usize]) -> Result<Equation> {
        let malformed = || Error::malformed(format!("the equation `{text}`"));
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match compact.split_once("->") {
            Some((left, right)) => (left.to_owned(), Some(right.to_owned())),
            None => (compact, None),
        };
        let texts: Vec<&str> = left.split(',').collect();
        if texts.len() != ranks.len() {
            return Err(malformed());
        }
        let letters = |t: &str| t.replace("...", "").chars().count();
        let mut hidden = 0;
        for (t, &rank) in texts.iter().zip(ranks) {
            let named = letters(t);
            match t.contains("...") {
                true => hidden = hidden.max(rank.checked_sub(named).ok_or_else(malformed)?),
                false if named != rank => return Err(malformed()),
                false => {}
            }
        }
        if hidden > 9 {
            return Err(malformed());
        }
        let expand = |t: &str, count: usize| -> Result<Vec<char>> {
            let mut all = Vec::new();
            let mut parts = t.splitn(2, "...");
            let before = parts.next().unwrap_or_default();
            all.extend(before.chars());
            if let Some(after) = parts.next() {
                // The dimensions of the ellipsis align at the end.
                all.extend(ellipsis(hidden).split_off(hidden - count));
                all.extend(after.chars());
            }
            match all.iter().all(char::is_ascii_alphanumeric) {
                true => Ok(all),
                false => Err(malformed()),
            }
        };
        let mut terms = Vec::new();
        for (t, &rank) in texts.iter().zip(ranks) {
            let count = if t.contains("...") { rank - letters(t) } else { 0 };
            terms.push(expand(t, count)?);
        }
        let output = match right {
            Some(right) => expand(&right, hidden)?,
            // The dimensions of the ellipsis, then the letters that occur once, in order.
            None => {
                let mut once: Vec<char> = terms
                    .iter()
                    .flatten()
                    .copied()
                    .filter(|c| c.is_ascii_alphabetic())
                    .filter(|c| terms.iter().flatten().filter(|d| *d == c).count() == 1)
                    .collect();
                once.sort_unstable();
                ellipsis(hidden).into_iter().chain(once).collect()
            }
        };
        let known = |c: &char| terms.iter().flatten().any(|d| d == c);
        let twice = (1..output.len()).any(|i| output[..i].contains(&output[i]));
        if twice || !output.iter().all(known) {
            return Err(malformed());
        }
        Ok(Equation { terms, output })
    }
}

/// Operands are multiplied from left to right; a letter is summed as soon as no later operand and not the result has it.
pub(super) fn einsum(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.all()?;
    let text = n.text("equation")?.ok_or_else(|| Error::malformed("`equation` is missing"))?;
    let ranks = x.iter().map(|v| n.rank(v.id)).collect::<Result<Vec<_>>>()?;
    let equation = Equation::parse(text, &ranks)?;
    let elem = x.first().ok_or_else(|| Error::malformed("there are no inputs"))?.elem;
    let needed = |letter: char, from: usize| {
        equation.output.contains(&letter) || equation.terms[from..].iter().any(|t| t.contains(&letter))
    };
    let mut current: Option<(ValueId, Vec<char>)> = None;
    for (i, v) in x.iter().enumerate() {
        let (mut value, mut letters) = diagonal(n, v.id, &equation.terms[i])?;
        // Sum what nothing else has.
        let others = current.as_ref().map(|(_, l)| l.clone()).unwrap_or_default();
        let lone: Vec<usize> = (0..letters.len())
            .filter(|&d| !others.contains(&letters[d]) && !needed(letters[d], i + 1))
            .collect();
        // A size of 1 that broadcasts against an ellipsis is no sum over one element of another.
        if !lone.is_empty() {
            value = n.sum(value, &lone, false)?;
            letters = (0..letters.len()).filter(|d| !lone.contains(d)).map(|d| letters[d]).collect();
        }
        current = Some(match current {
            None => (value, letters),
            Some(left) => {
                let keeps = |c: char| needed(c, i + 1);
                pair(n, left, (value, letters), keeps)?
            }
        });
    }
    let (mut y, mut letters) = current.ok_or_else(|| Error::malformed("there are no inputs"))?;
    let gone: Vec<usize> = (0..letters.len()).filter(|&d| !equation.output.contains(&letters[d])).collect();
    if !gone.is_empty() {
        y = n.sum(y, &gone, false)?;
        letters.retain(|c| equation.output.contains(c));
    }
    let order: Vec<usize> = equation
        .output
        .iter()
        .map(|c| letters.iter().position(|l| l == c).expect("parsing checked that each letter occurs"))
        .collect();
    let y = n.transpose(y, &order)?;
    cast::finish(n, y, elem)
}

/// Takes the diagonal of dimensions that have the same letter.
fn diagonal(n: &mut Lowering, mut x: ValueId, letters: &[char]) -> Result<(ValueId, Vec<char>)> {
    let mut letters = letters.to_vec();
    while let Some((i, j)) =
        (0..letters.len()).flat_map(|j| (0..j).map(move |i| (i, j))).find(|&(i, j)| letters[i] == letters[j])
    {
        // Both to the end, flattened, every (size + 1)-th element.
        let rank = letters.len();
        let mut order: Vec<usize> = (0..rank).filter(|&d| d != i && d != j).collect();
        order.extend([i, j]);
        let moved = n.transpose(x, &order)?;
        let size = n.size(moved, rank - 1)?;
        let mut sizes: Vec<Size> = (0..rank - 2).map(|d| Size::Of(moved, d..d + 1)).collect();
        sizes.push(Size::Fixed(size * size));
        let flat = n.reshape_to(moved, &sizes)?;
        let places: Vec<i32> = (0..size).map(|k| (k * (size + 1)) as i32).collect();
        let places = n.int_vector(&places);
        x = n.gather(flat, places, rank - 2)?;
        letters = order.iter().take(rank - 1).map(|&d| letters[d]).collect();
    }
    Ok((x, letters))
}

type Labelled = (ValueId, Vec<char>);

/// Multiplies two operands and sums what is not kept, as a batched matrix product.
fn pair(
    n: &mut Lowering,
    (a, la): Labelled,
    (b, lb): Labelled,
    keeps: impl Fn(char) -> bool,
) -> Result<Labelled> {
    let both = |c: &char| la.contains(c) && lb.contains(c);
    let summed: Vec<char> = la.iter().copied().filter(|c| both(c) && !keeps(*c)).collect();
    let batch: Vec<char> = la.iter().copied().filter(|c| both(c) && keeps(*c)).collect();
    let left: Vec<char> = la.iter().copied().filter(|c| !lb.contains(c)).collect();
    let right: Vec<char> = lb.iter().copied().filter(|c| !la.contains(c)).collect();
    let at = |l: &[char], wanted: &[char]| -> Vec<usize> {
        wanted.iter().map(|c| l.iter().position(|d| d == c).expect("a letter of this operand")).collect()
    };
    // Sizes of 1 that broadcast (in an ellipsis) keep the dimensions apart.
    let unequal = batch.iter().any(|c| {
        let (i, j) = (la.iter().position(|d| d == c), lb.iter().position(|d| d == c));
        let (Some(i), Some(j)) = (i, j) else { return false };
        matches!(
            (n.dim(a, i), n.dim(b, j)),
            (Ok(Dim::Fixed(1)), Ok(d)) | (Ok(d), Ok(Dim::Fixed(1))) if d != Dim::Fixed(1)
        )
    });
    if summed.is_empty() || unequal {
        // Element by element over the union of the dimensions.
        let all: Vec<char> = batch.iter().chain(&summed).chain(&left).chain(&right).copied().collect();
        if all.len() > 5 {
            return Err(Error::unsupported(
                "an einsum whose operands together have more than five dimensions",
            )
            .with_hint("split the equation into several"));
        }
        let spread = |n: &mut Lowering, v: ValueId, l: &[char]| -> Result<ValueId> {
            let own: Vec<char> = all.iter().copied().filter(|c| l.contains(c)).collect();
            let v = n.transpose(v, &at(l, &own))?;
            let missing: Vec<i32> =
                (0..all.len()).filter(|&d| !l.contains(&all[d])).map(|d| d as i32).collect();
            n.expand_dims(v, &missing)
        };
        let (a, b) = (spread(n, a, &la)?, spread(n, b, &lb)?);
        let y = n.mul(a, b)?;
        let gone: Vec<usize> = (0..all.len()).filter(|&d| summed.contains(&all[d])).collect();
        let kept: Vec<char> = all.iter().copied().filter(|c| !summed.contains(c)).collect();
        let y = if gone.is_empty() { y } else { n.sum(y, &gone, false)? };
        return Ok((y, kept));
    }
    let order = |groups: [&[char]; 3]| groups.concat();
    let la_order = order([&batch, &left, &summed]);
    let lb_order = order([&batch, &summed, &right]);
    let ta = n.transpose(a, &at(&la, &la_order))?;
    let tb = n.transpose(b, &at(&lb, &lb_order))?;
    let (nb, nl, ns, nr) = (batch.len(), left.len(), summed.len(), right.len());
    let mut kept = batch.clone();
    kept.extend(&left);
    kept.extend(&right);
    // Each group becomes one dimension.
    let group = |v: ValueId, from: usize, len: usize| match len {
        0 => Size::Fixed(1),
        _ => Size::Of(v, from..from + len),
    };
    let ma = n.reshape_to(ta, &[group(ta, 0, nb), group(ta, nb, nl), group(ta, nb + nl, ns)])?;
    let mb = n.reshape_to(tb, &[group(tb, 0, nb), group(tb, nb, ns), group(tb, nb + ns, nr)])?;
    let y = n.matmul(ma, mb, false, false)?;
    let mut sizes: Vec<Size> = (0..nb + nl).map(|d| Size::Of(ta, d..d + 1)).collect();
    sizes.extend((0..nr).map(|d| Size::Of(tb, nb + ns + d..nb + ns + d + 1)));
    let y = n.reshape_to(y, &sizes)?;
    Ok((y, kept))
}

/// The determinant of the last two dimensions, by elimination with the largest pivot of each column.
pub(super) fn det(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let rank = n.rank(v.id)?;
    if rank < 2 {
        return Err(Error::malformed("a determinant of a vector"));
    }
    let size = n.size(v.id, rank - 1)?;
    if n.size(v.id, rank - 2)? != size {
        return Err(Error::malformed("a determinant of a matrix that is not square"));
    }
    if size > 64 {
        return Err(Error::unsupported(format!("a determinant of {size} × {size}"))
            .with_hint("Core ML has no determinant; up to 64 × 64 it is written out"));
    }
    let dtype = n.dtype(v.id)?;
    let flat = n.reshape_to(v.id, &[Size::Of(v.id, 0..rank - 2), Size::Fixed(size), Size::Fixed(size)])?;
    let flat = if rank == 2 { n.expand_dims(v.id, &[0])? } else { flat };
    let mut rest = flat;
    let mut result: Option<ValueId> = None;
    for k in 0..size {
        let left = size - k;
        // The row with the largest first element goes to the front.
        let column = n.cut(rest, 2, 0, Some(1))?;
        let a = n.un(Abs, column)?;
        let best = op!(n, ReduceArgmax, x = a, axis = 1, keep_dims = true)?;
        let places: Vec<i32> = (0..left as i32).collect();
        let places = n.int_tensor(&[1, left, 1], places)?;
        let hit = n.equal(best, places)?;
        let hit = n.cast(hit, dtype)?;
        let row = n.mul(rest, hit)?;
        let row = n.sum(row, &[1], true)?;
        let pivot = n.cut(row, 2, 0, Some(1))?;
        // Moving row `best` to the front past the others changes the sign for each.
        let odd = n.modulo(best, 2.0)?;
        let odd = n.mul(odd, -2.0)?;
        let sign = n.add(odd, 1.0)?;
        let sign = n.cast(sign, dtype)?;
        let factor = n.mul(pivot, sign)?;
        result = Some(match result {
            Some(r) => n.mul(r, factor)?,
            None => factor,
        });
        if left == 1 {
            break;
        }
        // The others without that row, in order: rows after it move up by one.
        let upper = n.cut(rest, 1, 0, Some(left as i32 - 1))?;
        let lower = n.cut(rest, 1, 1, None)?;
        let indices: Vec<i32> = (0..left as i32 - 1).collect();
        let indices = n.int_tensor(&[1, left - 1, 1], indices)?;
        let before = n.less(indices, best)?;
        let others = n.select(before, upper, lower)?;
        let singular = n.equal(pivot, 0.0)?;
        let divisor = n.select(singular, 1.0, pivot)?;
        let heads = n.cut(others, 2, 0, Some(1))?;
        let factors = n.div(heads, divisor)?;
        let steps = n.mul(factors, row)?;
        let eliminated = n.sub(others, steps)?;
        rest = n.cut(eliminated, 2, 1, None)?;
    }
    let y = match result {
        Some(y) => {
            let sizes: Vec<Size> = (0..rank - 2).map(|d| Size::Of(v.id, d..d + 1)).collect();
            if sizes.is_empty() { n.reshape(y, &[])? } else { n.reshape_to(y, &sizes)? }
        }
        None => {
            let sizes: Vec<Size> = (0..rank - 2).map(|d| Size::Of(v.id, d..d + 1)).collect();
            n.full(&sizes, 1.0, dtype)?
        }
    };
    let _ = (usize_of, Elem::Float);
    one(y, v.elem)
}
