//! Preparation of features: scaling, encoding, choosing.

use milwright_mil::OpKind::*;
use milwright_mil::ValueId;

use super::super::compose::{V, one};
use super::super::elem::Elem;
use super::super::node::Node;
use super::FLOAT;
use crate::Error;
use crate::lower::{Lowering, Result, op};

/// (x - offset) · scale
pub(in super::super) fn scaler(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.value(0)?;
    let mut y = n.float_of(x)?;
    let offset = n.floats("offset")?.unwrap_or_default().to_vec();
    let scale = n.floats("scale")?.unwrap_or_default().to_vec();
    if !offset.is_empty() {
        let offset = n.float_tensor(&[offset.len()], offset, FLOAT)?;
        y = n.sub(y, offset)?;
    }
    if !scale.is_empty() {
        let scale = n.float_tensor(&[scale.len()], scale, FLOAT)?;
        y = n.mul(y, scale)?;
    }
    one(y, Elem::Float)
}

/// Each row divided by its norm.
pub(in super::super) fn normalizer(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.value(0)?;
    let x = n.float_of(x)?;
    let last = n.rank(x)?.checked_sub(1).ok_or_else(|| Error::malformed("a row without elements"))?;
    let norm = match n.text_or("norm", "MAX")? {
        "MAX" => {
            let a = n.un(Abs, x)?;
            n.reduce(ReduceMax, a, &[last], true)?
        }
        "L1" => {
            let a = n.un(Abs, x)?;
            n.sum(a, &[last], true)?
        }
        "L2" => {
            let square = n.mul(x, x)?;
            let sum = n.sum(square, &[last], true)?;
            n.un(Sqrt, sum)?
        }
        other => return Err(Error::malformed(format!("the norm `{other}`"))),
    };
    let zero = n.equal(norm, 0.0)?;
    let norm = n.select(zero, 1.0, norm)?;
    let y = n.div(x, norm)?;
    one(y, Elem::Float)
}

/// Whether x is above the threshold, in the type of x.
pub(in super::super) fn binarizer(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let threshold = f64::from(n.float_or("threshold", 0.0)?);
    let real = n.float_of(x.id)?;
    let above = n.greater(real, threshold)?;
    let y = n.cast(above, x.elem.carried()?)?;
    one(y, x.elem)
}

/// Replaces one value, by default NaN, by a number for each feature.
pub(in super::super) fn imputer(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    if let Some(values) = n.floats("imputed_value_floats")?.filter(|v| !v.is_empty()) {
        let dtype = n.dtype(x.id)?;
        let values = n.float_tensor(&[values.len()], values.to_vec(), dtype)?;
        let replaced = f64::from(n.float_or("replaced_value_float", 0.0)?);
        let hit = if replaced.is_nan() { n.not_equal(x.id, x.id)? } else { n.equal(x.id, replaced)? };
        let y = n.select(hit, values, x.id)?;
        return one(y, x.elem);
    }
    let values = n.ints("imputed_value_int64s")?.filter(|v| !v.is_empty());
    let values = values.ok_or_else(|| Error::malformed("no values to impute"))?;
    let values = narrow(values)?;
    let values = n.int_vector(&values);
    let replaced = n.int_or("replaced_value_int64", 0)?;
    let hit = n.equal(x.id, replaced as f64)?;
    let y = n.select(hit, values, x.id)?;
    one(y, x.elem)
}

fn narrow(values: &[i64]) -> Result<Vec<i32>> {
    let all: Option<Vec<i32>> = values.iter().map(|&v| i32::try_from(v).ok()).collect();
    all.ok_or_else(|| {
        Error::unsupported("integers beyond int32")
            .with_hint("Core ML computes with int32: use smaller numbers")
    })
}

/// A dictionary from class to probability for each sample: the probabilities stay an array, with a column for each class.
pub(in super::super) fn zip_map(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let ints = n.ints("classlabels_int64s")?.unwrap_or_default();
    let strings = n.texts("classlabels_strings")?.unwrap_or_default();
    let classes: Vec<String> = match strings.is_empty() {
        true => ints.iter().map(i64::to_string).collect(),
        false => strings.iter().map(|s| format!("{s:?}")).collect(),
    };
    let name = n.proto.output.first().cloned().unwrap_or_default();
    n.note(format!(
        "`{name}` is an array with a column for each class, not a list of dictionaries; the classes are {}",
        classes.join(", ")
    ));
    one(x.id, x.elem)
}

/// Rows of features side by side.
pub(in super::super) fn feature_vectorizer(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    // Given for readers; the inputs say it, too.
    n.ints("inputdimensions")?;
    let mut parts = Vec::new();
    for x in n.values()? {
        let x = n.float_of(x)?;
        parts.push(if n.rank(x)? == 1 { n.expand_dims(x, &[1])? } else { x });
    }
    let y = n.concat(parts, 1)?;
    one(y, Elem::Float)
}

/// Chosen elements of the last dimension.
pub(in super::super) fn array_feature_extractor(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, places) = (n.need(0)?, n.need(1)?);
    if x.elem == Elem::String {
        return Err(Error::unsupported("strings").with_hint(super::super::cast::STRINGS));
    }
    let data = if n.rank(x.id)? == 1 { n.expand_dims(x.id, &[0])? } else { x.id };
    let places = n.as_vector(places.id)?;
    let last = n.rank(data)? - 1;
    let y = n.gather(data, places, last)?;
    one(y, x.elem)
}

