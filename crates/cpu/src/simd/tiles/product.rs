//! Matrix products on tiles: `C[m, n] = A[m, k] · B[k, n]`, row-major C, as [`gemm`](crate::simd::gemm) makes them on
//! vectors. One operand is packed in advance; tasks split the other. Each number of C is summed in the same order,
//! wherever the cuts between tasks are.

use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;

use super::split::{Columns, Rows};
use super::{DEPTH, Planes, SIDE, Tiles};
use crate::Pool;
use crate::chain::Epilogue;
use crate::simd::gemm::{Output, SLACK, Target};
use crate::simd::{Isa, Op, Simd, convert};

/// About how many bytes of panels a task splits for itself: a part of a second-level cache.
const PANEL_BYTES: usize = 512 << 10;
/// The most columns whose results wait for the epilogue together, if a task has many rows.
const GROUP: usize = 512;
/// The most blocks of sums at once: they stay in the nearest cache.
const BLOCKS: usize = 4;
/// The most tasks that run at the same time: scratch memory is for so many, as in `gemm`.
const LANES: usize = 8;
/// The fewest tasks for each thread that a large product is cut into.
const TASKS: usize = 3;

/// The operands. The packed panels of a batch follow each other.
#[derive(Clone, Copy)]
pub enum Operands<'a> {
    /// A is packed.
    PackedA(&'a [u8], &'a dyn Columns),
    /// B is packed.
    PackedB(&'a dyn Rows, &'a [u8]),
}

