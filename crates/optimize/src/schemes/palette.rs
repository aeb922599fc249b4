//! Palettes: each element becomes an index into a table of few values.

use half::f16;
use milwright_mil::DType;

use super::linear::{Blocks, Linear};
use super::{cluster, vectors};
use crate::blocks::for_each_run;
use crate::code::{FloatWeight, Scaled, Tables};
use crate::{float_tensor, to_f32};

/// Indices into tables of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Palette {
    /// The bits of an index: 1, 2, 3, 4, 6 or 8. `None`: as few as the distinct values need.
    pub bits: Option<u8>,
    /// Where the values of a table lie.
    pub spread: Spread,
    /// The output channels that share a table. `None`: all.
    pub group: Option<usize>,
    /// The dimension that groups and vectors are along. `None`: that of the output channels.
    pub axis: Option<usize>,
    /// The elements that an index stands for, which are neighbors along the dimension.
    pub vector: usize,
    /// Whether the table is multiplied by a scale for each output channel.
    pub rows: bool,
}

/// Where the values of a table lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spread {
    /// Where the squared error is least.
    KMeans,
    /// At equal distances from the least element to the largest.
    Uniform,
}

impl Palette {
    /// One table of 2^`bits` values, with the least squared error.
    pub const fn new(bits: u8) -> Palette {
        Palette { bits: Some(bits), spread: Spread::KMeans, group: None, axis: None, vector: 1, rows: false }
    }

    /// One table of the values that occur.
    pub const fn unique() -> Palette {
        Palette { bits: None, ..Palette::new(8) }
    }

    /// Returns the tables and indices. Elements whose entry in the mask is false do not count; with vectors, the result
    /// has a mask of the vectors of which any element counts.
    ///
    /// # Errors
    /// The options do not suit the weight.
    pub(crate) fn look_up(
        &self,
        values: &[f32],
        mask: Option<&[bool]>,
        weight: &FloatWeight<'_>,
        has_three_bits: bool,
    ) -> Result<(Tables, Option<Vec<bool>>), String> {
        let shape = weight.shape;
        let layout = self.layout(weight)?;
        let d = self.vector;
        let mut groups: Vec<Group> = (0..layout.groups).map(|g| layout.gather(values, mask, d, g)).collect();
        if self.rows {
            return Ok((self.row_scaled(values, mask, weight, &layout), mask.map(<[bool]>::to_vec)));
        }
        let bits = match self.bits {
            Some(bits) => usize::from(bits),
            None => unique_bits(&groups, d, has_three_bits)?,
        };
        let entries = 1 << bits;
        let mut tables = Vec::with_capacity(layout.groups * entries * d);
        for group in &mut groups {
            let points = &group.points;
            let round = |centers: &[f32]| to_f32(&float_tensor(centers, &[centers.len()], weight.dtype));
            let mut table = if d == 1 {
                let centers = match (self.spread, few(points, entries)) {
                    (Spread::KMeans, Some(all)) => all,
                    (Spread::KMeans, None) => cluster::cluster(points, entries),
                    (Spread::Uniform, _) => nearer(points, entries, weight.dtype),
                };
                // The table is stored in the weight's element type, so indices are chosen after it is rounded.
                let mut centers = round(&centers);
                centers.dedup();
                group.indices = cluster::assign(points, &centers);
                centers
            } else {
                let (centers, indices) = vectors::cluster(points, d, entries, &round);
                group.indices = indices;
                centers
            };
            table.resize(entries * d, 0.0);
            tables.extend(table);
        }
        let mut indices = vec![0; values.len() / d];
        let mut vector_mask = mask.filter(|_| d > 1).map(|_| vec![false; values.len() / d]);
        for (g, group) in groups.iter().enumerate() {
            layout.scatter(group, g, d, &mut indices, vector_mask.as_deref_mut());
        }
        let tables = Tables {
            bits,
            indices,
            vector: d,
            axis: layout.axis.min(shape.len().saturating_sub(1)),
            groups: layout.groups,
            values: tables,
            scaled: None,
        };
        Ok((tables, vector_mask.or_else(|| mask.map(<[bool]>::to_vec))))
    }

    fn layout(&self, weight: &FloatWeight<'_>) -> Result<Layout, String> {
        let shape = weight.shape;
        let is_whole = self.group.is_none() && self.vector == 1 && !self.rows;
        let axis = match (self.axis, weight.output_axis) {
            (Some(axis), _) if axis < shape.len() => axis,
            (Some(axis), _) => return Err(format!("it has no dimension {axis}")),
            (None, Some(axis)) => axis,
            (None, None) if is_whole => 0,
            (None, None) => return Err("its users disagree on where its output channels are".into()),
        };
        let channels = shape[axis];
        let size = self.group.unwrap_or(channels).max(1);
        if !channels.is_multiple_of(size) {
            return Err(format!("{channels} channels are not divisible by groups of {size}"));
        }
        // The channels of each group of a grouped convolution stay together.
        let together = weight.vector_limit.filter(|_| self.axis.is_none()).unwrap_or(channels);
        if !size.is_multiple_of(self.vector) || !together.is_multiple_of(self.vector) {
            let n = size.min(together);
            return Err(format!("{n} channels are not divisible by vectors of {}", self.vector));
        }
        let inner = shape[axis + 1..].iter().product();
        Ok(Layout { outer: shape[..axis].iter().product(), channels, inner, groups: channels / size, axis })
    }

