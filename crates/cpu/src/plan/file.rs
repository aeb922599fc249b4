//! A plan as bytes: a header, the graph, and the data section, which is used in place.
//!
//! ```text
//! 0   magic "MILWPLAN"
//! 8   format version, u32
//! 12  zero, u32
//! 16  length of the graph, u64
//! 24  checksum of the graph, u64
//! 32  start of the data section, u64 (a multiple of 64)
//! 40  length of the data section, u64
//! 64  the graph, in postcard's encoding
//! ```
//!
//! The checksum detects damage, not tampering: a cache is as trusted as the program that reads it. Even so, every index
//! and range is checked before it is used.

use std::io::{self, Write};

use bytes::Bytes;

use super::{Graph, Plan};
use crate::PlanError;
use crate::memory::{ALIGN, aligned};

const MAGIC: &[u8; 8] = b"MILWPLAN";
const VERSION: u32 = 2;
const HEADER: usize = 64;

impl Plan {
    /// Identifies what a plan depends on besides the model, its input shapes and options: the engine's version and the
    /// machine's CPU features. Cache keys include it.
    pub fn fingerprint() -> String {
        format!(
            "{}/{VERSION} {} {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            crate::features::names().join("+")
        )
    }

    /// Writes the plan.
    ///
    /// # Errors
    /// The writer fails.
    pub fn to_writer(&self, mut w: impl Write) -> io::Result<()> {
        let graph = postcard::to_stdvec(&self.graph).map_err(io::Error::other)?;
        let start = (HEADER + graph.len()).next_multiple_of(ALIGN);
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        for number in [graph.len() as u64, checksum(&graph), start as u64, self.data.len() as u64] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.resize(HEADER, 0);
        w.write_all(&header)?;
        w.write_all(&graph)?;
        w.write_all(&vec![0; start - HEADER - graph.len()])?;
        w.write_all(&self.data)
    }

    /// Reads a plan. The data section is not copied if `bytes` are aligned to 64, as mapped files are.
    ///
    /// # Errors
    /// The bytes are damaged, or another version of the engine wrote them.
    pub fn from_bytes(bytes: Bytes) -> Result<Plan, PlanError> {
        let bad = |what: &str| PlanError(what.to_owned());
        if bytes.len() < HEADER || &bytes[..8] != MAGIC {
            return Err(bad("the header is missing"));
        }
        if bytes[8..12] != VERSION.to_le_bytes() {
            return Err(bad("another version of the engine wrote it"));
        }
        let number = |at: usize| {
            let bytes: [u8; 8] = bytes[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let range = |start: u64, len: u64| {
            let end = usize::try_from(start.checked_add(len)?).ok()?;
            (end <= bytes.len()).then(|| bytes.slice(start as usize..end))
        };
        let graph = range(HEADER as u64, number(16)).ok_or_else(|| bad("it is cut short"))?;
        if checksum(&graph) != number(24) {
            return Err(bad("the checksum does not match"));
        }
        let data = range(number(32), number(40)).ok_or_else(|| bad("it is cut short"))?;
        let graph: Graph = postcard::from_bytes(&graph).map_err(|e| bad(&format!("the graph: {e}")))?;
        Ok(Plan { graph, data: aligned(data, ALIGN) })
    }
}

/// FNV-1a over words of eight bytes.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 32;
    }
    hash
}
