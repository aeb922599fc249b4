//! Estimates the memory of a message before it is decoded.
//!
//! An empty message is two bytes in a file and hundreds in memory; a map with one entry takes kilobytes. No real model
//! is like that. This module walks over the bytes as the decoder would, allocates nothing, and refuses a message whose
//! memory is out of proportion to its size.

use crate::limits::{MAX_MEMORY_PER_BYTE, MAX_MESSAGE_DEPTH, MIN_MEMORY};
use crate::proto::table::{Holds, Message};
use crate::{Error, Result};

/// A growing vector exists twice for a while, and the new one has twice the capacity.
const GROWTH: usize = 3;
/// Keys in a full node of a B-tree, and in a node that has just been split.
const NODE: usize = 11;
const SPLIT_NODE: usize = 5;

/// Refuses a serialized message whose decoded form would take more memory than [`MAX_MEMORY_PER_BYTE`] allows. The
/// decoder reports damaged bytes; the walk stops where it would. `table` has the messages of the format.
pub(crate) fn check(data: &[u8], table: &'static [Message], message: usize) -> Result<()> {
    let limit = data.len().saturating_mul(MAX_MEMORY_PER_BYTE).max(MIN_MEMORY);
    let mut walk = Walk { table, left: limit };
    match walk.message(data, message, 0) {
        Err(Stop::TooMuch) => Err(Error::limit(format!(
            "{} bytes of messages would take more than {limit} bytes of memory: most of them are empty",
            data.len()
        ))
        .with_hint("a model that was made by a converter does not: this file is damaged or made to harm")),
        Ok(()) | Err(Stop::Damaged) => Ok(()),
    }
}

/// Why a walk ended early.
enum Stop {
    TooMuch,
    Damaged,
}

struct Walk {
    table: &'static [Message],
    /// Bytes of memory that are left.
    left: usize,
}

impl Walk {
    fn take(&mut self, bytes: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(bytes).ok_or(Stop::TooMuch)?;
        Ok(())
    }

    fn message(&mut self, mut data: &[u8], message: usize, depth: usize) -> Result<(), Stop> {
        if depth > MAX_MESSAGE_DEPTH {
            return Err(Stop::Damaged);
        }
        let fields = self.table[message].fields;
        // No message has more maps.
        let mut entries = [0usize; 4];
        while !data.is_empty() {
            let (number, wire) = key(&mut data)?;
            let Some(content) = value(&mut data, number, wire, depth)? else { continue };
            let Ok(at) = fields.binary_search_by_key(&number, |field| field.number) else { continue };
            let field = &fields[at];
            match field.holds {
                Holds::Inline => {}
                Holds::Boxed => self.take(field.size)?,
                Holds::List => self.take(GROWTH * field.size)?,
                Holds::Map => {
                    let map = fields[..at].iter().filter(|field| field.holds == Holds::Map).count();
                    let count = &mut entries[map.min(3)];
                    if *count % SPLIT_NODE == 0 {
                        self.take(NODE * field.size)?;
                    }
                    *count += 1;
                }
            }
            match (field.holds, field.message) {
                (Holds::Map, Some(message)) => self.entry(content, message, depth + 1)?,
                (_, Some(message)) => self.message(content, message, depth + 1)?,
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Walks over a map entry: a message of its key (1) and its value (2).
    fn entry(&mut self, mut data: &[u8], message: usize, depth: usize) -> Result<(), Stop> {
        while !data.is_empty() {
            let (number, wire) = key(&mut data)?;
            if let Some(content) = value(&mut data, number, wire, depth)?
                && number == 2
            {
                self.message(content, message, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn key(data: &mut &[u8]) -> Result<(u32, u8), Stop> {
    let key = u32::try_from(varint(data)?).map_err(|_| Stop::Damaged)?;
    Ok((key >> 3, (key & 7) as u8))
}

/// Takes a value from the front. Returns its content if it has a length.
fn value<'a>(data: &mut &'a [u8], number: u32, wire: u8, depth: usize) -> Result<Option<&'a [u8]>, Stop> {
    match wire {
        0 => varint(data).map(|_| None),
        1 => split(data, 8).map(|_| None),
        2 => {
            let len = usize::try_from(varint(data)?).map_err(|_| Stop::Damaged)?;
            split(data, len).map(Some)
        }
        // A group: no message of Core ML has any, and the decoder skips it.
        3 if depth < MAX_MESSAGE_DEPTH => loop {
            let (inner, wire) = key(data)?;
            if wire == 4 {
                return if inner == number { Ok(None) } else { Err(Stop::Damaged) };
            }
            value(data, inner, wire, depth + 1)?;
        },
        5 => split(data, 4).map(|_| None),
        _ => Err(Stop::Damaged),
    }
}

fn split<'a>(data: &mut &'a [u8], len: usize) -> Result<&'a [u8], Stop> {
    let (first, rest) = data.split_at_checked(len).ok_or(Stop::Damaged)?;
    *data = rest;
    Ok(first)
}

fn varint(data: &mut &[u8]) -> Result<u64, Stop> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = data.split_first().ok_or(Stop::Damaged)?;
        *data = rest;
        number |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Stop::Damaged)
}

#[cfg(test)]
mod tests {
    use crate::proto::layout::MESSAGES;
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::proto::layout::{MODEL, MODEL_DESCRIPTION};
    use crate::{ErrorKind, Package};

    fn field(number: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        bytes.extend(content);
        bytes
    }

    /// For each message type, a shortest path of field numbers that leads to it from a model.
    fn ways() -> BTreeMap<usize, Vec<(u32, Holds)>> {
        let mut ways = BTreeMap::from([(MODEL, Vec::new())]);
        let mut next = std::collections::VecDeque::from([MODEL]);
        while let Some(message) = next.pop_front() {
            let way = ways[&message].clone();
            for field in MESSAGES[message].fields {
                if let Some(inner) = field.message.filter(|inner| !ways.contains_key(inner)) {
                    let mut way = way.clone();
                    way.push((field.number, field.holds));
                    ways.insert(inner, way);
                    next.push_back(inner);
                }
            }
        }
        ways
    }

    /// Puts empty messages into each field that holds messages; those beyond the memory limit must be refused.
    #[test]
    fn floods_of_empty_messages() {
        let ways = ways();
        assert!(ways.len() > 250 && ways.contains_key(&MODEL_DESCRIPTION));
        let mut refused = 0;
        for (message, way) in &ways {
            for inner in MESSAGES[*message].fields {
                let mut flood = field(inner.number, &[]).repeat(1 << 15);
                let memory = match inner.holds {
                    Holds::List => (GROWTH * inner.size) << 15,
                    // They merge into one.
                    Holds::Inline | Holds::Boxed | Holds::Map => 0,
                };
                for (number, holds) in way.iter().rev() {
                    let content = if *holds == Holds::Map { field(2, &flood) } else { flood };
                    flood = field(*number, &content);
                }
                let result = check(&flood, &MESSAGES, MODEL);
                if memory > flood.len() * MAX_MEMORY_PER_BYTE {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::LimitExceeded);
                    refused += 1;
                }
            }
        }
        assert!(refused > 20, "{refused}");
    }

    #[test]
    fn damage_is_left_to_the_decoder() {
        for bytes in [&b"\xff"[..], b"\x0b", b"\x0b\x0b\x0c\x0c", b"\x12\x7f", &[0x0b; 100_000]] {
            assert!(check(bytes, &MESSAGES, MODEL).is_ok());
            assert!(Package::from_bytes(Bytes::copy_from_slice(bytes), &BTreeMap::new()).is_err());
        }
    }
}