/// What is added to the sums. There is one number for each row of the batch, or one for each column.
#[derive(Clone, Copy)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// One number for each row; those of the products of a batch follow each other.
    Rows(&'a [f32]),
    /// One number for each column, the same for every product.
    Columns(&'a [f32]),
}

/// The sizes of a product, and how it is cut into tasks.
#[derive(Clone, Debug)]
pub struct Product {
    tiles: Tiles,
    isa: Isa,
    planes: Planes,
    m: usize,
    k: usize,
    n: usize,
    batch: usize,
    packed_a: bool,
    /// Rows and columns of a task's block: multiples of `SIDE`.
    task: [usize; 2],
    /// Bytes of scratch memory that a task needs: for what it splits, for a panel before it is split, and for results.
    parts: [usize; 3],
}

/// Aligned sums.
#[repr(C, align(64))]
struct Sums([[f32; SIDE * SIDE]; BLOCKS]);

impl Product {
    /// Plans `batch` products of m × k and k × n. `packed_a` says which operand is packed in advance.
    pub fn new(
        (tiles, isa): (Tiles, Isa),
        planes: Planes,
        [m, k, n]: [usize; 3],
        batch: usize,
        packed_a: bool,
        half: bool,
    ) -> Product {
        let [all_rows, all_columns] = [m, n].map(|x| x.next_multiple_of(SIDE).max(SIDE));
        let room = (PANEL_BYTES / planes.panel(k).max(1)).max(4) * SIDE;
        let task =
            if packed_a { [all_rows, room.min(all_columns)] } else { [room.min(all_rows), all_columns] };
        let split = if packed_a { task[1] } else { task[0] } / SIDE * planes.panel(k);
        let parts = [
            // A panel may be written past its end.
            split + 64,
            if packed_a { (SIDE * k + SLACK) * 4 } else { 0 },
            match (half, packed_a) {
                (false, _) => 0,
                (true, true) => SIDE * task[1] * 4,
                (true, false) => task[0] * GROUP.min(all_columns) * 4,
            },
        ];
        Product {
            tiles,
            isa,
            planes,
            m,
            k,
            n,
            batch,
            packed_a,
            task,
            parts: parts.map(|p| p.next_multiple_of(64)),
        }
    }

    /// Whether tiles are likely to be faster than vectors. `packed_a` says which operand is packed in advance, `paired`
    /// whether panels of the other one are mere copies.
    pub fn pays(isa: Isa, planes: Planes, [m, k, n]: [usize; 3], packed_a: bool, paired: bool) -> bool {
        // Three planes take six products, and half as much memory again as numbers: on a Sapphire Rapids, networks in fp32
        // were faster on vectors.
        if planes == Planes::Three {
            return false;
        }
        let blocks = (m.div_ceil(SIDE) * n.div_ceil(SIDE)) as f64;
        // Cycles of a core. A product of tiles takes 16; what is around it was measured.
        let tiles = blocks * (k.div_ceil(DEPTH) * planes.products().len() * 4 * 20 + 350) as f64;
        let split = match (packed_a, paired) {
            (true, true) => 0.12 * (k * n) as f64,
            (true, false) => 0.5 * (k * n) as f64,
            (false, _) => 0.35 * (m * k) as f64,
        };
        let vectors = (m * n * k) as f64 / (2 * isa.lanes()) as f64 / 0.8;
        let pack = 0.12 * if packed_a { k * n } else { m * k } as f64;
        tiles + split < 0.85 * (vectors + pack)
    }

    /// Rows and columns of a task's block, cut until there are enough tasks for the threads.
    fn cut(&self, threads: usize) -> [usize; 2] {
        let Product { m, n, batch, mut task, .. } = *self;
        let count = |t: [usize; 2]| batch * m.div_ceil(t[0]) * n.div_ceil(t[1]);
        let halve = |size: usize| (size / 2).next_multiple_of(SIDE);
        // The side of the packed operand first, down to a few panels: the other one is split again for each part.
        let (first, second) = if self.packed_a { (0, 1) } else { (1, 0) };
        while threads > 1 && count(task) < TASKS * threads {
            if task[first] >= 8 * SIDE {
                task[first] = halve(task[first]);
            } else if task[second] > SIDE {
                task[second] = halve(task[second]);
            } else if task[first] > SIDE {
                task[first] = halve(task[first]);
            } else {
                break;
            }
        }
        task
    }

    /// Bytes of scratch memory that [`run`](Product::run) needs.
    pub fn scratch(&self) -> usize {
        LANES * self.parts.iter().sum::<usize>()
    }

    /// Computes all products.
    ///
    /// # Panics
    /// A buffer is too short for the sizes: a bug of the kernel.
    pub fn run(
        &self,
        pool: &Pool,
        operands: Operands<'_>,
        bias: Bias<'_>,
        out: Output<'_>,
        epilogue: &Epilogue<'_>,
        scratch: &mut [u8],
    ) {
        let Product { m, n, k, batch, planes, .. } = *self;
        if batch * m * n == 0 {
            return;
        }
        // These checks keep all that is reached through pointers inside its slice.
        assert!(out.start + batch * m * n <= out.data.len());
        let panels = |x: usize| x.div_ceil(SIDE) * planes.panel(k);
        match operands {
            Operands::PackedA(a, _) => assert!(self.packed_a && a.len() >= batch * panels(m)),
            Operands::PackedB(_, b) => assert!(!self.packed_a && batch.min(1) * panels(n) <= b.len()),
        }
        match bias {
            Bias::None => {}
            Bias::Rows(x) => assert!(x.len() >= batch * m),
            Bias::Columns(x) => assert!(x.len() >= n),
        }
        let task = self.cut(pool.threads());
        let lane: usize = self.parts.iter().sum();
        let [tasks_m, tasks_n] = [m.div_ceil(task[0]), n.div_ceil(task[1])];
        let tasks = batch * tasks_m * tasks_n;
        let lanes = pool.threads().min(scratch.len() / lane).min(tasks);
        assert!(lanes > 0, "scratch memory for one task at least");
        let next = AtomicUsize::new(0);
        let target = Target::new(out.data);
        pool.for_each_chunk(&mut scratch[..lanes * lane], lane, |_, scratch| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= tasks {
                    return;
                }
                let [row, column] = [i / tasks_n % tasks_m * task[0], i % tasks_n * task[1]];
                let block = Block {
                    batch: i / (tasks_m * tasks_n),
                    row,
                    column,
                    height: (m - row).min(task[0]),
                    width: (n - column).min(task[1]),
                };
                let place = Place { target: &target, start: out.start, bias, epilogue };
                self.block(&block, operands, &place, scratch);
            }
        });
    }

    /// Computes one block of C.
    fn block(&self, block: &Block, operands: Operands<'_>, place: &Place<'_, '_>, scratch: &mut [u8]) {
        let Product { tiles, isa, planes, m, k, n, .. } = *self;
        let Block { batch, row: first_row, column: first_column, height, width } = *block;
        let (split, rest) = scratch.split_at_mut(self.parts[0]);
        let (panel, rest) = rest.split_at_mut(self.parts[1]);
        let staged: &mut [f32] = bytemuck::cast_slice_mut(rest);
        let (bytes, depth) = (planes.panel(k), k.div_ceil(DEPTH));
        let mut sums = Sums([[0.0; SIDE * SIDE]; BLOCKS]);
        match operands {
            Operands::PackedA(a, b) => {
                let panel: &mut [f32] = bytemuck::cast_slice_mut(panel);
                for column in (0..width).step_by(SIDE) {
                    let (first, count) = (first_column + column, SIDE.min(width - column));
                    let own = &mut split[column / SIDE * bytes..];
                    b.split(isa, planes, batch, first, count, own, panel);
                }
                let a = &a[(batch * m.div_ceil(SIDE) + first_row / SIDE) * bytes..];
                for row in (0..height).step_by(SIDE) {
                    let part = Part { row, column: 0, height: SIDE.min(height - row), width };
                    for column in (0..width).step_by(BLOCKS * SIDE) {
                        let blocks = (width - column).div_ceil(SIDE).min(BLOCKS);
                        let own = [&a[row / SIDE * bytes..], &split[column / SIDE * bytes..]];
                        tiles.multiply(planes, depth, own, [0, 1], &mut sums.0[..blocks]);
                        for (i, sums) in sums.0[..blocks].iter().enumerate() {
                            self.store(block, &part, [row, column + i * SIDE], sums, place, staged);
                        }
                    }
                    self.finish(block, &part, place, staged);
                }
            }
            Operands::PackedB(a, b) => {
                for row in (0..height).step_by(SIDE) {
                    let count = SIDE.min(height - row);
                    a.split(isa, planes, batch, first_row + row, count, &mut split[row / SIDE * bytes..]);
                }
                let b = &b[first_column / SIDE * bytes..];
                debug_assert!(first_column + width <= n);
                for group in (0..width).step_by(GROUP) {
                    let part = Part { row: 0, column: group, height, width: GROUP.min(width - group) };
                    for column in (group..group + part.width).step_by(SIDE) {
                        for row in (0..height).step_by(BLOCKS * SIDE) {
                            let blocks = (height - row).div_ceil(SIDE).min(BLOCKS);
                            let own = [&split[row / SIDE * bytes..], &b[column / SIDE * bytes..]];
                            tiles.multiply(planes, depth, own, [1, 0], &mut sums.0[..blocks]);
                            for (i, sums) in sums.0[..blocks].iter().enumerate() {
                                self.store(block, &part, [row + i * SIDE, column], sums, place, staged);
                            }
                        }
                    }
                    self.finish(block, &part, place, staged);
                }
            }
        }
    }

    /// Adds the bias to sums and stores them: in C if nothing is to be done with them, else where `finish` finds them.
    fn store(
        &self,
        block: &Block,
        part: &Part,
        [row, column]: [usize; 2],
        sums: &[f32; SIDE * SIDE],
        place: &Place<'_, '_>,
        staged: &mut [f32],
    ) {
        let Product { m, n, .. } = *self;
        let rows = SIDE.min(part.row + part.height - row);
        let width = SIDE.min(part.column + part.width - column);
        let (c_row, c_column) = (block.row + row, block.column + column);
        let at = place.start + (block.batch * m + c_row) * n + c_column;
        let bias = match place.bias {
            Bias::None => Bias::None,
            Bias::Rows(x) => Bias::Rows(&x[block.batch * m + c_row..][..rows]),
            Bias::Columns(x) => Bias::Columns(&x[c_column..][..width]),
        };
        let (isa, rest) = (self.isa, (sums, [rows, width], bias));
        if !place.target.f32 && !place.epilogue.is_empty() {
            let to = (row - part.row) * part.width + column - part.column;
            let out = &mut staged[to..];
            assert!((rows - 1) * part.width + width <= out.len());
            // SAFETY: the rows are within `staged`.
            unsafe { Store::new(rest, out.as_mut_ptr(), part.width).run(isa) };
            return;
        }
        // SAFETY: these rows of the block are inside the output (see `run`), and no other task touches them.
        unsafe {
            if place.target.f32 {
                Store::new(rest, place.target.row::<f32>(at, 1).as_mut_ptr(), n).run(isa);
            } else {
                Store::new(rest, place.target.row::<f16>(at, 1).as_mut_ptr(), n).run(isa);
            }
        }
    }

    /// Applies the epilogue to a part of a block, and rounds to the element type of C.
    fn finish(&self, block: &Block, part: &Part, place: &Place<'_, '_>, staged: &mut [f32]) {
        let Product { m, n, isa, .. } = *self;
        if place.epilogue.is_empty() {
            return;
        }
        // Whole lines of C follow each other.
        let whole = part.width == n;
        let (lines, len) = if whole { (1, part.height * n) } else { (part.height, part.width) };
        for line in 0..lines {
            let row = block.batch * m + block.row + part.row + line;
            let at = place.start + row * n + block.column + part.column;
            // SAFETY: this line of the block is inside the output (see `run`), and no other task touches it.
            unsafe {
                if place.target.f32 {
                    place.epilogue.apply(at, place.target.row::<f32>(at, len));
                } else {
                    let values = &mut staged[line * part.width..][..len];
                    place.epilogue.apply(at, values);
                    convert::narrow(isa, values, place.target.row::<f16>(at, len));
                }
            }
        }
    }
}

