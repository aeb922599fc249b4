//! Weight files against coremltools: `data/weight.bin` was written by `scripts/blob_golden.py` with its own writer.

use std::io::Cursor;

use milwright_formats::ErrorKind;
use milwright_formats::blob::{BlobFile, BlobType, BlobWriter};

const LEN: u64 = 13;
const GOLDEN: &[u8] = include_bytes!("data/weight.bin");

/// The types and values of the script, each value as the low bits of an integer.
fn golden_values() -> Vec<(BlobType, Vec<u32>)> {
    let values = |value: &dyn Fn(i32) -> i64| (0..LEN as i32).map(|i| value(i) as u32).collect::<Vec<_>>();
    vec![
        (BlobType::Float16, values(&|i| (0x3C00 + i).into())),
        (BlobType::Float32, values(&|i| (i as f32 - 6.5).to_bits().into())),
        (BlobType::UInt8, values(&|i| (250 - i).into())),
        (BlobType::Int8, values(&|i| (i - 6).into())),
        (BlobType::Int16, values(&|i| (1000 * (i - 6)).into())),
        (BlobType::UInt16, values(&|i| (5000 * i).into())),
        (BlobType::Int4, values(&|i| (i - 6).into())),
        (BlobType::UInt1, values(&|i| (i * i / 3 % 2).into())),
        (BlobType::UInt2, values(&|i| (i % 4).into())),
        (BlobType::UInt4, values(&|i| i.into())),
        (BlobType::UInt3, values(&|i| (i % 8).into())),
        (BlobType::UInt6, values(&|i| (5 * i).into())),
        (BlobType::Int32, values(&|i| (100_000 * (i - 6)).into())),
        (BlobType::UInt32, values(&|i| 300_000_000 * i64::from(i))),
    ]
}

/// Packs the low bits of each value, least significant first.
fn pack(dtype: BlobType, values: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; dtype.byte_len(values.len() as u64).unwrap() as usize];
    let bits = dtype.bits() as usize;
    for (i, value) in values.iter().enumerate() {
        for bit in (0..bits).filter(|bit| value >> bit & 1 == 1) {
            let at = i * bits + bit;
            bytes[at / 8] |= 1 << (at % 8);
        }
    }
    bytes
}

#[test]
fn reads_what_coremltools_writes() {
    let file = BlobFile::from_bytes(GOLDEN.into()).unwrap();
    let blobs: Vec<_> = file.blobs().map(Result::unwrap).collect();
    assert_eq!(blobs.len(), golden_values().len());
    for ((offset, blob), (dtype, values)) in blobs.iter().zip(golden_values()) {
        assert_eq!((blob.dtype, blob.len), (dtype, LEN));
        assert_eq!(blob.data, pack(dtype, &values), "{dtype:?}");
        assert_eq!(file.blob(*offset).unwrap(), *blob);
    }
}

#[test]
fn writes_what_coremltools_writes() {
    let mut writer = BlobWriter::new(Cursor::new(Vec::new())).unwrap();
    for (dtype, values) in golden_values() {
        writer.append(dtype, LEN, &pack(dtype, &values)).unwrap();
    }
    assert_eq!(writer.finish().unwrap().into_inner(), GOLDEN);
}

#[test]
fn every_type_round_trips() {
    for dtype in BlobType::ALL {
        assert_eq!(BlobType::from_code(dtype.code()), Some(dtype));
        let mut writer = BlobWriter::new(Cursor::new(Vec::new())).unwrap();
        let blobs: Vec<_> = (0..20)
            .map(|len| {
                let data = vec![0xA5; dtype.byte_len(len).unwrap() as usize];
                (writer.append(dtype, len, &data).unwrap(), len, data)
            })
            .collect();
        assert!(writer.append(dtype, 100, &[0]).is_err(), "too little data");
        let file = BlobFile::from_bytes(writer.finish().unwrap().into_inner().into()).unwrap();
        assert_eq!(file.count(), 20);
        for (offset, len, data) in blobs {
            let blob = file.blob(offset).unwrap();
            assert_eq!((blob.dtype, blob.len, &blob.data[..]), (dtype, len, &data[..]));
        }
    }
    assert_eq!((BlobType::from_code(0), BlobType::from_code(18)), (None, None));
}

/// Writers before iOS 18 left all of the metadata after the offset uninitialised; `nmp.mlpackage` is such a file.
#[test]
fn ignores_uninitialised_padding_of_whole_bytes() {
    let mut bytes = GOLDEN.to_vec();
    bytes[64 + 24..64 + 64].fill(0xF0);
    let sound = BlobFile::from_bytes(GOLDEN.into()).unwrap().blob(64).unwrap();
    assert_eq!(BlobFile::from_bytes(bytes.into()).unwrap().blob(64).unwrap(), sound);

    // UInt1, the eighth blob, needs the field: 13 elements in 2 bytes.
    let at = 64 + 7 * 128;
    let mut bytes = GOLDEN.to_vec();
    assert_eq!(bytes[at + 24], 3);
    bytes[at + 24] = 8;
    assert!(BlobFile::from_bytes(bytes.into()).unwrap().blob(at as u64).is_err());
}

#[test]
fn refuses_damage() {
    // Offset of a field, its new value, and what is said about it. The first blob is 13 elements of float16 at 64.
    let cases: [(usize, u64, &str); 9] = [
        (64, 0, "no blob starts there"),
        (68, 99, "unknown element type"),
        (72, u64::MAX, "past the file"),
        (72, 25, "not a whole number"),
        (80, 64, "claims to start"),
        (80, 129, "claims to start"),
        (80, u64::MAX - 3, "past the file"),
        (80, 1 << 40, "past the file"),
        (80, 0, "claims to start"),
    ];
    for (at, value, what) in cases {
        let mut bytes = GOLDEN.to_vec();
        let width = if at < 72 { 4 } else { 8 };
        bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        let error = BlobFile::from_bytes(bytes.into()).unwrap().blob(64).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains(what), "{at}, {value}: {error}");
    }
    let file = BlobFile::from_bytes(GOLDEN.into()).unwrap();
    for offset in [0, 1, 63, 65, 128, GOLDEN.len() as u64, u64::MAX, u64::MAX - 63] {
        assert!(file.blob(offset).is_err(), "{offset}");
    }
    for len in [0, 8, 63] {
        assert!(BlobFile::from_bytes(GOLDEN[..len].into()).is_err(), "{len} bytes");
    }
    let mut many = GOLDEN.to_vec();
    many[3] = 0xFF;
    assert!(BlobFile::from_bytes(many.into()).is_err(), "more blobs than fit");
}
