//! Matrix products: `C[m, n] = A[m, k] · B[k, n]`, row-major C, accumulated in `f32`.
//!
//! The micro-kernel reads both operands from *panels*, which are packed so that it reads memory in order: a panel of A
//! is a band of a few rows, a panel of B a band of two vectors of columns.
//!
//! ```text
//!            B (k x n)                 panel 0 of A in memory (here of three rows)
//!           +---------+---------+        step 0 along k:  a00 a10 a20
//!           | panel 0 | panel 1 |        step 1:          a01 a11 a21
//!           +---------+---------+        step 2:          a02 a12 a22
//! A (m x k)  C (m x n)
//! +-------+ +---------+---------+       panel 0 of B in memory (two vectors of columns)
//! |panel 0| |  tile   |  tile   |        step 0 along k:  b00 b01 b02 ...
//! +-------+ +---------+---------+        step 1:          b10 b11 b12 ...
//! |panel 1| |  tile   |  tile   |        step 2:          b20 b21 b22 ...
//! +-------+ +---------+---------+
//! ```
//!
//! The number of rows in a panel is chosen for each product so that the rows divide evenly. Constant operands are
//! packed once ([`pack`]). Each task packs other operands into its scratch memory, through [`Panels`]; a convolution
//! implements [`Panels`] and so needs no im2col matrix.
//!
//! A task computes a block of C: it runs the tiles, whose sums start from the bias, then the [`Epilogue`], then rounds
//! to the element type of C, all while the block is in the nearest caches. Results do not depend on the number of
//! threads.

mod matrix;
mod tile;

use half::f16;

use self::tile::{MAX_ROWS, Tile, run_tile};
use super::isa::MAX_LANES;
use super::{Isa, convert, cut};
use crate::Pool;
use crate::chain::Epilogue;
use crate::pool::Shares;

pub use self::matrix::{Elements, F16, F32, Matrix, Source};

/// Elements that packing may write past the end of a panel: every panel buffer is longer by this many.
pub const SLACK: usize = 64;

/// About how many bytes of panels a task packs for itself: a part of a second-level cache.
const PANEL_BYTES: usize = 256 << 10;
/// The most columns of a task's block; a whole line of C of up to twice as many is not cut, so that the rows of a block
/// follow each other in memory.
const MAX_COLUMNS: usize = 512;
/// About how many bytes of an operand that is read in place a block may reach.
const REACH_BYTES: usize = 1 << 20;
/// The most tasks that run at the same time: scratch memory is for so many. It does not depend on the machine, so that
/// a plan needs the same scratch memory everywhere; pages that no task touches cost nothing.
const LANES: usize = 8;
/// The most elements of a tile.
const MAX_TILE: usize = MAX_ROWS * 2 * MAX_LANES;

/// An operand that is packed task by task.
pub trait Panels: Sync {
    /// Writes a panel to `out`: `count` columns of B (or rows of A) of product `batch`, from number `first` on. The
    /// panel has `width` elements for each of the k steps; those from `count` on may hold anything. The function may
    /// write up to [`SLACK`] elements past the panel, for which `out` has room.
    fn pack(&self, isa: Isa, batch: usize, first: usize, count: usize, width: usize, out: &mut [f32]);
}

