//! Matrix products on tiles: registers of 16 × 16 sums, which Intel's AMX multiplies as a whole.
//!
//! The tiles multiply numbers of 8 significant bits (bfloat16) and add in `f32`. More bits are made of several such
//! numbers: each operand is split into *planes* whose sum it is, exactly. An fp16 number is the sum of two, an fp32
//! number of three. A product of two numbers is then a sum of products of planes, of which the smallest are left out:
//!
//! | planes | products | left out | relative to the product |
//! |---|---|---|---|
//! | 2 (h, l) | hl, lh, hh | ll | at most 2⁻¹⁶ |
//! | 3 (h, m, l) | hl, lh, mm, hm, mh, hh | ml, lm, ll | at most 2⁻²³ + 2⁻³² |
//!
//! so that two planes lose far less than the rounding of a result to fp16, and three about as much as the rounding of
//! one addition in `f32`.
//!
//! Tiles take numbers below 2⁻¹²⁶ as zero, and infinity times a plane that is zero is NaN. Products are therefore made
//! on tiles only if the largest magnitudes of the operands permit it ([`permits`]); others run on vectors.
//!
//! * [`Tiles`] says who multiplies: the machine, or an exact model of it, on which tests run everywhere.
//! * [`split`] packs operands, [`product`] makes the products.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod hardware;
mod model;
pub mod product;
pub mod split;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

/// Who multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A value of this kind exists only where the machine has AMX and the system lets the process use it.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Hardware,
    Model,
}

/// Rows and columns of the block of sums that is computed at once: two tiles by two.
pub const SIDE: usize = 32;
/// Steps along k that a tile holds.
pub const DEPTH: usize = 32;
/// Bytes of a plane of `SIDE` rows (or columns) and `DEPTH` steps: two tiles.
pub const PLANE: usize = SIDE * DEPTH * 2;

/// The planes of each operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planes {
    /// Two: enough for fp16.
    Two,
    /// Three: enough for fp32.
    Three,
}

impl Planes {
    /// How many there are.
    pub const fn count(self) -> usize {
        match self {
            Planes::Two => 2,
            Planes::Three => 3,
        }
    }

    /// The products of planes in a product, in the order in which they are added.
    const fn products(self) -> &'static [[usize; 2]] {
        match self {
            Planes::Two => &[[0, 1], [0, 0], [1, 0]],
            Planes::Three => &[[0, 2], [0, 1], [1, 1], [1, 0], [0, 0], [2, 0]],
        }
    }

    /// Bytes of a panel of `SIDE` rows or columns with `k` steps.
    pub const fn panel(self, k: usize) -> usize {
        k.div_ceil(DEPTH) * self.count() * PLANE
    }
}

impl Tiles {
    /// The model, which is exact and slow.
    pub const MODEL: Tiles = Tiles(Kind::Model);

    /// The machine's tiles, if it has any that the system lets the process use. Asks the system once.
    pub fn detect() -> Option<Tiles> {
        static FOUND: OnceLock<Option<Tiles>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            if hardware::available() {
                return Some(Tiles(Kind::Hardware));
            }
            // Unit tests of kernels run on the model where there are no tiles.
            cfg!(test).then_some(Tiles::MODEL)
        })
    }

    /// The machine's tiles, if it has any, and the model.
    pub fn available() -> Vec<Tiles> {
        Tiles::detect().into_iter().chain([Tiles::MODEL]).collect()
    }

    /// Adds to the sums of blocks, each `SIDE` × `SIDE` and row by row.
    ///
    /// # Panics
    /// A slice is too short: a bug of the caller.
    fn multiply(self, call: &Call<'_>, sums: &mut [[f32; SIDE * SIDE]]) {
        let Some(last) = sums.len().checked_sub(1) else { return };
        let (planes, View { line, second, plane }) = (call.planes.count(), call.view);
        let far = call.steps.iter().max().map_or(0, |step| {
            last * call.advance[1] + step + (planes - 1) * plane + second + (LINES - 1) * line + 64
        });
        assert!(call.a.len() >= last * call.advance[0] + call.steps.len() * planes * PLANE);
        assert!(call.b.len() >= far);
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            // SAFETY: a value of this kind exists only where the machine has tiles; the lengths are checked above.
            Kind::Hardware => unsafe { hardware::multiply(call, sums) },
            Kind::Model => model::multiply(call, sums),
        }
    }
}

/// Lines of a tile.
const LINES: usize = 16;

/// A part of a product: some steps along k of some blocks of sums.
struct Call<'a> {
    planes: Planes,
    /// The operand A of the first block: for each step its planes, each of two tiles.
    a: &'a [u8],
    /// The operand B of the first block.
    b: &'a [u8],
    /// Bytes from the operands of one block to those of the next.
    advance: [usize; 2],
    /// Where each step of B starts, in bytes.
    steps: &'a [usize],
    /// How B lies in memory.
    view: View,
    /// Whether the sums start at zero, instead of from what they hold.
    first: bool,
    /// What will be read soon, and how many lines of it are asked for in each step of each block.
    #[cfg_attr(
        not(all(target_arch = "x86_64", target_os = "linux")),
        expect(dead_code, reason = "the model asks for nothing in advance")
    )]
    ahead: (&'a [u8], usize),
}

/// Where the tiles of a step of an operand B are, in bytes.
#[derive(Clone, Copy, Debug)]
struct View {
    /// From one line of a tile to the next.
    line: usize,
    /// From the first tile to the second.
    second: usize,
    /// From one plane to the next.
    plane: usize,
}

/// The view of a panel.
const PANEL: View = View { line: 64, second: PLANE / 2, plane: PLANE };

/// Whether products with `k` steps of numbers of these largest magnitudes may run on tiles: nothing overflows on the
/// way that would not in exact arithmetic, and what tiles take as zero is below 2⁻²⁴ of the largest possible product.
/// A NaN among the numbers counts as infinity.
pub fn permits(k: usize, largest: [f32; 2]) -> bool {
    const LOW: f32 = 1.0 / (1u128 << 100) as f32;
    let [a, b] = largest;
    let product = f64::from(a) * f64::from(b);
    let zero = a == 0.0 || b == 0.0;
    a < f32::MAX / 4.0
        && b < f32::MAX / 4.0
        && product * (k as f64) < f64::from(f32::MAX) / 4.0
        && (zero || (a > LOW && b > LOW && product > f64::from(LOW)))
}