/// A block of C.
struct Block {
    batch: usize,
    row: usize,
    column: usize,
    height: usize,
    width: usize,
}

/// A part of a block, whose results are finished together; `row` and `column` count from the block's.
struct Part {
    row: usize,
    column: usize,
    height: usize,
    width: usize,
}

/// Where results go, and through what.
struct Place<'a, 'b> {
    target: &'a Target,
    start: usize,
    bias: Bias<'a>,
    epilogue: &'a Epilogue<'b>,
}

/// Adds the bias to sums and stores them.
struct Store<'a, T> {
    sums: &'a [f32; SIDE * SIDE],
    size: [usize; 2],
    bias: Bias<'a>,
    out: *mut T,
    stride: usize,
}

/// An element type of C.
trait Kept: Sized {
    /// Stores a vector.
    ///
    /// # Safety
    /// `p` must be valid for writes of `LANES` elements.
    unsafe fn store<S: Simd>(s: S, p: *mut Self, x: S::F);
    /// Rounds one number.
    fn round(x: f32) -> Self;
}

impl Kept for f32 {
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f32, x: S::F) {
        // SAFETY: as the caller vouches.
        unsafe { s.store(p, x) }
    }
    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }
}

impl Kept for f16 {
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f16, x: S::F) {
        // SAFETY: as the caller vouches.
        unsafe { s.store_f16(p, x) }
    }
    #[inline(always)]
    fn round(x: f32) -> f16 {
        f16::from_f32(x)
    }
}