/// An operand of a product.
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    /// The result of [`pack`]; the panels of a batch follow each other.
    Packed(&'a [f32]),
    /// Each task packs the panels that it needs.
    Panels(&'a dyn Panels),
    /// Only for B: rows of `stride` elements, read in place. The matrices of a batch start `batch` elements apart.
    InPlace {
        /// The elements.
        data: &'a [f32],
        /// Elements from one row to the next.
        stride: usize,
        /// Elements from one matrix to the next.
        batch: usize,
    },
}

/// The start values of the sums, padded with zeros as [`Gemm::pad_bias`] does.
#[derive(Clone, Copy)]
pub enum Bias<'a> {
    /// Zero.
    None,
    /// One number for each row; the padded vectors of a batch follow each other.
    Rows(&'a [f32]),
    /// One number for each column, the same for every batch.
    Columns(&'a [f32]),
}

/// The destination of C. The matrices of the batch follow each other, from element `start` on.
pub struct Output<'a> {
    /// The elements.
    pub data: Elements<'a>,
    /// The number of elements before the first matrix. The epilogue counts them as well.
    pub start: usize,
}

/// The sizes of a product, and how it is cut into tasks.
#[derive(Clone, Debug)]
pub struct Gemm {
    isa: Isa,
    m: usize,
    n: usize,
    k: usize,
    batch: usize,
    /// Rows of a panel of A.
    rows: usize,
    /// Columns of a panel of B.
    columns: usize,
    /// Rows and columns of a task's block: multiples of `rows` and `columns`.
    task: [usize; 2],
    /// Floats of scratch memory that a task needs for A, B and C.
    parts: [usize; 3],
}

/// A block of C.
struct Block {
    batch: usize,
    row: usize,
    column: usize,
    height: usize,
    width: usize,
}

impl Gemm {
    /// Plans `batch` products of m × k and k × n. `packed` says for A and B whether they are packed in advance or read
    /// in place, `staged` whether the element type of C is not `f32`.
    pub fn new(isa: Isa, [m, k, n]: [usize; 3], batch: usize, packed: [bool; 2], staged: bool) -> Gemm {
        let (rows, columns) = (panel_rows(isa, m), panel_columns(isa));
        let all_rows = m.next_multiple_of(rows).max(rows);
        let all_columns = n.next_multiple_of(columns).max(columns);
        let whole = n <= 2 * MAX_COLUMNS && n.saturating_mul(k) <= REACH_BYTES / 4;
        let most_columns = if whole { all_columns } else { all_columns.min(MAX_COLUMNS.max(columns)) };
        let room = PANEL_BYTES / 4 / k.max(1);
        let task = [
            if packed[0] { all_rows } else { (room / rows).max(4).saturating_mul(rows).min(all_rows) },
            if packed[1] {
                most_columns
            } else {
                (room / columns).max(1).saturating_mul(columns).min(most_columns)
            },
        ];
        let parts = [
            if packed[0] { 0 } else { task[0] * k + SLACK },
            // The last columns of B are packed even if B is read in place: a whole panel may reach past its end.
            task[1] * k + SLACK,
            match (staged, packed[0]) {
                (false, _) => 0,
                (true, true) => rows * task[1],
                (true, false) => task[0] * task[1],
            },
        ];
        Gemm { isa, m, n, k, batch, rows, columns, task, parts: parts.map(|p| p.next_multiple_of(16)) }
    }

    /// Rows and columns of a task's block, cut for threads. `packs` says whether tasks pack B.
    fn cut(&self, threads: usize, packs: bool) -> [usize; 2] {
        let Gemm { isa, m, n, k, batch, rows, columns, task, .. } = *self;
        let units = [rows, columns];
        let panels = [m.div_ceil(rows), n.div_ceil(columns)];
        // Cycles of a core: two multiply-adds of a vector in each, and about eight numbers packed.
        let tile = (rows * columns * k) as f64 / (2 * isa.lanes()) as f64 + 20.0;
        let pack = [self.parts[0] > 0, packs].map(|packs| if packs { 0.12 * k as f64 } else { 0.0 });
        let cost = |part: [usize; 2]| {
            let packing = (part[0] * rows) as f64 * pack[0] + (part[1] * columns) as f64 * pack[1];
            (part[0] * part[1]) as f64 * tile + packing
        };
        let most = [0, 1].map(|d| task[d] / units[d]);
        let part = cut::cut(threads, batch, panels, most, cost);
        [0, 1].map(|d| part[d] * units[d])
    }

    /// Floats of scratch memory that [`run`](Gemm::run) needs.
    pub fn scratch(&self) -> usize {
        LANES * self.parts.iter().sum::<usize>()
    }

    /// The rows in a panel of A, and the columns in a panel of B.
    pub fn panel(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Pads a bias as the micro-kernel reads it. It has one number for each row (of one product) or column.
    pub fn pad_bias(&self, bias: &[f32], per_row: bool) -> Vec<f32> {
        let unit = if per_row { self.rows } else { self.columns };
        let mut padded = bias.to_vec();
        padded.resize(bias.len().next_multiple_of(unit), 0.0);
        padded
    }

    /// Computes all products.
    ///
    /// # Panics
    /// A buffer is too short for the sizes: a bug of the kernel.
    pub fn run(
        &self,
        pool: &Pool,
        [a, b]: [Operand<'_>; 2],
        bias: Bias<'_>,
        out: Output<'_>,
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
    ) {
        let Gemm { m, n, k, batch, rows, columns, .. } = *self;
        let task = self.cut(pool.threads(), matches!(b, Operand::Panels(_)));
        if batch * m * n == 0 {
            return;
        }
        // These checks keep all that the tiles reach through pointers inside its slice.
        let (padded_m, padded_n) = (m.next_multiple_of(rows), n.next_multiple_of(columns));
        assert!(out.start + batch * m * n <= out.data.len());
        match a {
            Operand::Packed(a) => assert!(a.len() >= batch * padded_m * k),
            Operand::Panels(_) => assert!(self.parts[0] >= self.task[0] * k),
            Operand::InPlace { .. } => unreachable!("only B is read in place"),
        }
        if let Operand::Packed(b) = b {
            assert!(b.len() >= batch * padded_n * k);
        }
        match bias {
            Bias::None => {}
            Bias::Rows(x) => assert!(x.len() >= batch * padded_m),
            Bias::Columns(x) => assert!(x.len() >= padded_n),
        }
        let lane: usize = self.parts.iter().sum();
        let lanes = pool.threads().min(scratch.len() / lane);
        assert!(lanes > 0, "scratch memory for one task at least");

        let [tasks_m, tasks_n] = [m.div_ceil(task[0]), n.div_ceil(task[1])];
        let tasks = batch * tasks_m * tasks_n;
        let lanes = lanes.min(tasks);
        let shares = Shares::new(tasks, lanes);
        let target = Target::new(out.data);
        pool.for_each_chunk(&mut scratch[..lanes * lane], lane, |l, scratch| {
            for i in shares.of(l) {
                let [row, column] = [i / tasks_n % tasks_m * task[0], i % tasks_n * task[1]];
                let block = Block {
                    batch: i / (tasks_m * tasks_n),
                    row,
                    column,
                    height: (m - row).min(task[0]),
                    width: (n - column).min(task[1]),
                };
                self.block(&block, [a, b], bias, &target, out.start, epilogue, scratch);
            }
        });
    }

    /// Computes one block of C.
    #[expect(clippy::too_many_arguments, reason = "the arguments of `run`, for one block")]
    fn block(
        &self,
        block: &Block,
        [a, b]: [Operand<'_>; 2],
        bias: Bias<'_>,
        target: &Target,
        start: usize,
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
    ) {
        let Gemm { isa, m, n, k, rows, columns, .. } = *self;
        let Block { batch, row: first_row, column: first_column, height, width } = *block;
        let (padded_m, padded_n) = (m.next_multiple_of(rows), n.next_multiple_of(columns));
        let (own_a, rest) = scratch.split_at_mut(self.parts[0]);
        let (own_b, own_c) = rest.split_at_mut(self.parts[1]);

        let a: &[f32] = match a {
            Operand::Packed(a) => &a[(batch * padded_m + first_row) * k..],
            Operand::Panels(source) => {
                for row in (0..height).step_by(rows) {
                    let count = rows.min(height - row);
                    source.pack(isa, batch, first_row + row, count, rows, &mut own_a[row * k..]);
                }
                own_a
            }
            Operand::InPlace { .. } => unreachable!("only B is read in place"),
        };
        let pack_b = |source: &dyn Panels, own_b: &mut [f32]| {
            for column in (0..width).step_by(columns) {
                let count = columns.min(width - column);
                source.pack(isa, batch, first_column + column, count, columns, &mut own_b[column * k..]);
            }
        };
        // B, its stride along k, and its stride along the columns from panel to panel: elements per column.
        let (b, b_stride, b_panel): (&[f32], usize, usize) = match b {
            Operand::Packed(b) => (&b[(batch * padded_n + first_column) * k..], columns, k),
            Operand::Panels(source) => {
                pack_b(source, own_b);
                (own_b, columns, k)
            }
            Operand::InPlace { data, stride, batch: apart } => {
                let at = batch * apart + first_column;
                let end = at + width.next_multiple_of(columns) + k.saturating_sub(1) * stride;
                if end <= data.len() {
                    (&data[at..], stride, 1)
                } else {
                    let starts = [batch * apart];
                    let matrix = Matrix::new(F32(data), k, n, [stride, 1], &starts).columns();
                    for column in (0..width).step_by(columns) {
                        let count = columns.min(width - column);
                        matrix.pack(isa, 0, first_column + column, count, columns, &mut own_b[column * k..]);
                    }
                    (own_b, columns, k)
                }
            }
        };

        let first = start + (batch * m + first_row) * n + first_column;
        let mut spill = [0.0f32; MAX_TILE];
        // `base` is the first row that `own_c` has room for.
        let tile =
            |base: usize, row: usize, column: usize, own_c: &mut [f32], spill: &mut [f32; MAX_TILE]| {
                let (tile_rows, tile_columns) = (rows.min(height - row), columns.min(width - column));
                let at = first + row * n + column;
                let direct = target.f32 && tile_columns == columns;
                let (c, c_stride) = if direct {
                    // SAFETY: the tile is inside of the block, and the block inside of the output (see `run`).
                    (unsafe { target.ptr.cast::<f32>().add(at) }, n)
                } else {
                    (spill.as_mut_ptr(), columns)
                };
                let null = std::ptr::null();
                let tile = Tile {
                    k,
                    a: a[row * k..].as_ptr(),
                    b: b[column * b_panel..].as_ptr(),
                    b_stride,
                    row_bias: match bias {
                        Bias::Rows(x) => x[batch * padded_m + first_row + row..].as_ptr(),
                        _ => null,
                    },
                    column_bias: match bias {
                        Bias::Columns(x) => x[first_column + column..].as_ptr(),
                        _ => null,
                    },
                    c,
                    c_stride,
                    rows: tile_rows,
                };
                // SAFETY: the panels hold `rows` elements of A and `columns` of B for each of the k steps: `run` checked
                // the length of panels that are packed in advance, `new` planned the length of those in scratch memory, and
                // `end` bounds those read in place. The biases are padded, as `run` checked. C has room for the tile's rows
                // of `columns` elements, and no other task writes there.
                unsafe { run_tile(isa, rows, &tile) };
                if direct {
                    return;
                }
                for r in 0..tile_rows {
                    let from = &spill[r * columns..][..tile_columns];
                    if target.f32 {
                        // SAFETY: this row of the tile is inside the block, to which no other task writes.
                        unsafe { target.row::<f32>(at + r * n, tile_columns) }.copy_from_slice(from);
                    } else {
                        own_c[(row + r - base) * width + column..][..tile_columns].copy_from_slice(from);
                    }
                }
            };
        // Finishes `height` rows from `row` on, which are the first of `own_c`.
        let finish = |row: usize, height: usize, own_c: &mut [f32]| {
            // Whole lines of C follow each other.
            let (lines, len) = if width == n { (1, height * n) } else { (height, width) };
            for line in 0..lines {
                let at = first + (row + line) * n;
                if target.f32 {
                    if epilogue.is_empty() {
                        return;
                    }
                    // SAFETY: this line of the block is inside the output, and no other task touches it.
                    epilogue.apply(at, unsafe { target.row::<f32>(at, len) });
                } else {
                    let values = &mut own_c[line * width..][..len];
                    epilogue.apply(at, values);
                    // SAFETY: as above.
                    convert::narrow(isa, values, unsafe { target.row::<f16>(at, len) });
                }
            }
        };
        // The outer loop runs over the operand that is farther away in memory: each of its panels is then read once.
        if self.parts[0] == 0 {
            for row in (0..height).step_by(rows) {
                for column in (0..width).step_by(columns) {
                    tile(row, row, column, own_c, &mut spill);
                }
                finish(row, rows.min(height - row), own_c);
            }
        } else {
            for column in (0..width).step_by(columns) {
                for row in (0..height).step_by(rows) {
                    tile(0, row, column, own_c, &mut spill);
                }
            }
            finish(0, height, own_c);
        }
    }
}

/// C as tasks see it: they write to it in parallel, each to its own block.
pub(crate) struct Target {
    ptr: *mut u8,
    pub(crate) f32: bool,
}

// SAFETY: the pointer stands for an exclusive borrow that outlives the value; tasks write to disjoint parts.
unsafe impl Sync for Target {}

impl Target {
    pub(crate) fn new(data: Elements<'_>) -> Target {
        match data {
            Elements::F32(x) => Target { ptr: x.as_mut_ptr().cast(), f32: true },
            Elements::F16(x) => Target { ptr: x.as_mut_ptr().cast(), f32: false },
        }
    }

    /// Borrows `len` elements from `at` on.
    ///
    /// # Safety
    /// They must be of this type and inside the output, and nobody else may use them while the borrow lasts.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches that nobody else uses these elements")]
    pub(crate) unsafe fn row<T>(&self, at: usize, len: usize) -> &mut [T] {
        // SAFETY: as the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.cast::<T>().add(at), len) }
    }
}

/// Returns the rows of a panel of A with `m` rows: as many as fit in registers, or fewer if those divide `m` better.
pub fn panel_rows(isa: Isa, m: usize) -> usize {
    m.div_ceil(m.div_ceil(tile::max_rows(isa)).max(1)).max(1)
}

/// Returns the columns of a panel of B: two vectors.
pub fn panel_columns(isa: Isa) -> usize {
    2 * isa.lanes()
}

/// Packs `count` rows of A or columns of B, `width` to a panel, of each product of a batch.
pub fn pack(isa: Isa, source: &dyn Panels, [batch, count, k]: [usize; 3], width: usize) -> Vec<f32> {
    let padded = count.next_multiple_of(width);
    let mut packed = vec![0.0; batch * padded * k + SLACK];
    for i in 0..batch {
        for first in (0..count).step_by(width) {
            let out = &mut packed[(i * padded + first) * k..];
            source.pack(isa, i, first, width.min(count - first), width, out);
        }
    }
    packed
}

#[cfg(test)]
mod tests;
