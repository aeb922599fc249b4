//! An exact model of the tile instructions, as Intel's manual defines them, for machines without them.

use super::{DEPTH, PLANE, Planes, SIDE};

/// Rows of a tile, and its columns of four bytes.
const TILE: usize = 16;

/// Computes one block of sums; the operands' panels have `depth` times the planes.
pub fn multiply(planes: Planes, depth: usize, [a, b]: [&[u8]; 2], sums: &mut [f32; SIDE * SIDE]) {
    sums.fill(0.0);
    for step in 0..depth {
        for [plane_a, plane_b] in planes.products() {
            let at = |plane: usize| (step * planes.count() + plane) * PLANE;
            for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let tile = |operand: &[u8], plane: usize, half: usize| {
                    let bytes = &operand[at(plane) + half * PLANE / 2..][..PLANE / 2];
                    std::array::from_fn(|i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
                };
                let first = i * TILE * SIDE + j * TILE;
                dot(&mut sums[first..], &tile(a, *plane_a, i), &tile(b, *plane_b, j));
            }
        }
    }
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
