//! `model.espresso.weights`: a table of numbered blobs.
//!
//! The number of blobs, then for each its number and its length in bytes, then the blobs in the order of the table
//! (`u64`, little-endian). Padding blobs lie between the others, so that these start at multiples of 64.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::Reader;
use crate::proto::quantization_params::QuantizationType;
use crate::proto::{LinearQuantizationParams, QuantizationParams, WeightParams};
use crate::{Error, Result};

/// How many times, on average, layers may use each byte of the file: every use is a copy.
const MAX_USES: u64 = 4;

/// The blobs of a network, by their numbers.
pub(super) struct Blobs {
    blobs: BTreeMap<u64, Bytes>,
    /// How many bytes layers may still copy.
    left: u64,
}

impl Blobs {
    pub fn new(data: Bytes) -> Result<Blobs> {
        let left = (data.len() as u64).saturating_mul(MAX_USES);
        let mut table = Reader(data);
        let count = table.u64()?;
        let entries = count.checked_mul(16).ok_or_else(|| too_many(count))?;
        let mut table = match table.take(entries) {
            Ok(entries) => (Reader(entries), table),
            Err(_) => return Err(too_many(count)),
        };
        let mut blobs = BTreeMap::new();
        for _ in 0..count {
            let (number, len) = (table.0.u64()?, table.0.u64()?);
            let blob = table.1.take(len).map_err(|error| {
                Error::malformed(format!("the blob {number} of {len} bytes is not whole: {error}"))
            })?;
            if blobs.insert(number, blob).is_some() {
                return Err(Error::malformed(format!("there are two blobs {number}")));
            }
        }
        if !table.1.0.is_empty() {
            let message = format!("{} bytes follow after the last blob", table.1.0.len());
            return Err(Error::malformed(message));
        }
        Ok(Blobs { blobs, left })
    }

