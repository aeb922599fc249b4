//! Matrix products on tiles: `C[m, n] = A[m, k] · B[k, n]`, row-major C, as [`gemm`](crate::simd::gemm) makes them on
//! vectors. One operand is known in advance, and was put in order; tasks split the other. A task goes through the panels
//! of the former: it splits one, which then stays in the second-level cache beside what the task has of the other
//! operand, while the next one is asked for. Each number of C is summed in the same order, wherever the cuts between
//! tasks are.

use half::f16;
use smallvec::SmallVec;

use super::split::{Columns, Paired, Rows, STEP, expand};
use super::{Call, DEPTH, PANEL, PLANE, Planes, SIDE, Tiles, View};
use crate::Pool;
use crate::chain::Epilogue;
use crate::pool::Shares;
use crate::simd::gemm::{F16, F32, Output, SLACK, Target};
use crate::simd::{Isa, Op, Simd, convert, cut};

/// About how many bytes of panels a task splits for itself: a part of a second-level cache.
const PANEL_BYTES: usize = 512 << 10;
/// The most columns whose results wait for the epilogue together, if a task has many rows.
const GROUP: usize = 512;
/// The most blocks of sums at once: they stay in the nearest cache.
const BLOCKS: usize = 8;
/// The most steps along k for which blocks of sums are computed before the next steps.
const STRETCH: usize = 64;
/// The most tasks that run at the same time: scratch memory is for so many, as in `gemm`.
const LANES: usize = 8;

/// The numbers of an operand that was put in order in advance: see [`split`](super::split).
#[derive(Clone, Copy)]
pub enum Ordered<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
}

/// The operands. The ordered panels of a batch follow each other.
#[derive(Clone, Copy)]
pub enum Operands<'a> {
    /// A is ordered.
    OrderedA(Ordered<'a>, &'a dyn Columns),
    /// A is ordered, and tiles of B are loaded from planes in place.
    InPlace(Ordered<'a>, Paired<'a>),
    /// B is ordered.
    OrderedB(&'a dyn Rows, Ordered<'a>),
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
    ordered_a: bool,
    /// If B is read in place: where the columns are that its lines of positions have.
    spread: Option<Spread>,
    /// How B is read.
    view: View,
    /// Where each step of B starts in its panel, or in its planes, in bytes.
    steps: Vec<usize>,
    /// Rows and columns of a task's block: multiples of `SIDE`.
    task: [usize; 2],
    /// Bytes of scratch memory that a task needs: for a panel of the ordered operand, for what it splits, for a panel
    /// before it is split, and for results.
    parts: [usize; 4],
}

/// Where the columns of C are among the positions of planes: in lines of `line` that start at `starts`.
#[derive(Clone, Debug)]
pub struct Spread {
    /// The columns of a line.
    pub line: usize,
    /// The position at which each line starts; these ascend from zero.
    pub starts: Vec<usize>,
}

impl Spread {
    /// The number of positions.
    fn positions(&self) -> usize {
        self.starts.last().map_or(0, |last| last + self.line)
    }

    /// The columns before a position.
    fn rank(&self, position: usize) -> usize {
        match self.starts.partition_point(|&start| start <= position).checked_sub(1) {
            Some(line) => line * self.line + (position - self.starts[line]).min(self.line),
            None => 0,
        }
    }
}

/// Neighbouring columns of a block of sums, and where they go.
#[derive(Clone, Copy)]
struct Stretch {
    from: usize,
    to: usize,
    len: usize,
}

/// Aligned sums.
#[repr(C, align(64))]
struct Sums([[f32; SIDE * SIDE]; BLOCKS]);

