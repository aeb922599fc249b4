//! Sampling of images at arbitrary positions, for `resample` and `affine`.

/// The value of positions outside an image.
#[derive(Clone, Copy)]
pub(super) enum Padding {
    /// This value.
    Constant(f32),
    /// The nearest element.
    Border,
    /// The image, mirrored at its edge elements.
    Reflection,
    /// The image, mirrored at its outer edges.
    Symmetric,
}

/// How an image is sampled.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub nearest: bool,
    pub padding: Padding,
}

impl Grid {
    /// Samples the image, of width and height `size`, at the position (x, y), which is in elements.
    pub(super) fn sample(&self, image: &[f32], size: [usize; 2], position: [f32; 2]) -> f32 {
        let [x, y] = [0, 1].map(|d| self.inside(position[d], size[d]));
        let pixel = |x: f32, y: f32| {
            let inside = |i: f32, n: usize| i >= 0.0 && i < n as f32;
            match self.padding {
                Padding::Constant(value) if !(inside(x, size[0]) && inside(y, size[1])) => value,
                _ => image[(y as usize).min(size[1] - 1) * size[0] + (x as usize).min(size[0] - 1)],
            }
        };
        if self.nearest {
            return pixel(x.round_ties_even(), y.round_ties_even());
        }
        let (x0, y0) = (x.floor(), y.floor());
        let (u, v) = (x - x0, y - y0);
        let row = |y: f32| {
            // A corner without weight is not read: its value may be infinite or NaN.
            let right = if u > 0.0 { pixel(x0 + 1.0, y) * u } else { 0.0 };
            pixel(x0, y) * (1.0 - u) + right
        };
        let below = if v > 0.0 { row(y0 + 1.0) * v } else { 0.0 };
        row(y0) * (1.0 - v) + below
    }

    /// Moves a position into the image, unless the padding is constant.
    fn inside(&self, x: f32, n: usize) -> f32 {
        let last = n as f32 - 1.0;
        let x = match self.padding {
            // NaN and far-away positions count as outside.
            Padding::Constant(_) => return if x.abs() < 1e9 { x } else { -2.0 },
            Padding::Border => x,
            Padding::Reflection => reflect(x, 0.0, last),
            Padding::Symmetric => reflect(x, -0.5, last + 0.5),
        };
        x.max(0.0).min(last)
    }
}

/// Mirrors a position at two edges until it lies between them.
fn reflect(x: f32, low: f32, high: f32) -> f32 {
    let span = high - low;
    if span <= 0.0 || !x.is_finite() {
        return low;
    }
    let t = (x - low).abs() % (2.0 * span);
    low + t.min(2.0 * span - t)
}