impl<'a, T: Kept> Store<'a, T> {
    /// # Safety
    /// `out` must be valid for writes of as many rows as `size` says, `stride` elements apart, each of as many elements.
    unsafe fn new(
        (sums, size, bias): (&'a [f32; SIDE * SIDE], [usize; 2], Bias<'a>),
        out: *mut T,
        stride: usize,
    ) -> Self {
        assert!(size[0] <= SIDE && size[1] <= SIDE);
        match bias {
            Bias::None => {}
            Bias::Rows(x) => assert!(x.len() >= size[0]),
            Bias::Columns(x) => assert!(x.len() >= size[1]),
        }
        Store { sums, size, bias, out, stride }
    }

    fn run(self, isa: Isa) {
        isa.run(self);
    }
}

impl<T: Kept> Op for Store<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Store { sums, size: [rows, width], bias, out, stride } = self;
        let whole = width / S::LANES * S::LANES;
        for (r, line) in sums.chunks_exact(SIDE).enumerate().take(rows) {
            // SAFETY: the caller of `new` vouched for this row.
            let out = unsafe { out.add(r * stride) };
            for i in (0..whole).step_by(S::LANES) {
                // SAFETY: a vector at `i` is within the line, the bias (see `new`) and the row of the output.
                unsafe {
                    let x = s.load(line.as_ptr().add(i));
                    let x = match bias {
                        Bias::None => x,
                        Bias::Rows(bias) => s.add(x, s.splat(bias[r])),
                        Bias::Columns(bias) => s.add(x, s.load(bias.as_ptr().add(i))),
                    };
                    T::store(s, out.add(i), x);
                }
            }
            for (i, x) in line.iter().enumerate().take(width).skip(whole) {
                let x = match bias {
                    Bias::None => *x,
                    Bias::Rows(bias) => x + bias[r],
                    Bias::Columns(bias) => x + bias[i],
                };
                // SAFETY: the caller of `new` vouched for this element.
                unsafe { out.add(i).write(T::round(x)) };
            }
        }
    }
}