impl Product {
    /// Plans `batch` products of m × k and k × n. `ordered_a` says which operand is ordered in advance, `half` whether C
    /// is in half precision. The steps of a B that is read in place are given by its planes.
    pub fn new(
        (tiles, isa): (Tiles, Isa),
        planes: Planes,
        [m, k, n]: [usize; 3],
        batch: usize,
        ordered_a: bool,
        half: bool,
        in_place: Option<(Spread, &Paired<'_>)>,
    ) -> Product {
        let panel = planes.panel(k);
        let columns = in_place.as_ref().map_or(n, |(spread, _)| spread.positions());
        let [all_rows, all_columns] = [m, columns].map(|x| x.next_multiple_of(SIDE).max(SIDE));
        // Planes have each number once for all kernel offsets.
        let taps = in_place.as_ref().map_or(1, |(_, paired)| paired.taps.len());
        let room = (PANEL_BYTES * taps / panel.max(1)).max(4) * SIDE;
        let task =
            if ordered_a { [all_rows, room.min(all_columns)] } else { [room.min(all_rows), all_columns] };
        let split = if ordered_a { task[1] } else { task[0] } / SIDE * panel;
        let parts = [
            panel,
            // A panel may be written past its end.
            if in_place.is_some() { 0 } else { split + 64 },
            if ordered_a && in_place.is_none() { (SIDE * k + SLACK) * 4 } else { 0 },
            match (half, ordered_a) {
                (false, false) => 0,
                (_, true) => SIDE * (BLOCKS * SIDE).min(task[1]) * 4,
                (true, false) => task[0] * GROUP.min(all_columns) * 4,
            },
        ];
        let (view, steps) = match &in_place {
            None => (PANEL, (0..k.div_ceil(DEPTH)).map(|i| i * planes.count() * PLANE).collect()),
            Some((_, paired)) => paired.steps(planes),
        };
        assert!(steps.len() == k.div_ceil(DEPTH));
        Product {
            tiles,
            isa,
            planes,
            m,
            k,
            n,
            batch,
            ordered_a,
            spread: in_place.map(|(spread, _)| spread),
            view,
            steps,
            task,
            parts: parts.map(|p| p.next_multiple_of(64)),
        }
    }

    /// Whether tiles are likely to be faster than vectors. `ordered_a` says which operand is ordered in advance, `paired`
    /// whether the other one is read in place, or panels of it are mere copies.
    pub fn pays(isa: Isa, planes: Planes, [m, k, n]: [usize; 3], ordered_a: bool, paired: bool) -> bool {
        let blocks = (m.div_ceil(SIDE) * n.div_ceil(SIDE)) as f64;
        let [block, own_number, other_number] = Product::cycles(planes, k);
        let tiles = blocks * block;
        let (own, other) = if ordered_a { (m * k, k * n) } else { (k * n, m * k) };
        let split = own_number * own as f64 + if paired { 0.12 } else { other_number } * other as f64;
        let vectors = (m * n * k) as f64 / (2 * isa.lanes()) as f64 / 0.75;
        let pack = 0.12 * other as f64;
        tiles + split < 0.85 * (vectors + pack)
    }

    /// Cycles of a core for a block of sums, and for splitting a number of the ordered operand and of the other one. A
    /// product of tiles takes 16; what is around it was measured.
    fn cycles(planes: Planes, k: usize) -> [f64; 3] {
        let block = (k.div_ceil(DEPTH) * planes.products().len() * 4 * 20 + 800) as f64;
        let each = planes.count() as f64 * 0.12;
        [block, each, 1.5 * each]
    }

    /// Rows and columns of a task's block, cut for threads.
    fn cut(&self, threads: usize) -> [usize; 2] {
        let Product { planes, m, k, batch, task, .. } = *self;
        let panels = [m, self.columns()].map(|lines| lines.div_ceil(SIDE));
        let [block, own, other] = Product::cycles(planes, k);
        // There is nothing to split if the other operand is read in place.
        let other = if self.spread.is_some() { 0.0 } else { other };
        let split = if self.ordered_a { [own, other] } else { [other, own] }.map(|x| x * (SIDE * k) as f64);
        let cost = |[rows, columns]: [usize; 2]| {
            (rows * columns) as f64 * block + rows as f64 * split[0] + columns as f64 * split[1]
        };
        cut::cut(threads, batch, panels, task.map(|lines| lines / SIDE), cost).map(|panels| panels * SIDE)
    }

    /// The columns that are computed: also those between the lines of a B that is read in place.
    fn columns(&self) -> usize {
        self.spread.as_ref().map_or(self.n, Spread::positions)
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
        let numbers = |lines: usize| lines.div_ceil(SIDE) * k.div_ceil(DEPTH) * STEP;
        match operands {
            Operands::OrderedA(a, _) => {
                assert!(self.ordered_a && self.spread.is_none() && a.len() >= batch * numbers(m));
            }
            Operands::InPlace(a, b) => {
                let spread = self.spread.as_ref();
                let known = spread.is_some_and(|s| s.line == b.line && s.starts == b.starts);
                assert!(known && a.len() >= batch * numbers(m) && b.steps(planes).1 == self.steps);
            }
            Operands::OrderedB(_, b) => assert!(!self.ordered_a && b.len() >= numbers(n)),
        }
        match bias {
            Bias::None => {}
            Bias::Rows(x) => assert!(x.len() >= batch * m),
            Bias::Columns(x) => assert!(x.len() >= n),
        }
        let task = self.cut(pool.threads());
        let lane: usize = self.parts.iter().sum();
        let columns = self.columns();
        let [tasks_m, tasks_n] = [m.div_ceil(task[0]), columns.div_ceil(task[1])];
        let tasks = batch * tasks_m * tasks_n;
        let lanes = pool.threads().min(scratch.len() / lane).min(tasks);
        assert!(lanes > 0, "scratch memory for one task at least");
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
                    width: (columns - column).min(task[1]),
                };
                let place = Place { target: &target, start: out.start, bias, epilogue };
                self.block(&block, operands, &place, scratch);
            }
        });
    }

    /// Computes one block of C.
    fn block(&self, block: &Block, operands: Operands<'_>, place: &Place<'_, '_>, scratch: &mut [u8]) {
        let Product { isa, planes, m, k, .. } = *self;
        let Block { batch, row: first_row, column: first_column, height, width } = *block;
        let (own, rest) = scratch.split_at_mut(self.parts[0]);
        let (split, rest) = rest.split_at_mut(self.parts[1]);
        let (panel, rest) = rest.split_at_mut(self.parts[2]);
        let staged: &mut [f32] = bytemuck::cast_slice_mut(rest);
        let (bytes, numbers) = (planes.panel(k), k.div_ceil(DEPTH) * STEP);
        let mut sums = Sums([[0.0; SIDE * SIDE]; BLOCKS]);
        match operands {
            Operands::OrderedA(a, _) | Operands::InPlace(a, _) => {
                let (b, advance): (&[u8], usize) = match operands {
                    Operands::InPlace(_, b) => (bytemuck::cast_slice(b.group(batch, planes)), SIDE * 4),
                    Operands::OrderedA(_, b) => {
                        let panel: &mut [f32] = bytemuck::cast_slice_mut(panel);
                        for column in (0..width).step_by(SIDE) {
                            let (first, count) = (first_column + column, SIDE.min(width - column));
                            let own = &mut split[column / SIDE * bytes..];
                            b.split(isa, planes, batch, first, count, own, panel);
                        }
                        (split, bytes)
                    }
                    Operands::OrderedB(..) => unreachable!("the outer match"),
                };
                // Planes have the positions of all tasks.
                let skip = if self.spread.is_some() { first_column / SIDE } else { 0 };
                let first_panel = batch * m.div_ceil(SIDE) + first_row / SIDE;
                for row in (0..height).step_by(SIDE) {
                    let part = Part { row, column: 0, height: SIDE.min(height - row), width: 0 };
                    let at = (first_panel + row / SIDE) * numbers;
                    for column in (0..width).step_by(BLOCKS * SIDE) {
                        let count = (width - column).div_ceil(SIDE).min(BLOCKS);
                        let part = Part { column, width: (width - column).min(BLOCKS * SIDE), ..part };
                        let sums = &mut sums.0[..count];
                        let other = &b[(skip + column / SIDE) * advance..];
                        let fresh = column == 0;
                        self.multiply(own, (a, at, fresh), other, advance, sums);
                        for (i, sums) in sums.iter().enumerate() {
                            self.store(block, &part, [row, column + i * SIDE], sums, place, staged);
                        }
                        self.finish(block, &part, place, staged);
                    }
                }
            }
            Operands::OrderedB(a, b) => {
                for row in (0..height).step_by(SIDE) {
                    let count = SIDE.min(height - row);
                    a.split(isa, planes, batch, first_row + row, count, &mut split[row / SIDE * bytes..]);
                }
                for group in (0..width).step_by(GROUP) {
                    let part = Part { row: 0, column: group, height, width: GROUP.min(width - group) };
                    for column in (group..group + part.width).step_by(SIDE) {
                        let at = (first_column + column) / SIDE * numbers;
                        for row in (0..height).step_by(BLOCKS * SIDE) {
                            let count = (height - row).div_ceil(SIDE).min(BLOCKS);
                            let sums = &mut sums.0[..count];
                            self.multiply(own, (b, at, row == 0), &split[row / SIDE * bytes..], bytes, sums);
                            for (i, sums) in sums.iter().enumerate() {
                                self.store(block, &part, [row + i * SIDE, column], sums, place, staged);
                            }
                        }
                    }
                    self.finish(block, &part, place, staged);
                }
            }
        }
    }

    /// Computes blocks of sums: the products of a panel of the ordered operand, whose numbers start at index `at`, with
    /// panels of the `other` one, `advance` bytes apart. If it is `fresh`, splits the former into `own` first, and asks
    /// for the one that follows.
    fn multiply(
        &self,
        own: &mut [u8],
        (ordered, at, fresh): (Ordered<'_>, usize, bool),
        other: &[u8],
        advance: usize,
        sums: &mut [[f32; SIDE * SIDE]],
    ) {
        let Product { isa, planes, ordered_a, .. } = *self;
        let step_bytes = planes.count() * PLANE;
        let blocks = sums.len();
        if self.steps.is_empty() {
            sums.as_flattened_mut().fill(0.0);
        }
        for first in (0..self.steps.len()).step_by(STRETCH) {
            let count = STRETCH.min(self.steps.len() - first);
            let own = &mut own[first * step_bytes..][..count * step_bytes];
            if fresh {
                let at = at + first * STEP;
                match ordered {
                    Ordered::F32(x) => expand(isa, planes, F32(x), at, own),
                    Ordered::F16(x) => expand(isa, planes, F16(x), at, own),
                }
            }
            let (steps, own) = (&self.steps[first..first + count], &*own);
            // What follows the panel is the next one.
            let next = at + (self.steps.len() + first) * STEP;
            let ahead = if fresh { ordered.bytes(next) } else { &[] };
            let lines = if ahead.is_empty() { 0 } else { (STEP * ordered.size() / 64).div_ceil(blocks) };
            let call = Call {
                planes,
                a: if ordered_a { own } else { other },
                b: if ordered_a { other } else { own },
                advance: if ordered_a { [0, advance] } else { [advance, 0] },
                steps,
                view: self.view,
                first: first == 0,
                ahead: (ahead, lines),
            };
            // A panel of the other operand starts with its first step, the part of the ordered one with its own.
            let call = if ordered_a {
                call
            } else {
                Call { a: &other[first * step_bytes..], steps: &self.steps[..count], ..call }
            };
            self.tiles.multiply(&call, sums);
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
        let first = block.column + column;
        let count = SIDE.min(part.column + part.width - column);
        // The stretches of columns, counted from the first one.
        let c_column = self.rank(first);
        let mut stretches: SmallVec<[Stretch; 8]> = SmallVec::new();
        match &self.spread {
            None => stretches.push(Stretch { from: 0, to: 0, len: count }),
            Some(spread) => {
                let line = spread.starts.partition_point(|&start| start <= first).saturating_sub(1);
                for start in &spread.starts[line..] {
                    let (low, high) = (first.max(*start), (first + count).min(start + spread.line));
                    if *start >= first + count {
                        break;
                    }
                    if low < high {
                        stretches.push(Stretch {
                            from: low - first,
                            to: spread.rank(low) - c_column,
                            len: high - low,
                        });
                    }
                }
            }
        }
        let Some(width) = stretches.last().map(|s| s.to + s.len) else { return };
        let c_row = block.row + row;
        let at = place.start + (block.batch * m + c_row) * n + c_column;
        let bias = match place.bias {
            Bias::None => Bias::None,
            Bias::Rows(x) => Bias::Rows(&x[block.batch * m + c_row..][..rows]),
            Bias::Columns(x) => Bias::Columns(&x[c_column..][..width]),
        };
        let (isa, rest) = (self.isa, (sums, &*stretches, rows, bias));
        if self.is_staged(place) {
            let (part_column, part_width) = self.real(block, part);
            let to = (row - part.row) * part_width + c_column - part_column;
            let out = &mut staged[to..];
            assert!((rows - 1) * part_width + width <= out.len());
            // SAFETY: the rows are within `staged`.
            unsafe { Store::new(rest, out.as_mut_ptr(), part_width).run(isa) };
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

    /// Whether results wait for the epilogue outside of C: those that are rounded after it, and lines too short to be
    /// given to it one by one.
    fn is_staged(&self, place: &Place<'_, '_>) -> bool {
        let short = self.ordered_a && place.epilogue.ignores_places();
        !place.epilogue.is_empty() && (!place.target.f32 || short)
    }

    /// The columns of C before one that is computed.
    fn rank(&self, column: usize) -> usize {
        self.spread.as_ref().map_or(column, |spread| spread.rank(column))
    }

    /// The first column of C of a part, and how many there are.
    fn real(&self, block: &Block, part: &Part) -> (usize, usize) {
        let first = self.rank(block.column + part.column);
        (first, self.rank(block.column + part.column + part.width) - first)
    }

    /// Applies the epilogue to a part of a block, and rounds to the element type of C.
    fn finish(&self, block: &Block, part: &Part, place: &Place<'_, '_>, staged: &mut [f32]) {
        let Product { m, n, isa, .. } = *self;
        if place.epilogue.is_empty() {
            return;
        }
        let (column, width) = self.real(block, part);
        // Whole lines of C follow each other.
        let whole = width == n;
        let (lines, len) = if whole { (1, part.height * n) } else { (part.height, width) };
        if len == 0 {
            return;
        }
        let is_staged = self.is_staged(place);
        let at_once = is_staged && place.epilogue.ignores_places();
        if at_once {
            place.epilogue.apply(0, &mut staged[..lines * len]);
        }
        for line in 0..lines {
            let row = block.batch * m + block.row + part.row + line;
            let at = place.start + row * n + column;
            // SAFETY: this line of the block is inside the output (see `run`), and no other task touches it.
            unsafe {
                let values = if is_staged {
                    &mut staged[line * width..][..len]
                } else {
                    place.target.row::<f32>(at, len)
                };
                if !at_once {
                    place.epilogue.apply(at, values);
                }
                if !place.target.f32 {
                    convert::narrow(isa, values, place.target.row::<f16>(at, len));
                } else if is_staged {
                    place.target.row::<f32>(at, len).copy_from_slice(values);
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
    stretches: &'a [Stretch],
    rows: usize,
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
    /// Stores the first `n` elements of a vector.
    ///
    /// # Safety
    /// `p` must be valid for writes of `n` elements, and `n` at most `LANES`.
    unsafe fn store_part<S: Simd>(s: S, p: *mut Self, n: usize, x: S::F);
}

impl Kept for f32 {
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f32, x: S::F) {
        // SAFETY: as the caller vouches.
        unsafe { s.store(p, x) }
    }
    #[inline(always)]
    unsafe fn store_part<S: Simd>(s: S, p: *mut f32, n: usize, x: S::F) {
        // SAFETY: as the caller vouches.
        unsafe { s.store_part(p, n, x) }
    }
}

impl Kept for f16 {
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f16, x: S::F) {
        // SAFETY: as the caller vouches.
        unsafe { s.store_f16(p, x) }
    }
    #[inline(always)]
    unsafe fn store_part<S: Simd>(s: S, p: *mut f16, n: usize, x: S::F) {
        // SAFETY: as the caller vouches.
        unsafe { s.store_part_f16(p, n, x) }
    }
}

impl<'a, T: Kept> Store<'a, T> {
    /// # Safety
    /// `out` must be valid for writes of `rows` rows, `stride` elements apart, each up to the end of the last stretch.
    unsafe fn new(
        (sums, stretches, rows, bias): (&'a [f32; SIDE * SIDE], &'a [Stretch], usize, Bias<'a>),
        out: *mut T,
        stride: usize,
    ) -> Self {
        assert!(rows <= SIDE && stretches.iter().all(|s| s.from + s.len <= SIDE));
        match bias {
            Bias::None => {}
            Bias::Rows(x) => assert!(x.len() >= rows),
            Bias::Columns(x) => assert!(stretches.iter().all(|s| s.to + s.len <= x.len())),
        }
        Store { sums, stretches, rows, bias, out, stride }
    }

    fn run(self, isa: Isa) {
        isa.run(self);
    }
}

impl<T: Kept> Op for Store<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Store { sums, stretches, rows, bias, out, stride } = self;
        for (r, line) in sums.chunks_exact(SIDE).enumerate().take(rows) {
            // SAFETY: the caller of `new` vouched for this row.
            let out = unsafe { out.add(r * stride) };
            for &Stretch { from, to, len } in stretches {
                let whole = len / S::LANES * S::LANES;
                let mut i = 0;
                while i < whole {
                    // SAFETY: a vector at `i` is within the line, the bias (see `new`) and the row of the output.
                    unsafe {
                        let x = s.load(line.as_ptr().add(from + i));
                        let x = match bias {
                            Bias::None => x,
                            Bias::Rows(bias) => s.add(x, s.splat(bias[r])),
                            Bias::Columns(bias) => s.add(x, s.load(bias.as_ptr().add(to + i))),
                        };
                        T::store(s, out.add(to + i), x);
                    }
                    i += S::LANES;
                }
                if i < len {
                    let left = len - i;
                    // SAFETY: as above, for the elements that are left.
                    unsafe {
                        let x = s.load_part(line.as_ptr().add(from + i), left);
                        let x = match bias {
                            Bias::None => x,
                            Bias::Rows(bias) => s.add(x, s.splat(bias[r])),
                            Bias::Columns(bias) => s.add(x, s.load_part(bias.as_ptr().add(to + i), left)),
                        };
                        T::store_part(s, out.add(to + i), left, x);
                    }
                }
            }
        }
    }
}

impl<'a> Ordered<'a> {
    /// How many numbers there are.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks whether an operand is empty")]
    pub fn len(self) -> usize {
        match self {
            Ordered::F32(x) => x.len(),
            Ordered::F16(x) => x.len(),
        }
    }

    /// Bytes of a number.
    fn size(self) -> usize {
        match self {
            Ordered::F32(_) => 4,
            Ordered::F16(_) => 2,
        }
    }

    /// The bytes from a number on; none beyond the last one.
    fn bytes(self, from: usize) -> &'a [u8] {
        match self {
            Ordered::F32(x) => bytemuck::cast_slice(x.get(from..).unwrap_or(&[])),
            Ordered::F16(x) => bytemuck::cast_slice(x.get(from..).unwrap_or(&[])),
        }
    }
}
