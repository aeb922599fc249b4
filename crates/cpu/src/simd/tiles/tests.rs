use half::f16;

use super::product::{Bias, Operands, Ordered, Product, Spread};
use super::split::{
    Columns, Joined, Lines, Packing, Paired, Rows, STEP, Strided, expand, order_columns, order_rows,
    pair_lines,
};
use super::*;
use crate::Pool;
use crate::chain::Epilogue;
use crate::simd::Isa;
use crate::simd::gemm::{Elements, F16, F32, Matrix, Output, Panels, SLACK};

/// Numbers of many magnitudes, exact in fp16 if `half`.
fn numbers(len: usize, seed: u64, half: bool) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let x = (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
        let x = x * 2.0f32.powi((state % 9) as i32 - 6);
        if half { f16::from_f32(x).to_f32() } else { x }
    };
    (0..len).map(|_| next()).collect()
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that start at a multiple of 64.
struct Bytes(Vec<Line>, usize);

impl Bytes {
    fn new(len: usize) -> Bytes {
        Bytes(vec![Line([0xff; 64]); len.div_ceil(64)], len)
    }
    fn get(&mut self) -> &mut [u8] {
        let (start, len) = (self.0.as_mut_ptr().cast::<u8>(), self.0.len() * 64);
        // SAFETY: `Line` is 64 bytes without padding.
        let all = unsafe { std::slice::from_raw_parts_mut(start, len) };
        &mut all[..self.1]
    }
}

const BOTH: [Planes; 2] = [Planes::Two, Planes::Three];

const SIZES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [2, 0, 5],
    [16, 31, 17],
    [32, 32, 32],
    [33, 33, 33],
    [5, 100, 65],
    [64, 65, 31],
    [97, 7, 130],
    [40, 300, 600],
];

fn pack_rows(isa: Isa, planes: Planes, source: &dyn Rows, [batch, m, k]: [usize; 3]) -> Bytes {
    let panel = planes.panel(k);
    let panels = m.div_ceil(SIDE);
    let mut bytes = Bytes::new(batch * panels * panel);
    for i in 0..batch {
        for p in 0..panels {
            let out = &mut bytes.get()[(i * panels + p) * panel..];
            source.split(isa, planes, i, p * SIDE, SIDE.min(m - p * SIDE), out);
        }
    }
    bytes
}

fn split_columns(isa: Isa, planes: Planes, source: &dyn Columns, [n, k]: [usize; 2]) -> Bytes {
    let panel = planes.panel(k);
    let mut bytes = Bytes::new(n.div_ceil(SIDE) * panel + 64);
    let mut floats = vec![f32::NAN; SIDE * k + SLACK];
    for p in 0..n.div_ceil(SIDE) {
        let out = &mut bytes.get()[p * panel..];
        source.split(isa, planes, 0, p * SIDE, SIDE.min(n - p * SIDE), out, &mut floats);
    }
    bytes
}

/// Operand A in order.
fn order_a(source: &Strided<'_, F32<'_>>, [batch, m, k]: [usize; 3]) -> Vec<f32> {
    let (panels, numbers) = (m.div_ceil(SIDE), k.div_ceil(DEPTH) * STEP);
    let mut all = vec![0.0; batch * panels * numbers];
    for (i, out) in all.chunks_exact_mut(numbers.max(1)).enumerate() {
        let first = i % panels * SIDE;
        order_rows(source, i / panels, first, SIDE.min(m - first), out);
    }
    all
}

/// Operand B in order.
fn order_b(isa: Isa, source: &dyn Panels, [n, k]: [usize; 2]) -> Vec<f32> {
    let numbers = k.div_ceil(DEPTH) * STEP;
    let mut all = vec![0.0; n.div_ceil(SIDE) * numbers];
    let mut floats = vec![f32::NAN; SIDE * k + SLACK];
    for (p, out) in all.chunks_exact_mut(numbers.max(1)).enumerate() {
        source.pack(isa, 0, p * SIDE, SIDE.min(n - p * SIDE), SIDE, &mut floats);
        order_columns(k, &floats, out);
    }
    all
}

fn halves(x: &[f32]) -> Vec<f16> {
    x.iter().map(|&x| f16::from_f32(x)).collect()
}

