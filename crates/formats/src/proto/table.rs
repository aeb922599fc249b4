//! What `layout.rs`, the table of messages, is made of.

/// The layout of a message type.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its fields that are messages or maps, by number.
    pub(crate) fields: &'static [Field],
}

/// A field that is a message or a map.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) holds: Holds,
    /// The message type's index in the table; `None` for a map of numbers or strings.
    pub(crate) message: Option<usize>,
    /// Bytes of memory per element; for a map, of a key with its value.
    pub(crate) size: usize,
}

/// Where a field's value is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Holds {
    /// In the memory of the surrounding message.
    Inline,
    /// In an allocation of its own.
    Boxed,
    /// In a vector.
    List,
    /// In a B-tree.
    Map,
}
