//! The errors of a model's parts.

use crate::Error;

/// The most parts that an error lists.
const MAX_LISTED: usize = 20;

/// The errors of parts that could not be lowered, each with its place.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Error>);

impl Faults {
    /// Adds an error, whose place is set.
    pub fn add(&mut self, error: Error) {
        self.0.push(error);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns one error for all faults, if there are any. `parts` is what the format calls its parts, such as
    /// `layers`.
    pub fn check(&mut self, parts: &str) -> Result<(), Error> {
        let count = self.0.len();
        if count <= 1 {
            return self.0.pop().map_or(Ok(()), Err);
        }
        let mut texts: Vec<String> = self.0.iter().take(MAX_LISTED).map(ToString::to_string).collect();
        if count > MAX_LISTED {
            texts.push(format!("and {} more", count - MAX_LISTED));
        }
        let hint = self.0.iter().find_map(|e| e.hint().map(str::to_owned));
        let error = Error::unsupported(format!("{count} {parts} cannot be run:\n  {}", texts.join("\n  ")));
        Err(match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }
}