    /// One table times a scale for each channel: each channel is divided by its largest magnitude, and the table is
    /// that of all of them, in which a channel counts by how much its errors are multiplied.
    fn row_scaled(
        &self,
        values: &[f32],
        mask: Option<&[bool]>,
        weight: &FloatWeight<'_>,
        layout: &Layout,
    ) -> Tables {
        let Layout { channels, axis, .. } = *layout;
        let bits = usize::from(self.bits.unwrap_or(8));
        let entries = 1 << bits;
        let mut counts = vec![1; weight.shape.len()];
        counts[axis] = channels;
        let mut scales = vec![0f32; channels];
        for_each_run(weight.shape, &counts, |range, channel, step| {
            for (i, x) in values[range].iter().enumerate() {
                let scale = &mut scales[channel + i * step];
                *scale = scale.max(x.abs());
            }
        });
        scales.iter_mut().filter(|s| **s == 0.0).for_each(|s| *s = 1.0);
        let mut points = Vec::with_capacity(values.len());
        let mut weights = Vec::with_capacity(values.len());
        for_each_run(weight.shape, &counts, |range, channel, step| {
            for (i, at) in range.enumerate() {
                if mask.is_none_or(|m| m[at]) {
                    let scale = scales[channel + i * step];
                    points.push(values[at] / scale);
                    weights.push(f64::from(scale) * f64::from(scale));
                }
            }
        });
        let centers = match self.spread {
            Spread::KMeans => cluster::weighted(&points, &weights, entries),
            Spread::Uniform => uniform(&points, entries),
        };
        let mut tables = Vec::with_capacity(channels * entries);
        for &scale in &scales {
            let row: Vec<f32> = centers.iter().map(|c| c * scale).collect();
            let mut row = to_f32(&float_tensor(&row, &[row.len()], weight.dtype));
            let last = row.last().copied().unwrap_or(0.0);
            row.resize(entries, last);
            tables.extend(row);
        }
        let mut indices = vec![0u8; values.len()];
        for channel in 0..channels {
            let table = &tables[channel * entries..][..entries];
            let borders: Vec<f64> =
                table.windows(2).map(|w| f64::from(w[0]).midpoint(f64::from(w[1]))).collect();
            for o in 0..layout.outer {
                let first = (o * channels + channel) * layout.inner;
                for at in first..first + layout.inner {
                    let x = f64::from(values[at]);
                    indices[at] = borders.partition_point(|b| x > *b) as u8;
                }
            }
        }
        Tables { bits, indices, vector: 1, axis, groups: channels, values: tables, scaled: None }
    }

