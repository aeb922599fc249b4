//! The values that names refer to.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// What the names of a model refer to at this point. Later definitions of a name hide earlier ones; those since a
/// [mark](Scope::mark) can be undone, at the end of a nested part.
#[derive(Debug)]
pub(crate) struct Scope<V> {
    names: HashMap<String, V>,
    /// Every definition, with what the name referred to before.
    journal: Vec<(String, Option<V>)>,
}

/// A point in the sequence of definitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(usize);

impl<V> Default for Scope<V> {
    fn default() -> Scope<V> {
        Scope { names: HashMap::new(), journal: Vec::new() }
    }
}

impl<V: Clone> Scope<V> {
    /// Makes a name refer to a value.
    pub fn define(&mut self, name: impl Into<String>, value: V) {
        let name = name.into();
        let old = self.names.insert(name.clone(), value);
        self.journal.push((name, old));
    }

    /// What a name refers to.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, name: &Q) -> Option<&V>
    where
        String: Borrow<Q>,
    {
        self.names.get(name)
    }

    /// Whether a name refers to something.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The present point in the sequence of definitions.
    pub fn mark(&self) -> Mark {
        Mark(self.journal.len())
    }

    /// The names that were defined since a mark, some several times.
    pub fn defined_since(&self, mark: Mark) -> impl Iterator<Item = &str> {
        self.journal[mark.0..].iter().map(|(name, _)| name.as_str())
    }

    /// Undoes the definitions since a mark, and returns them.
    pub fn undo(&mut self, mark: Mark) -> BTreeMap<String, V> {
        let mut given = BTreeMap::new();
        for (name, old) in self.journal.drain(mark.0..).rev() {
            let value = match old {
                Some(old) => self.names.insert(name.clone(), old),
                None => self.names.remove(&name),
            };
            if let Some(value) = value {
                given.entry(name).or_insert(value);
            }
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_undone() {
        let mut scope = Scope::default();
        scope.define("a", 1);
        let mark = scope.mark();
        scope.define("a", 2);
        scope.define("b", 3);
        scope.define("a", 4);
        assert_eq!((scope.get("a"), scope.get("b")), (Some(&4), Some(&3)));
        assert_eq!(scope.defined_since(mark).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert_eq!(scope.undo(mark), [("a".to_owned(), 4), ("b".to_owned(), 3)].into());
        assert_eq!((scope.get("a"), scope.contains("b")), (Some(&1), false));
    }
}
