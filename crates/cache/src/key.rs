//! Keys of entries: hashes of all that an artifact depends on.

use std::fmt;
use std::str::FromStr;

/// The name of an entry: a BLAKE3 hash of everything that the artifact depends on. Shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The raw hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl FromStr for Key {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        // Lower case only, so that each key has exactly one file name.
        let digit = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(ParseKeyError),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(ParseKeyError);
        }
        let mut bytes = [0; 32];
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Ok(Self(bytes))
    }
}

/// The text is not a [`Key`].
#[derive(Debug, thiserror::Error)]
#[error("a cache key is 64 lower-case hexadecimal digits")]
pub struct ParseKeyError;

/// Builds a [`Key`] from named fields.
///
/// Names and values are hashed with their lengths, so that different lists of fields never give the same bytes. The
/// order of the fields matters.
#[derive(Clone, Debug)]
pub struct KeyBuilder(blake3::Hasher);

impl KeyBuilder {
    /// Starts a key for artifacts of one kind, such as `"plan"`.
    pub fn new(kind: &str) -> Self {
        Self(blake3::Hasher::new_derive_key("milwright cache key 1")).field("kind", kind)
    }

    /// Adds something that the artifact depends on.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Returns the key of the fields added so far.
    pub fn finish(&self) -> Key {
        Key(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_together() {
        let key = |fields: &[(&str, &str)]| {
            fields.iter().fold(KeyBuilder::new("k"), |key, (name, value)| key.field(name, value)).finish()
        };
        let all = [
            key(&[]),
            key(&[("a", "bc")]),
            key(&[("ab", "c")]),
            key(&[("a", "b"), ("c", "")]),
            key(&[("a", ""), ("", "bc")]),
            key(&[("c", ""), ("a", "b")]),
            KeyBuilder::new("other").finish(),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(key(&[("a", "bc")]), key(&[("a", "bc")]));
    }

    #[test]
    fn text_form_round_trips() {
        let key = KeyBuilder::new("k").finish();
        assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        for bad in ["", "00", &"g".repeat(64), &"A".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }
}