    /// Makes tables of integers: the result of joining integers and a palette. The integers of each group are clustered. If
    /// channels have scales, each channel has the table of its group, and its own scale.
    ///
    /// # Errors
    /// The scales are not those of channels, or one for all; or the options do not suit integers.
    pub(crate) fn of_integers(&self, scaled: &Scaled, weight: &FloatWeight<'_>) -> Result<Tables, String> {
        if self.vector > 1 || self.rows {
            return Err("a palette of integers has no vectors and no scales of rows".into());
        }
        let along = scaled.counts.iter().position(|&n| n > 1);
        let is_one = |(d, &n): (usize, &usize)| n == 1 || Some(d) == along && n == weight.shape[d];
        let layout = self.layout(weight)?;
        let axis = along.unwrap_or(layout.axis);
        if !scaled.counts.iter().enumerate().all(is_one) || layout.groups > 1 && axis != layout.axis {
            return Err("a palette of integers needs one scale for each channel, or one for all".into());
        }
        let number = |q: u8| if scaled.is_signed() { f32::from(q as i8) } else { f32::from(q) };
        let numbers: Vec<f32> = scaled.data.iter().map(|&q| number(q)).collect();
        // An integer counts by how much the scale of its channel multiplies it.
        let mut weights = vec![0f32; numbers.len()];
        for_each_run(weight.shape, &scaled.counts, |range, block, step| {
            for (i, w) in weights[range].iter_mut().enumerate() {
                *w = scaled.scales[block + i * step];
            }
        });
        let mut groups: Vec<Group> =
            (0..layout.groups).map(|g| layout.gather(&numbers, None, 1, g)).collect();
        let bits = match self.bits {
            Some(bits) => usize::from(bits),
            None => unique_bits(&groups, 1, true)?,
        };
        let entries = 1 << bits;
        let mut indices = vec![0u8; numbers.len()];
        let mut data = Vec::new();
        let channels = if along.is_some() { weight.shape[axis] } else { layout.groups };
        for (g, group) in groups.iter_mut().enumerate() {
            let weights: Vec<f64> =
                layout.gather(&weights, None, 1, g).points.iter().map(|&w| f64::from(w).powi(2)).collect();
            let mut centers = match self.spread {
                Spread::KMeans => cluster::weighted(&group.points, &weights, entries),
                Spread::Uniform => uniform(&group.points, entries),
            };
            centers.iter_mut().for_each(|c| *c = c.round_ties_even());
            centers.dedup();
            group.indices = cluster::assign(&group.points, &centers);
            centers.resize(entries, 0.0);
            let table: Vec<u8> = centers.iter().map(|&c| c as i32 as u8).collect();
            data.extend(table.repeat(channels / layout.groups));
            layout.scatter(group, g, 1, &mut indices, None);
        }
        let mut counts = vec![1; weight.shape.len() + 2];
        counts[axis] = scaled.scales.len();
        let coded = Scaled {
            dtype: scaled.dtype,
            data,
            counts,
            scales: scaled.scales.clone(),
            zeros: scaled.zeros.clone(),
        };
        let mut tables = Tables {
            bits,
            indices,
            vector: 1,
            axis,
            groups: channels,
            values: Vec::new(),
            scaled: Some(coded),
        };
        tables.read_scaled(weight.shape.len(), weight.dtype);
        Ok(tables)
    }
}

impl Tables {
    /// Makes the values of tables integers, with one scale for each table or for all.
    pub(crate) fn quantize(&mut self, linear: &Linear, values: &[f32], weight: &FloatWeight<'_>) {
        let shape = self.table_shape(weight.shape.len());
        let mut counts = vec![1; shape.len()];
        if linear.blocks != Blocks::Tensor {
            counts[self.axis] = self.groups;
        }
        self.scaled = Some(linear.quantize_blocks(&self.values, &shape, counts, weight.dtype));
        self.read_scaled(weight.shape.len(), weight.dtype);
        if self.vector == 1 {
            self.assign_again(values, weight.shape);
        }
    }

    /// Sets the values to what the integers stand for, in the element type.
    fn read_scaled(&mut self, rank: usize, dtype: DType) {
        let Some(scaled) = &self.scaled else { return };
        let values = scaled.decode(&self.table_shape(rank));
        self.values = values
            .into_iter()
            .map(|x| if dtype == DType::Fp16 { f16::from_f32(x).to_f32() } else { x })
            .collect();
    }

    /// Chooses the nearest values again.
    fn assign_again(&mut self, values: &[f32], shape: &[usize]) {
        let entries = 1 << self.bits;
        let inner: usize = shape[self.axis + 1..].iter().product();
        let per_group = shape[self.axis] / self.groups * inner;
        for group in 0..self.groups {
            let table = &self.values[group * entries..][..entries];
            let mut order: Vec<u8> = (0..=255u8).take(entries).collect();
            order.sort_by(|&a, &b| table[usize::from(a)].total_cmp(&table[usize::from(b)]));
            let mut sorted: Vec<f32> = order.iter().map(|&i| table[usize::from(i)]).collect();
            // Of equal values the first is as good as the others.
            order.dedup_by(|a, b| table[usize::from(*a)] == table[usize::from(*b)]);
            sorted.dedup();
            let outer = values.len() / (per_group * self.groups).max(1);
            for o in 0..outer {
                let at = (o * self.groups + group) * per_group;
                let near = cluster::assign(&values[at..at + per_group], &sorted);
                let indices = &mut self.indices[at..at + per_group];
                indices.iter_mut().zip(near).for_each(|(i, n)| *i = order[usize::from(n)]);
            }
        }
    }
}

/// How the channels of a tensor form groups.
struct Layout {
    outer: usize,
    channels: usize,
    inner: usize,
    groups: usize,
    axis: usize,
}

/// The elements or vectors that share a table.
#[derive(Default)]
struct Group {
    points: Vec<f32>,
    /// Whether each point counts, in order; empty if all do.
    counts: Vec<bool>,
    indices: Vec<u8>,
}