/// The bound of the sums: products that are left out, and the roundings of at most k + 4 additions.
fn bound(planes: Planes, k: usize, magnitude: f64) -> f64 {
    let left_out = match planes {
        Planes::Two => 2f64.powi(-16),
        Planes::Three => 0.0,
    };
    ((k + 4) as f64 * 2f64.powi(-24) + left_out) * magnitude
}

#[test]
fn products_are_as_exact_as_they_claim() {
    let pools = [Pool::inline(), Pool::new(3).unwrap()];
    for (tiles, isa) in
        Tiles::available().into_iter().flat_map(|t| Isa::available().into_iter().map(move |i| (t, i)))
    {
        for (planes, size) in BOTH.into_iter().flat_map(|p| SIZES.map(|s| (p, s))) {
            let [m, k, n] = size;
            // The model is slow.
            if tiles == Tiles::MODEL && (m * k * n > 200_000 || isa != Isa::detect()) {
                continue;
            }
            let half = planes == Planes::Two;
            let (a, b) = (numbers(m * k, 1, half), numbers(k * n, 2, half));
            let (row_bias, column_bias) = (numbers(m, 3, half), numbers(n, 4, half));
            let rows = Strided { data: F32(&a), k, strides: [k, 1], starts: &[] };
            let panels = Matrix::new(F32(&b), k, n, [n, 1], &[]).columns();
            let (own_a, own_b) = (order_a(&rows, [1, m, k]), order_b(isa, &panels, [n, k]));
            let (half_a, half_b) = (halves(&own_a), halves(&own_b));
            let lines = Lines { data: F32(&b), k, stride: n, starts: &[] };
            let mut first: Option<Vec<f32>> = None;
            for (way, pool) in (0..3).flat_map(|p| pools.iter().map(move |pool| (p, pool))) {
                let product = Product::new((tiles, isa), planes, size, 1, way > 0, false, None);
                let (ordered_a, ordered_b) = match half {
                    true => (Ordered::F16(&half_a), Ordered::F16(&half_b)),
                    false => (Ordered::F32(&own_a), Ordered::F32(&own_b)),
                };
                let packing = Packing { panels: &panels, k };
                let operands = match way {
                    0 => Operands::OrderedB(&rows, ordered_b),
                    1 => Operands::OrderedA(ordered_a, &packing),
                    _ => Operands::OrderedA(ordered_a, &lines),
                };
                for bias in [Bias::Rows(&row_bias), Bias::Columns(&column_bias), Bias::None] {
                    let mut out = vec![f32::NAN; m * n + 3];
                    let mut scratch = Bytes::new(product.scratch());
                    let output = Output { data: Elements::F32(&mut out), start: 3 };
                    product.run(pool, operands, bias, output, &Epilogue::default(), scratch.get());
                    for (i, got) in out[3..].iter().enumerate() {
                        let (r, c) = (i / n, i % n);
                        let bias = match bias {
                            Bias::None => 0.0,
                            Bias::Rows(x) => f64::from(x[r]),
                            Bias::Columns(x) => f64::from(x[c]),
                        };
                        let product = |x: usize| f64::from(a[r * k + x]) * f64::from(b[x * n + c]);
                        let sum: f64 = (0..k).map(product).sum::<f64>() + bias;
                        let magnitude: f64 = (0..k).map(|x| product(x).abs()).sum::<f64>() + bias.abs();
                        let error = (f64::from(*got) - sum).abs();
                        assert!(
                            error <= bound(planes, k, magnitude),
                            "{tiles:?} {isa:?} {planes:?} {size:?} at {r}, {c}: {got} for {sum}, {magnitude}"
                        );
                    }
                    if matches!(bias, Bias::None) {
                        // Neither threads, nor instruction sets, nor which operand is packed changes a bit.
                        assert_eq!(
                            &out[3..],
                            first.get_or_insert_with(|| out[3..].to_vec()),
                            "{tiles:?} {isa:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn halves_and_batches() {
    for (tiles, isa) in
        Tiles::available().into_iter().flat_map(|t| Isa::available().into_iter().map(move |i| (t, i)))
    {
        let size @ [m, k, n] = [35, 70, 45];
        let batch = 3;
        let (a, b) = (numbers(batch * m * k, 5, true), numbers(batch * k * n, 6, true));
        let (a16, b16) = (halves(&a), halves(&b));
        let [a_starts, b_starts] = [m * k, k * n].map(|len| (0..batch).map(|i| i * len).collect::<Vec<_>>());
        let rows = Strided { data: F32(&a), k, strides: [k, 1], starts: &a_starts };
        let panels = Matrix::new(F16(&b16), k, n, [n, 1], &b_starts).columns();
        let own_a = halves(&order_a(&rows, [batch, m, k]));
        assert_eq!(a16[..k.min(16)], own_a[..k.min(16)]);
        let product = Product::new((tiles, isa), Planes::Two, size, batch, true, true, None);
        let mut out = vec![f16::NAN; batch * m * n];
        let mut scratch = Bytes::new(product.scratch());
        let output = Output { data: Elements::F16(&mut out), start: 0 };
        let operands = Operands::OrderedA(Ordered::F16(&own_a), &Packing { panels: &panels, k });
        product.run(
            &Pool::new(2).unwrap(),
            operands,
            Bias::None,
            output,
            &Epilogue::default(),
            scratch.get(),
        );
        for (i, got) in out.iter().enumerate() {
            let (p, r, c) = (i / (m * n), i / n % m, i % n);
            let product = |x: usize| f64::from(a[(p * m + r) * k + x]) * f64::from(b[(p * k + x) * n + c]);
            let sum: f64 = (0..k).map(product).sum();
            let magnitude: f64 = (0..k).map(|x| product(x).abs()).sum();
            let error = (f64::from(got.to_f32()) - sum).abs();
            assert!(error <= bound(Planes::Two, k, magnitude) + sum.abs() * 2f64.powi(-11) + 2f64.powi(-25));
        }
    }
}

#[test]
fn every_half_is_the_sum_of_two_planes_and_floats_of_three() {
    let isa = Isa::detect();
    let all: Vec<f32> =
        (0..=u16::MAX).map(|b| f16::from_bits(b).to_f32()).filter(|x| x.is_finite()).collect();
    let mut floats = numbers(10_000, 9, false);
    floats.extend([f32::MAX / 4.0, 1e-30, -1e-30, 0.0, -0.0, 1.0 + f32::EPSILON, 1.0 - f32::EPSILON / 2.0]);
    for (planes, x) in [(Planes::Two, &all), (Planes::Three, &all), (Planes::Three, &floats)] {
        let k = 50;
        let m = x.len() / k;
        let rows = Strided { data: F32(x), k, strides: [k, 1], starts: &[] };
        // Three ways to split rows: as they are, in order, and in pairs of lines.
        let mut split = pack_rows(isa, planes, &rows, [1, m, k]);
        let ordered = order_a(&rows, [1, m, k]);
        let mut expanded = Bytes::new(split.1);
        for (i, out) in expanded.get().chunks_exact_mut(planes.panel(k)).enumerate() {
            expand(isa, planes, F32(&ordered), i * k.div_ceil(DEPTH) * STEP, out);
        }
        assert!(split.get()[..m / SIDE * planes.panel(k)] == expanded.get()[..m / SIDE * planes.panel(k)]);
        let sum = |bytes: &[u8], at: usize| {
            (0..planes.count()).fold(0.0, |sum, plane| {
                let at = at + plane * PLANE;
                sum + f32::from_bits(u32::from_le_bytes([0, 0, bytes[at], bytes[at + 1]]))
            })
        };
        for (i, x) in x[..m * k].iter().enumerate() {
            let (row, i) = (i / k, i % k);
            let at = row / SIDE * planes.panel(k)
                + i / DEPTH * planes.count() * PLANE
                + row % SIDE * 64
                + i % 16 * 4
                + i % DEPTH / 16 * 2;
            assert_eq!(sum(expanded.get(), at), *x);
        }
        let joined = Joined { data: F32(&ordered), size: [m, k], rows: true, taps: 0 };
        let mut back = vec![0.0; m * k + SLACK];
        joined.pack(isa, 0, 0, m, m, &mut back);
        for (i, x) in x[..m * k].iter().enumerate() {
            assert_eq!(back[i % k * m + i / k], *x);
        }
        // Three ways to split columns.
        let panels = Matrix::new(F32(x), m, k, [k, 1], &[]).columns();
        let lines = Lines { data: F32(x), k: m, stride: k, starts: &[] };
        let ordered = order_b(isa, &panels, [k, m]);
        let mut first = split_columns(isa, planes, &Packing { panels: &panels, k: m }, [k, m]);
        let mut second = split_columns(isa, planes, &lines, [k, m]);
        let mut third = Bytes::new(first.1);
        for (i, out) in third.get().chunks_exact_mut(planes.panel(m)).enumerate() {
            expand(isa, planes, F32(&ordered), i * m.div_ceil(DEPTH) * STEP, out);
        }
        for (i, x) in x[..m * k].iter().enumerate() {
            let (i, column) = (i / k, i % k);
            let at = column / SIDE * planes.panel(m)
                + i / DEPTH * planes.count() * PLANE
                + column % SIDE / 16 * PLANE / 2
                + i % 16 * 64
                + column % 16 * 4
                + i % DEPTH / 16 * 2;
            for split in [&mut first, &mut second, &mut third] {
                assert_eq!(sum(split.get(), at), *x);
            }
        }
        let joined = Joined { data: F32(&ordered), size: [k, m], rows: false, taps: 0 };
        joined.pack(isa, 0, 0, k, k, &mut back);
        assert_eq!(back[..m * k], x[..m * k]);
        // Pairs of lines of any length.
        for len in [1, 7, 16, 33] {
            let pitch = 48;
            let mut out = vec![f32::NAN; planes.count() * pitch];
            pair_lines(isa, planes, F32(x), [Some(3), None], len, &mut out, pitch);
            for i in 0..pitch {
                let parts = (0..planes.count()).map(|p| out[p * pitch + i].to_bits() << 16);
                let whole = parts.fold(0.0, |sum, bits| sum + f32::from_bits(bits));
                assert!(if i < len { whole == x[3 + i] } else { out[i].is_nan() });
            }
        }
    }
}

/// The input of a convolution with a kernel of `taps` offsets along a line, and the matrix that it stands for.
#[test]
fn planes_are_read_in_place() {
    for (tiles, isa) in [Tiles::detect().unwrap_or(Tiles::MODEL), Tiles::MODEL].map(|t| (t, Isa::detect())) {
        for planes in BOTH {
            let (channels, lines, line, width, m, groups) = (64, 5, 11, 13, 40, 2);
            let taps = [0, 1, 2 * width + 2];
            let (pitch, n, k) = (112, lines * line, channels * taps.len());
            let half = planes == Planes::Two;
            let (x, a) = (numbers(groups * channels * pitch, 1, half), numbers(groups * m * k, 2, half));
            let mut data = vec![f32::NAN; groups * channels / 2 * planes.count() * pitch + SLACK];
            for (i, out) in data.chunks_exact_mut(planes.count() * pitch).enumerate() {
                let low = i / 16 * DEPTH + i % 16;
                let at = [low, low + 16].map(|channel| Some(channel * pitch));
                pair_lines(isa, planes, F32(&x), at, pitch, out, pitch);
            }
            let starts: Vec<usize> = (0..lines).map(|i| i * width).collect();
            let paired =
                Paired { data: &data, pitch, blocks: channels / DEPTH, taps: &taps, line, starts: &starts };
            // Number `i` of a row belongs to a block of channels, a kernel offset, and a channel of the block.
            let at = |i: usize| {
                let channel = i / DEPTH / taps.len() * DEPTH + i % DEPTH;
                channel * pitch + taps[i / DEPTH % taps.len()]
            };
            let a_starts = [0, m * k];
            let rows = Strided { data: F32(&a), k, strides: [k, 1], starts: &a_starts };
            let ordered = order_a(&rows, [groups, m, k]);
            let ordered16 = halves(&ordered);
            let weight = if half { Ordered::F16(&ordered16) } else { Ordered::F32(&ordered) };
            let mut results = Vec::new();
            for (in_place, threads) in [(true, 1), (true, 3), (false, 2)] {
                let spread = Spread { line, starts: starts.clone() };
                let spread = in_place.then_some((spread, &paired));
                let product = Product::new((tiles, isa), planes, [m, k, n], groups, true, false, spread);
                let operands = match in_place {
                    true => Operands::InPlace(weight, paired),
                    false => Operands::OrderedA(weight, &paired),
                };
                let mut out = vec![f32::NAN; groups * m * n];
                let mut scratch = Bytes::new(product.scratch());
                let output = Output { data: Elements::F32(&mut out), start: 0 };
                let pool = Pool::new(threads).unwrap();
                product.run(&pool, operands, Bias::None, output, &Epilogue::default(), scratch.get());
                results.push(out);
            }
            assert!(results.iter().all(|r| r == &results[0]), "{tiles:?} {planes:?}");
            for (i, got) in results[0].iter().enumerate() {
                let (group, row, column) = (i / (m * n), i / n % m, i % n);
                let position = group * channels * pitch + starts[column / line] + column % line;
                let product =
                    |i: usize| f64::from(a[(group * m + row) * k + i]) * f64::from(x[at(i) + position]);
                let sum: f64 = (0..k).map(product).sum();
                let magnitude: f64 = (0..k).map(|i| product(i).abs()).sum();
                let error = (f64::from(*got) - sum).abs();
                assert!(error <= bound(planes, k, magnitude), "{tiles:?} {planes:?} {i}: {got} for {sum}");
            }
        }
    }
}

#[test]
fn the_model_is_the_machine() {
    let Some(machine) = Tiles::detect().filter(|t| *t != Tiles::MODEL) else { return };
    // Any bits at all, among them denormals, infinities and NaN.
    let mut state = 12345u64;
    let mut bytes = |len: usize, wild: bool| {
        let mut all = Bytes::new(len);
        for x in all.get().chunks_exact_mut(2) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = (state >> 33) as u16;
            // Exponents near that of one, unless wild.
            let bits = if wild { bits } else { (bits & 0x8fff) | (0x3800 - (bits & 0x0800)) };
            x.copy_from_slice(&bits.to_le_bytes());
        }
        all
    };
    for (planes, wild) in BOTH.into_iter().flat_map(|p| [false, true].map(|w| (p, w))) {
        for depth in [0, 1, 3] {
            let step = planes.count() * PLANE;
            let len = 3 * depth * step;
            let (mut a, mut b) = (bytes(len, wild), bytes(2 * len + 8192, wild));
            // A panel of B, and a view of it whose tiles start at any multiple of four and overlap.
            let odd = View { line: 100, second: 36, plane: 1604 };
            for (view, size) in [(PANEL, step), (odd, 196)] {
                let steps: Vec<usize> = (0..depth).map(|i| i * size).collect();
                let mut sums = [[[0.5; SIDE * SIDE]; 3]; 2];
                for (sums, tiles) in sums.iter_mut().zip([machine, Tiles::MODEL]) {
                    for first in [true, false] {
                        let (a, b) = (&*a.get(), &*b.get());
                        let advance = [depth * step, 64];
                        let call = Call { planes, a, b, advance, steps: &steps, view, first, ahead: (a, 3) };
                        tiles.multiply(&call, sums);
                    }
                }
                for (x, y) in sums[0].as_flattened().iter().zip(sums[1].as_flattened()) {
                    let same = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
                    assert!(same, "{x} for {y}, wild {wild}");
                }
            }
        }
    }
}

#[test]
fn what_tiles_are_permitted() {
    assert!(permits(1000, [65504.0, 65504.0]) && permits(10, [0.0, 1.0]) && permits(0, [1.0, 1.0]));
    for [a, b] in
        [[f32::INFINITY, 1.0], [f32::NAN, 1.0], [f32::MAX, 1e-9], [1e20, 1e20], [1e-35, 1.0], [1e-20, 1e-20]]
    {
        assert!(!permits(1, [a, b]) && !permits(1, [b, a]), "{a} {b}");
    }
    let x = [1.0, -3.0, 2.0];
    let halves = x.map(f16::from_f32);
    let (isa, pool) = (Isa::detect(), Pool::inline());
    assert_eq!(split::largest_f32(isa, &pool, &x), 3.0);
    assert_eq!(split::largest_f16(isa, &pool, &halves), 3.0);
    for bits in [0x7fff_ffff, 0xffff_ffff, 0x7f80_0001, 0x7f80_0000] {
        assert_eq!(split::largest_f32(isa, &pool, &[1.0, f32::from_bits(bits)]), f32::INFINITY);
        assert_eq!(
            split::largest_f16(isa, &pool, &[f16::ONE, f16::from_bits((bits >> 16) as u16)]),
            f32::INFINITY
        );
    }
}