/// A one for the category that a number is, in a new last dimension.
pub(in super::super) fn one_hot_encoder(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let Some(categories) = n.ints("cats_int64s")?.filter(|c| !c.is_empty()) else {
        return Err(Error::unsupported("categories that are strings").with_hint(super::super::cast::STRINGS));
    };
    if !n.flag("zeros", true)? {
        n.note("OneHotEncoder makes zeros of unknown categories instead of failing");
    }
    let categories = narrow(categories)?;
    let whole = n.int_of(x.id)?;
    let rank = n.rank(whole)? as i32;
    let whole = n.expand_dims(whole, &[rank])?;
    let categories = n.int_vector(&categories);
    let hit = n.equal(whole, categories)?;
    let y = n.float_of(hit)?;
    one(y, Elem::Float)
}

/// Keys and values of a label encoder, and what other keys become.
struct Table {
    keys: Vec<f64>,
    values: Vec<f64>,
    default: f64,
    elem: Elem,
}

/// Maps numbers to numbers; what is no key becomes the default.
pub(in super::super) fn label_encoder(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let table = label_table(n)?;
    let integers = !n.dtype(x.id)?.is_float();
    let y = look_up(n, x.id, &table, integers)?;
    one(y, table.elem)
}

fn label_table(n: &mut Node<'_, '_>) -> Result<Table> {
    let strings =
        || Err(Error::unsupported("labels that are strings").with_hint(super::super::cast::STRINGS));
    if ["keys_strings", "values_strings", "classes_strings"].iter().any(|a| n.has_attribute(a)) {
        return strings();
    }
    let keys: Vec<f64> = if let Some(keys) = n.ints("keys_int64s")? {
        keys.iter().map(|&k| k as f64).collect()
    } else if let Some(keys) = n.floats("keys_floats")? {
        keys.iter().map(|&k| f64::from(k)).collect()
    } else if let Some(keys) = n.tensor("keys_tensor")? {
        if keys.elem == Elem::String {
            return strings();
        }
        keys.numbers()
    } else {
        return Err(Error::malformed("there are no keys"));
    };
    let (values, elem): (Vec<f64>, Elem) = if let Some(values) = n.ints("values_int64s")? {
        (values.iter().map(|&v| v as f64).collect(), Elem::Int64)
    } else if let Some(values) = n.floats("values_floats")? {
        (values.iter().map(|&v| f64::from(v)).collect(), Elem::Float)
    } else if let Some(values) = n.tensor("values_tensor")? {
        if values.elem == Elem::String {
            return strings();
        }
        (values.numbers(), values.elem)
    } else {
        return Err(Error::malformed("there are no values"));
    };
    let default = if let Some(default) = n.tensor("default_tensor")? {
        default.numbers().first().copied().unwrap_or(0.0)
    } else if elem.is_float() {
        f64::from(n.float_or("default_float", -0.0)?)
    } else {
        n.int_or("default_int64", -1)? as f64
    };
    if keys.len() != values.len() || keys.is_empty() {
        return Err(Error::malformed(format!("{} keys for {} values", keys.len(), values.len())));
    }
    Ok(Table { keys, values, default, elem })
}

fn look_up(n: &mut Lowering, x: ValueId, table: &Table, integers: bool) -> Result<ValueId> {
    let rank = n.rank(x)?;
    if rank > 4 {
        return Err(Error::unsupported("labels of rank 5"));
    }
    let dtype = n.dtype(x)?;
    let wide = n.expand_dims(x, &[rank as i32])?;
    let count = table.keys.len();
    let keys = if integers {
        let keys: Vec<i64> = table.keys.iter().map(|&k| k as i64).collect();
        let keys = narrow(&keys)?;
        n.int_vector(&keys)
    } else {
        n.float_tensor(&[count], table.keys.iter().map(|&k| k as f32).collect(), dtype)?
    };
    let mut hit = n.equal(wide, keys)?;
    if table.keys.iter().any(|k| k.is_nan()) {
        let nan_key = n.not_equal(keys, keys)?;
        let nan = n.not_equal(wide, wide)?;
        let both = n.and(nan, nan_key)?;
        hit = n.or(hit, both)?;
    }
    let hit = n.cast(hit, milwright_mil::DType::Int32)?;
    let found = n.reduce(ReduceMax, hit, &[rank], false)?;
    let place = op!(n, ReduceArgmax, x = hit, axis = rank as i32, keep_dims = false)?;
    let found = n.bool_of(found)?;
    let carrier = table.elem.carried()?;
    let values = if carrier.is_float() {
        n.float_tensor(&[count], table.values.iter().map(|&v| v as f32).collect(), carrier)?
    } else {
        let values: Vec<i64> = table.values.iter().map(|&v| v as i64).collect();
        let values = narrow(&values)?;
        n.int_vector(&values)
    };
    let y = n.gather(values, place, 0)?;
    n.select_as(found, y, table.default, carrier)
}
