//! An exact model of the tile instructions, as Intel's manual defines them, for machines without them.

use super::{Call, DEPTH, PLANE, SIDE, View};

/// Rows of a tile, and its columns of four bytes.
const TILE: usize = 16;

/// Adds to blocks of sums.
pub fn multiply(call: &Call<'_>, sums: &mut [[f32; SIDE * SIDE]]) {
    let View { line, second, plane } = call.view;
    for (block, sums) in sums.iter_mut().enumerate() {
        if call.first {
            sums.fill(0.0);
        }
        let (a, b) = (&call.a[block * call.advance[0]..], &call.b[block * call.advance[1]..]);
        for (step, start) in call.steps.iter().enumerate() {
            for &[plane_a, plane_b] in call.planes.products() {
                let a = &a[(step * call.planes.count() + plane_a) * PLANE..];
                let b = &b[start + plane_b * plane..];
                for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let first = i * TILE * SIDE + j * TILE;
                    dot(&mut sums[first..], &tile(&a[i * PLANE / 2..], 64), &tile(&b[j * second..], line));
                }
            }
        }
    }
}

/// Loads a tile whose lines are `apart` bytes apart.
fn tile(bytes: &[u8], apart: usize) -> [u16; TILE * DEPTH] {
    std::array::from_fn(|i| {
        let at = i / DEPTH * apart + i % DEPTH * 2;
        u16::from_le_bytes([bytes[at], bytes[at + 1]])
    })
}

/// `TDPBF16PS`: adds the product of two tiles to a third, whose rows are `SIDE` apart.
fn dot(sums: &mut [f32], a: &[u16; TILE * DEPTH], b: &[u16; TILE * DEPTH]) {
    for row in 0..TILE {
        for column in 0..TILE {
            let mut pair = [0.0f32; 2];
            for k in 0..DEPTH / 2 {
                for (i, sum) in pair.iter_mut().enumerate() {
                    let (x, y) = (a[row * DEPTH + 2 * k + i], b[k * DEPTH + 2 * column + i]);
                    *sum = flush(wide(x).mul_add(wide(y), *sum));
                }
            }
            let sum = &mut sums[row * SIDE + column];
            *sum = flush(flush(*sum) + flush(pair[0] + pair[1]));
        }
    }
}

/// A bfloat16 number; denormal ones are zero.
fn wide(bits: u16) -> f32 {
    flush(f32::from_bits(u32::from(bits) << 16))
}

/// Denormal numbers are zero.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}
