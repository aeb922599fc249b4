//! Lists of named things. A hostile file can declare tens of thousands of inputs, so that looking each of them up from
//! the start of a list would take quadratic time.

use std::ops::Deref;

use serde::{Serialize, Serializer};

use crate::FeatureInfo;

/// A list in declared order, in which an item is found by its name in logarithmic time. It is used like a slice.
///
/// ```
/// use milwright::{InferenceRequest, Tensor};
///
/// let request = InferenceRequest::new().input("x", Tensor::scalar(1f32)).input("y", Tensor::scalar(2f32));
/// assert_eq!(request.inputs().len(), 2);
/// assert_eq!(request.inputs().named("y").unwrap().1, Tensor::scalar(2f32));
/// assert!(request.inputs().named("z").is_none());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NamedList<T> {
    items: Vec<T>,
    /// The places of the items in the order of their names; items of the same name in declared order.
    by_name: Vec<usize>,
}

/// Something with a name.
pub trait Name {
    /// The name.
    fn name(&self) -> &str;
}

impl<T: Name> NamedList<T> {
    /// The first item of this name.
    pub fn named(&self, name: &str) -> Option<&T> {
        self.position(name).map(|at| &self.items[at])
    }

    /// The place of the first item of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        let at = *self.by_name.get(self.lower_bound(name))?;
        (self.items[at].name() == name).then_some(at)
    }

    /// The first item of this name, to be changed except for its name.
    pub(crate) fn named_mut(&mut self, name: &str) -> Option<&mut T> {
        self.position(name).map(|at| &mut self.items[at])
    }

    /// The items, to be changed except for their names.
    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.items.iter_mut()
    }

    /// Puts an item in the place of the one of this name, or at the end.
    pub(crate) fn set(&mut self, item: T) {
        match self.position(item.name()) {
            Some(at) => self.items[at] = item,
            None => {
                self.by_name.insert(self.lower_bound(item.name()), self.items.len());
                self.items.push(item);
            }
        }
    }

    /// How many items have names that come before this one.
    fn lower_bound(&self, name: &str) -> usize {
        self.by_name.partition_point(|&at| self.items[at].name() < name)
    }
}

impl<T: Name> FromIterator<T> for NamedList<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> NamedList<T> {
        let items: Vec<T> = items.into_iter().collect();
        let mut by_name: Vec<usize> = (0..items.len()).collect();
        by_name.sort_by(|&a, &b| items[a].name().cmp(items[b].name()));
        NamedList { items, by_name }
    }
}

impl<T> Default for NamedList<T> {
    fn default() -> NamedList<T> {
        NamedList { items: Vec::new(), by_name: Vec::new() }
    }
}

impl<T> Deref for NamedList<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<'a, T> IntoIterator for &'a NamedList<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<T> IntoIterator for NamedList<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<T: Serialize> Serialize for NamedList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

impl Name for FeatureInfo {
    fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Name for (String, T) {
    fn name(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn items_are_found_by_name_in_declared_order() {
        let item = |name: &str, value: f32| (name.to_owned(), Tensor::scalar(value));
        let mut list: NamedList<_> = ["d", "b", "b", "a"].iter().map(|n| item(n, 0.0)).collect();
        for (name, value) in [("c", 1.0), ("b", 2.0), ("e", 3.0), ("", 4.0)] {
            list.set(item(name, value));
        }
        let names: Vec<&str> = list.iter().map(Name::name).collect();
        assert_eq!(names, ["d", "b", "b", "a", "c", "e", ""]);
        assert_eq!(
            ["", "a", "b", "c", "d", "e", "f"].map(|n| list.position(n)),
            [Some(6), Some(3), Some(1), Some(4), Some(0), Some(5), None]
        );
        assert_eq!(list.named("b"), Some(&item("b", 2.0)));
    }
}
