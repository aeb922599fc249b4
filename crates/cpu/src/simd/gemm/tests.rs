use super::*;

/// Multiples of a half from -4 to 4. Their products and sums are exact, so that any order of summation gives the same.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        ((state >> 8) % 17) as f32 / 2.0 - 4.0
    };
    (0..len).map(|_| next()).collect()
}

fn reference([m, k, n]: [usize; 3], a: &[f32], b: &[f32], bias: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let element = |i: usize| {
        let (r, c) = (i / n, i % n);
        let sum: f64 = (0..k).map(|x| f64::from(a[r * k + x]) * f64::from(b[x * n + c])).sum();
        (sum + f64::from(bias(r, c))) as f32
    };
    (0..m * n).map(element).collect()
}

const SIZES: [[usize; 3]; 12] = [
    [1, 1, 1],
    [1, 7, 33],
    [2, 0, 5],
    [3, 5, 64],
    [13, 17, 31],
    [14, 64, 32],
    [15, 9, 100],
    [29, 33, 65],
    [64, 40, 17],
    [100, 3, 1],
    [128, 70, 200],
    [57, 300, 530],
];

#[test]
fn every_kind_of_operand() {
    let pools = [Pool::inline(), Pool::new(3).unwrap()];
    for (isa, pool) in Isa::available().iter().flat_map(|isa| pools.iter().map(|p| (*isa, p))) {
        for size @ [m, k, n] in SIZES {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let (row_bias, column_bias) = (numbers(m, 3), numbers(n, 4));
            let b_t: Vec<f32> = (0..k * n).map(|i| b[i % k * n + i / k]).collect();
            let left = Matrix::new(F32(&a), m, k, [k, 1], &[]).rows();
            let right = Matrix::new(F32(&b), k, n, [n, 1], &[]).columns();
            let right_t = Matrix::new(F32(&b_t), k, n, [1, k], &[]).columns();
            for packed in [[false, false], [true, false], [false, true]] {
                let gemm = Gemm::new(isa, size, 1, packed, false);
                let [rows, columns] = gemm.panel();
                let (packed_a, packed_b) =
                    (pack(isa, &left, [1, m, k], rows), pack(isa, &right_t, [1, n, k], columns));
                let l = if packed[0] { Operand::Packed(&packed_a) } else { Operand::Panels(&left) };
                let rights = if packed[1] {
                    [Operand::Packed(&packed_b), Operand::InPlace { data: &b, stride: n, batch: 0 }]
                } else {
                    [Operand::Panels(&right), Operand::Panels(&right_t)]
                };
                let padded = (gemm.pad_bias(&row_bias, true), gemm.pad_bias(&column_bias, false));
                for r in rights {
                    for bias in [Bias::None, Bias::Rows(&padded.0), Bias::Columns(&padded.1)] {
                        let mut out = vec![f32::NAN; m * n + 3];
                        let mut scratch = vec![f32::NAN; gemm.scratch()];
                        let output = Output { data: Elements::F32(&mut out), start: 3 };
                        gemm.run(pool, [l, r], bias, output, &Epilogue::default(), &mut scratch);
                        let expected = reference(size, &a, &b, |r, c| match bias {
                            Bias::None => 0.0,
                            Bias::Rows(_) => row_bias[r],
                            Bias::Columns(_) => column_bias[c],
                        });
                        assert_eq!(out[3..], expected, "{isa:?} {size:?} packed {packed:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn halves_in_and_out_and_batches() {
    for isa in Isa::available() {
        let size @ [m, k, n] = [21, 30, 45];
        let batch = 5;
        let (a, b) = (numbers(batch * m * k, 5), numbers(2 * k * n, 6));
        let halves: Vec<f16> = a.iter().map(|&x| f16::from_f32(x)).collect();
        let a_starts: Vec<usize> = (0..batch).map(|i| i * m * k).collect();
        let b_starts: Vec<usize> = (0..batch).map(|i| i % 2 * k * n).collect();
        let left = Matrix::new(F16(&halves), m, k, [k, 1], &a_starts).rows();
        let right = Matrix::new(F32(&b), k, n, [n, 1], &b_starts).columns();
        let gemm = Gemm::new(isa, size, batch, [false, false], true);
        let mut out = vec![f16::NAN; batch * m * n];
        let mut scratch = vec![0.0; gemm.scratch()];
        let output = Output { data: Elements::F16(&mut out), start: 0 };
        let operands = [Operand::Panels(&left), Operand::Panels(&right)];
        let pool = Pool::new(2).unwrap();
        gemm.run(&pool, operands, Bias::None, output, &Epilogue::default(), &mut scratch);
        for i in 0..batch {
            let expected = reference(size, &a[a_starts[i]..], &b[b_starts[i]..], |_, _| 0.0);
            let own = &out[i * m * n..][..m * n];
            assert!(own.iter().zip(&expected).all(|(x, y)| *x == f16::from_f32(*y)), "{isa:?} batch {i}");
        }
    }
}
