//! The attributes of a layer. Each attribute is read, or known to have no effect. A layer with any other attribute
//! counts as not understood.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Attributes of every layer that do not affect its result.
const COMMON: [&str; 7] = ["type", "name", "bottom", "top", "debug_info", "weights", "attributes"];
/// The prefix of attributes that choose between ways to compute the same result.
const HINT: &str = "hint_";

pub(super) struct Attributes<'a> {
    map: &'a Map<String, Value>,
    known: HashSet<&'a str>,
}

impl<'a> Attributes<'a> {
    pub fn new(map: &'a Map<String, Value>) -> Attributes<'a> {
        Attributes { map, known: HashSet::new() }
    }

    fn get(&mut self, key: &str) -> Option<&'a Value> {
        let (key, value) = self.map.get_key_value(key)?;
        self.known.insert(key);
        Some(value)
    }

    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Names, separated by commas.
    pub fn names(&mut self, key: &str) -> Result<Vec<&'a str>> {
        let text = self.get(key).and_then(Value::as_str);
        let text = text.ok_or_else(|| Error::malformed(format!("its `{key}` is missing")))?;
        Ok(text.split(',').filter(|name| !name.is_empty()).collect())
    }

    /// An integer; if it is missing, `default`.
    pub fn int_or(&mut self, key: &str, default: i64) -> Result<i64> {
        self.get(key).map_or(Ok(default), |value| whole(key, value))
    }

    pub fn int(&mut self, key: &str) -> Result<i64> {
        let value = self.get(key).ok_or_else(|| Error::malformed(format!("its `{key}` is missing")))?;
        whole(key, value)
    }

    /// A size: at least 1.
    pub fn size(&mut self, key: &str) -> Result<u64> {
        positive(key, self.int(key)?)
    }

    pub fn size_or(&mut self, key: &str, default: i64) -> Result<u64> {
        positive(key, self.int_or(key, default)?)
    }

    /// A number of pixels to add: 0 or more.
    pub fn amount(&mut self, key: &str) -> Result<u64> {
        let n = self.int_or(key, 0)?;
        u64::try_from(n).map_err(|_| Error::malformed(format!("its `{key}` is {n}")))
    }

    pub fn float_or(&mut self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
        number.ok_or_else(|| Error::malformed(format!("its `{key}` is {value}")))
    }

    /// A number that must be present.
    pub fn float(&mut self, key: &str) -> Result<f32> {
        if self.has(key) {
            return self.float_or(key, 0.0);
        }
        Err(Error::malformed(format!("its `{key}` is missing")))
    }

    /// A truth value; if it is missing, `false`.
    pub fn flag(&mut self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(is)) => Ok(*is),
            Some(value) => match whole(key, value)? {
                0 => Ok(false),
                1 => Ok(true),
                n => Err(unknown(key, n)),
            },
        }
    }

    /// Checks that an attribute has one of the values whose meaning is known. The first is the default.
    pub fn is(&mut self, key: &str, values: &[f32]) -> Result<()> {
        let value = match self.get(key) {
            Some(Value::Bool(is)) => f32::from(u8::from(*is)),
            _ => self.float_or(key, values[0])?,
        };
        if values.contains(&value) { Ok(()) } else { Err(unknown(key, value)) }
    }

    /// Checks that all attributes with this prefix are 0.
    pub fn all_zero(&mut self, start: &str) -> Result<()> {
        for (key, value) in self.map.iter().filter(|(key, _)| key.starts_with(start)) {
            self.known.insert(key);
            if whole(key, value)? != 0 {
                return Err(unknown(key, value));
            }
        }
        Ok(())
    }

    /// The numbers of the layer's blobs, each with the purpose that names it.
    pub fn blobs(&self) -> Result<Vec<(&'a str, i64)>> {
        let Some(value) = self.map.get("weights") else { return Ok(Vec::new()) };
        let Value::Object(blobs) = value else {
            return Err(Error::malformed("its `weights` are not an object"));
        };
        blobs.iter().map(|(name, value)| Ok((name.as_str(), whole(name, value)?))).collect()
    }

    /// Checks that every attribute has been read.
    pub fn finish(&self) -> Result<()> {
        let unread = |key: &&String| {
            !self.known.contains(key.as_str()) && !COMMON.contains(&key.as_str()) && !key.starts_with(HINT)
        };
        if let Some(key) = self.map.keys().find(unread) {
            return Err(Error::unsupported(format!("its attribute `{key}` has no known meaning")));
        }
        match self.map.get("attributes") {
            None => Ok(()),
            Some(Value::Object(attributes)) => match attributes.keys().find(|key| *key != "is_output") {
                Some(key) => Err(Error::unsupported(format!("its attribute `{key}` has no known meaning"))),
                None => Ok(()),
            },
            Some(_) => Err(Error::malformed("its `attributes` are not an object")),
        }
    }
}

pub(super) fn unknown(key: &str, value: impl std::fmt::Display) -> Error {
    Error::unsupported(format!("no meaning is known for {value} as its `{key}`"))
}

/// An integer that fits 32 bits: no meaningful one is larger.
pub(super) fn whole(key: &str, value: &Value) -> Result<i64> {
    let number = value.as_i64().or_else(|| {
        let x = value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e15)?;
        Some(x as i64)
    });
    number
        .filter(|n| i32::try_from(*n).is_ok())
        .ok_or_else(|| Error::malformed(format!("its `{key}` is {}", shortened(value))))
}

fn positive(key: &str, n: i64) -> Result<u64> {
    u64::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| Error::malformed(format!("its `{key}` is {n}")))
}

/// A value as text, truncated.
fn shortened(value: &Value) -> String {
    let text = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        value => value.to_string(),
    };
    if text.len() > 40 { "a long text".to_owned() } else { text }
}