    /// Reads fp32 numbers.
    pub fn floats(&mut self, number: i64, count: u64) -> Result<Vec<f32>> {
        let bytes = self.bytes(number, count, 4)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// Reads fp32 weights.
    pub fn weights(&mut self, number: i64, count: u64) -> Result<Option<Box<WeightParams>>> {
        let float_value = self.floats(number, count)?;
        Ok(Some(Box::new(WeightParams { float_value, ..WeightParams::default() })))
    }

    /// Reads fp16 weights.
    pub fn half_weights(&mut self, number: i64, count: u64) -> Result<Option<Box<WeightParams>>> {
        let float16_value = self.bytes(number, count, 2)?;
        Ok(Some(Box::new(WeightParams { float16_value, ..WeightParams::default() })))
    }

    /// Reads 8-bit weights, with a scale and a bias for each of `channels`.
    pub fn quantized_weights(
        &mut self,
        [codes, scale, bias]: [i64; 3],
        count: u64,
        channels: u64,
    ) -> Result<Option<Box<WeightParams>>> {
        let raw_value = self.bytes(codes, count, 1)?;
        let (scale, bias) = (self.floats(scale, channels)?, self.floats(bias, channels)?);
        let linear = QuantizationType::LinearQuantization(LinearQuantizationParams { scale, bias });
        let quantization = QuantizationParams { number_of_bits: 8, quantization_type: Some(linear) };
        Ok(Some(Box::new(WeightParams {
            raw_value,
            quantization: Some(quantization),
            ..WeightParams::default()
        })))
    }

    /// Reads `count` elements of `width` bytes. A blob may be longer if the rest is zero: some have spare room.
    fn bytes(&mut self, number: i64, count: u64, width: u64) -> Result<Bytes> {
        let blob = u64::try_from(number).ok().and_then(|number| self.blobs.get(&number));
        let blob =
            blob.ok_or_else(|| Error::malformed(format!("there is no blob {number} in the weights")))?;
        let len = count.checked_mul(width).filter(|&len| len <= blob.len() as u64).ok_or_else(|| {
            Error::malformed(format!(
                "the blob {number} has {} bytes, which are too few for {count} elements of {width}",
                blob.len()
            ))
        })?;
        if len == 0 {
            return Err(Error::malformed("it has weights without elements"));
        }
        self.left = self.left.checked_sub(len).ok_or_else(|| {
            Error::limit(format!("layers use more than {MAX_USES} times what the weights file has"))
        })?;
        let mut used = blob.clone();
        let rest = used.split_off(len as usize);
        if rest.iter().any(|&byte| byte != 0) {
            return Err(Error::malformed(format!(
                "the blob {number} has {} bytes, where {count} elements of {width} are needed",
                blob.len()
            )));
        }
        Ok(used)
    }
}

fn too_many(count: u64) -> Error {
    Error::malformed(format!("a table of {count} blobs is longer than the file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(entries: &[(u64, u64)], data: &[u8]) -> Bytes {
        let mut file = (entries.len() as u64).to_le_bytes().to_vec();
        for (number, len) in entries {
            file.extend(number.to_le_bytes());
            file.extend(len.to_le_bytes());
        }
        file.extend(data);
        file.into()
    }

    fn error<T>(result: Result<T>) -> String {
        result.err().expect("it is damaged").to_string()
    }

    #[test]
    fn blobs_are_found_by_number() {
        let mut data = vec![0; 8];
        data.extend([1.5f32, -2.0, 0.0].iter().flat_map(|x| x.to_le_bytes()));
        data.extend([0x00, 0x3c]);
        let mut blobs = Blobs::new(file(&[(0, 8), (7, 12), (3, 2)], &data)).unwrap();
        assert_eq!(blobs.floats(7, 3).unwrap(), [1.5, -2.0, 0.0]);
        assert_eq!(blobs.floats(7, 2).unwrap(), [1.5, -2.0]);
        let half = blobs.half_weights(3, 1).unwrap().unwrap();
        assert_eq!(&half.float16_value[..], [0x00, 0x3c]);
        let codes = blobs.quantized_weights([3, 7, 7], 2, 3).unwrap().unwrap();
        assert_eq!(&codes.raw_value[..], [0x00, 0x3c]);
    }

    #[test]
    fn lies_are_errors() {
        assert!(error(Blobs::new(Bytes::from_static(b"abc"))).contains("cut off"));
        assert!(error(Blobs::new(file(&[], &[0; 1]))).contains("1 bytes follow"));
        for count in [1, u64::MAX / 16, u64::MAX] {
            let data = Bytes::from(count.to_le_bytes().to_vec());
            assert!(error(Blobs::new(data)).contains("longer than the file"), "{count}");
        }
        for len in [5, u64::MAX] {
            assert!(error(Blobs::new(file(&[(1, len)], &[0; 4]))).contains("not whole"), "{len}");
        }
        assert!(error(Blobs::new(file(&[(1, 0), (1, 4)], &[0; 4]))).contains("two blobs 1"));
        let blobs = || Blobs::new(file(&[(1, 8)], &[1; 8])).unwrap();
        for number in [-1, 0, 2, i64::MAX] {
            assert!(error(blobs().floats(number, 1)).contains("no blob"), "{number}");
        }
        for count in [3, u64::MAX / 4, u64::MAX] {
            assert!(error(blobs().floats(1, count)).contains("too few"), "{count}");
        }
        assert!(error(blobs().floats(1, 1)).contains("where 1 elements of 4 are needed"));
        assert!(error(blobs().floats(1, 0)).contains("without elements"));
    }

    #[test]
    fn one_blob_for_everybody_is_refused() {
        let mut blobs = Blobs::new(file(&[(1, 400)], &[0; 400])).unwrap();
        let uses = (0..).map_while(|_| blobs.floats(1, 100).ok()).count();
        assert_eq!(uses, 4);
        assert!(error(blobs.floats(1, 100)).contains("4 times"));
    }
}
