//! `model.espresso.shape`: the shape of every tensor of the network, for the inputs' default shapes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::attributes::whole;
use crate::proto::Tensor;
use crate::{Error, Result};

/// Shapes, by the names of their tensors.
pub(super) struct Shapes {
    shapes: BTreeMap<String, Shape>,
    /// Whether tensors have their declared rank. Otherwise all have five dimensions, as in old networks: sequence,
    /// batch, channel, height, width.
    pub exact: bool,
}

/// A shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Sequence, batch, channel, height, width. Sizes outside the rank are 1.
    pub sizes: [u64; 5],
    pub rank: Option<usize>,
}

impl Shapes {
    pub fn new(file: &Map<String, Value>) -> Result<Shapes> {
        let Some(Value::Object(found)) = file.get("layer_shapes") else {
            return Err(Error::malformed("it has no `layer_shapes`"));
        };
        let mut shapes = BTreeMap::new();
        for (name, value) in found {
            let shape = Shape::new(value)
                .map_err(|error| Error::malformed(format!("the shape of `{name}`: {error}")))?;
            shapes.insert(name.clone(), shape);
        }
        let exact = shapes.values().any(|shape| shape.rank.is_some());
        if exact && shapes.values().any(|shape| shape.rank.is_none()) {
            return Err(Error::unsupported("some of the shapes have a rank, and others have none"));
        }
        Ok(Shapes { shapes, exact })
    }

    pub fn of(&self, name: &str) -> Result<&Shape> {
        let shape = self.shapes.get(name);
        shape.ok_or_else(|| Error::malformed(format!("model.espresso.shape has no shape of `{name}`")))
    }
}

impl Shape {
    pub const CHANNEL: usize = 2;
    pub const HEIGHT: usize = 3;
    pub const WIDTH: usize = 4;

    fn new(value: &Value) -> Result<Shape> {
        let Value::Object(value) = value else { return Err(Error::malformed("not an object")) };
        let mut shape = Shape { sizes: [1; 5], rank: None };
        for (key, size) in value {
            let axis = match key.as_str() {
                "_rank" => {
                    let rank = usize::try_from(whole(key, size)?).ok().filter(|rank| (1..=5).contains(rank));
                    shape.rank = Some(rank.ok_or_else(|| Error::malformed("a rank that is not 1 to 5"))?);
                    continue;
                }
                "seq" => 0,
                "n" => 1,
                "k" => Shape::CHANNEL,
                "h" => Shape::HEIGHT,
                "w" => Shape::WIDTH,
                _ => return Err(Error::unsupported(format!("`{key}` has no known meaning"))),
            };
            let size = u64::try_from(whole(key, size)?).ok().filter(|&size| size > 0);
            shape.sizes[axis] = size.ok_or_else(|| Error::malformed(format!("its `{key}` is not a size")))?;
        }
        let before = 5 - shape.rank.unwrap_or(5);
        if shape.sizes[..before].iter().any(|&size| size != 1) {
            return Err(Error::malformed("it has more dimensions than its rank says"));
        }
        Ok(shape)
    }

    /// The sizes within the rank.
    pub fn dimensions(&self) -> &[u64] {
        &self.sizes[5 - self.rank.unwrap_or(5)..]
    }

    /// The shape as a message of the specification.
    pub fn message(&self) -> Tensor {
        let dimensions = self.dimensions();
        Tensor {
            rank: dimensions.len() as u32,
            dim_value: dimensions.iter().map(|&size| size as i64).collect(),
        }
    }
}