impl Layout {
    /// Collects the points of a group, in the order of their indices.
    fn gather(&self, values: &[f32], mask: Option<&[bool]>, d: usize, group: usize) -> Group {
        let size = self.channels / self.groups;
        let run = size * self.inner;
        let mut points = Vec::with_capacity(self.outer * run);
        let mut counts = Vec::new();
        for o in 0..self.outer {
            let start = o * self.channels * self.inner + group * run;
            let values = &values[start..start + run];
            let mask = mask.map(|m| &m[start..start + run]);
            if d == 1 {
                match mask {
                    None => points.extend_from_slice(values),
                    Some(mask) => {
                        points.extend(values.iter().zip(mask).filter(|(_, m)| **m).map(|(v, _)| *v));
                        counts.extend_from_slice(mask);
                    }
                }
                continue;
            }
            for place in 0..size / d {
                for i in 0..self.inner {
                    let at = |v: usize| (place * d + v) * self.inner + i;
                    if let Some(mask) = mask {
                        let any = (0..d).any(|v| mask[at(v)]);
                        counts.push(any);
                        if !any {
                            continue;
                        }
                    }
                    points.extend((0..d).map(|v| values[at(v)]));
                }
            }
        }
        Group { points, counts, indices: Vec::new() }
    }

    /// Puts the indices of a group in their places.
    fn scatter(
        &self,
        group: &Group,
        number: usize,
        d: usize,
        indices: &mut [u8],
        mut mask: Option<&mut [bool]>,
    ) {
        let run = self.channels / self.groups / d * self.inner;
        let (mut given, mut counts) = (group.indices.iter(), group.counts.iter());
        for o in 0..self.outer {
            let start = o * self.channels / d * self.inner + number * run;
            for at in start..start + run {
                if counts.next().is_none_or(|c| *c) {
                    indices[at] = given.next().copied().unwrap_or(0);
                    if let Some(mask) = &mut mask {
                        mask[at] = true;
                    }
                }
            }
        }
    }
}

/// The distinct values in ascending order, if there are at most `most`.
fn few(points: &[f32], most: usize) -> Option<Vec<f32>> {
    let mut found: Vec<f32> = Vec::new();
    let mut last = f32::NAN;
    for &x in points {
        if x == last {
            continue;
        }
        last = x;
        if let Err(at) = found.binary_search_by(|y| y.partial_cmp(&x).expect("all values are finite")) {
            if found.len() == most {
                return None;
            }
            found.insert(at, x);
        }
    }
    Some(found)
}

/// Values at equal distances. In fp16, the distance depends on what is rounded: nothing, the width of the range, or the
/// distance, too. The values that are nearest to the points are the result.
fn nearer(points: &[f32], entries: usize, dtype: DType) -> Vec<f32> {
    let exact = uniform(points, entries);
    let (&[low, ..], &[.., high]) = (&exact[..], &exact[..]) else { return exact };
    if dtype != DType::Fp16 || exact.len() == 1 {
        return exact;
    }
    let step = f16::from_f32(high - low).to_f64() / (entries - 1) as f64;
    let stepped = |step: f64| -> Vec<f32> {
        (0..entries).map(|i| f16::from_f64(f64::from(low) + step * i as f64).to_f32()).collect()
    };
    let error = |table: &Vec<f32>| {
        let mut table = to_f32(&float_tensor(table, &[entries], dtype));
        table.dedup();
        let near = cluster::assign(points, &table);
        points.iter().zip(near).map(|(x, i)| f64::from(x - table[usize::from(i)]).powi(2)).sum::<f64>()
    };
    let tables = [exact, stepped(step), stepped(f16::from_f64(step).to_f64())];
    let finite = tables.into_iter().filter(|t| t.iter().all(|x| x.is_finite()));
    let best = finite.map(|t| (error(&t), t)).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, table)| table).unwrap_or_default()
}

/// Values at equal distances; one if all points are equal.
fn uniform(points: &[f32], entries: usize) -> Vec<f32> {
    let low = points.iter().copied().fold(f32::INFINITY, f32::min);
    let high = points.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if low >= high {
        return vec![if low.is_finite() { low } else { 0.0 }];
    }
    let step = (f64::from(high) - f64::from(low)) / (entries - 1) as f64;
    (0..entries).map(|i| (f64::from(low) + step * i as f64) as f32).collect()
}

/// The bits that the distinct points of each group need.
fn unique_bits(groups: &[Group], d: usize, has_three: bool) -> Result<usize, String> {
    let mut most = 1;
    for group in groups {
        if d == 1 {
            let all = few(&group.points, 256).ok_or("it has more than 256 distinct values")?;
            most = most.max(all.len());
            continue;
        }
        let mut seen = std::collections::HashSet::new();
        for point in group.points.chunks_exact(d) {
            let key: Vec<u32> = point.iter().map(|x| (x + 0.0).to_bits()).collect();
            if seen.insert(key) && seen.len() > 256 {
                return Err("it has more than 256 distinct values".into());
            }
        }
        most = most.max(seen.len());
    }
    let fits = [1, 2, 3, 4, 6, 8].into_iter().filter(|&b| b != 3 || has_three).find(|b| 1 << b >= most);
    Ok(fits.unwrap_or(8))
}
