//! NumPy's `.npy` files.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use half::f16;
use npyz::{NpyFile, TypeChar, WriterBuilder};

use crate::{DType, Error, Result, Tensor};

/// Reads a tensor. Floats, integers and bools of any byte order come in as they are; NumPy's strings are not read.
///
/// # Errors
/// The file cannot be read, is damaged, or has another element type.
pub fn read(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let available = file.metadata().map_err(|e| Error::io("open", path, e))?.len();
    let npy = NpyFile::new(BufReader::new(file)).map_err(|e| damaged(path, &e))?;
    let npyz::DType::Plain(ty) = npy.dtype() else {
        return Err(Error::invalid("its elements are records, not numbers").at(path));
    };
    let dims: Option<Vec<usize>> = npy.shape().iter().map(|&n| usize::try_from(n).ok()).collect();
    let bytes =
        dims.as_ref().and_then(|d| d.iter().try_fold(ty.size_field(), |n, &d| n.checked_mul(d as u64)));
    // The header may claim anything: what the file does not hold is not allocated.
    let (Some(dims), Some(_)) = (dims, bytes.filter(|&n| n <= available)) else {
        return Err(Error::invalid("it is shorter than its header says").at(path));
    };
    let fortran = npy.order() == npyz::Order::Fortran;
    let tensor = match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 2) => Tensor::from_vec(&dims, values::<f16>(npy, path)?),
        (TypeChar::Float, 4) => Tensor::from_vec(&dims, values::<f32>(npy, path)?),
        (TypeChar::Float, 8) => Tensor::from_vec(&dims, values::<f64>(npy, path)?),
        (TypeChar::Int, 1) => Tensor::from_vec(&dims, values::<i8>(npy, path)?),
        (TypeChar::Int, 2) => Tensor::from_vec(&dims, values::<i16>(npy, path)?),
        (TypeChar::Int, 4) => Tensor::from_vec(&dims, values::<i32>(npy, path)?),
        (TypeChar::Int, 8) => Tensor::from_vec(&dims, values::<i64>(npy, path)?),
        (TypeChar::Uint, 1) => Tensor::from_vec(&dims, values::<u8>(npy, path)?),
        (TypeChar::Uint, 2) => Tensor::from_vec(&dims, values::<u16>(npy, path)?),
        (TypeChar::Uint, 4) => Tensor::from_vec(&dims, values::<u32>(npy, path)?),
        (TypeChar::Uint, 8) => Tensor::from_vec(&dims, values::<u64>(npy, path)?),
        (TypeChar::Bool, 1) => Tensor::from_bools(&dims, &values::<bool>(npy, path)?),
        _ => return Err(Error::invalid(format!("its element type {ty} is not a number")).at(path)),
    };
    let tensor = tensor.map_err(|e| Error::invalid(e.to_string()).at(path))?;
    if fortran && dims.len() > 1 {
        return Err(Error::invalid("it is in Fortran order")
            .with_hint("save it with numpy.ascontiguousarray(a)")
            .at(path));
    }
    Ok(tensor)
}

fn values<T: npyz::Deserialize>(npy: NpyFile<BufReader<File>>, path: &Path) -> Result<Vec<T>> {
    npy.into_vec().map_err(|e| damaged(path, &e))
}

fn damaged(path: &Path, e: &std::io::Error) -> Error {
    Error::invalid(format!("not a .npy file, or a damaged one: {e}")).at(path)
}

/// Writes a tensor: under a temporary name first, so that an existing file is replaced whole or not at all. Strings
/// become NumPy's fixed-width strings, element types that NumPy lacks the next larger one.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: impl AsRef<Path>, tensor: &Tensor) -> Result<()> {
    let path = path.as_ref();
    let io = |e| Error::io("write", path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".milwright-").tempfile_in(folder).map_err(io)?;
    let mut out = BufWriter::new(file);
    write_to(&mut out, tensor).map_err(io)?;
    let file = out.into_inner().map_err(|e| io(e.into_error()))?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

fn write_to(out: &mut impl Write, tensor: &Tensor) -> std::io::Result<()> {
    fn all<T: npyz::AutoSerialize + milwright_mil::Element>(
        out: &mut impl Write,
        t: &Tensor,
    ) -> std::io::Result<()> {
        extend(out, t, t.to_vec::<T>().expect("the element type was matched"))
    }
    fn extend<T: npyz::AutoSerialize>(out: &mut impl Write, t: &Tensor, v: Vec<T>) -> std::io::Result<()> {
        let shape: Vec<u64> = t.shape().iter().map(|&n| n as u64).collect();
        let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(out).begin_nd()?;
        writer.extend(v)?;
        writer.finish()
    }
    match tensor.dtype() {
        DType::Fp16 => all::<f16>(out, tensor),
        DType::Fp32 => all::<f32>(out, tensor),
        DType::Fp64 => all::<f64>(out, tensor),
        DType::Int8 => all::<i8>(out, tensor),
        DType::Int16 => all::<i16>(out, tensor),
        DType::Int32 => all::<i32>(out, tensor),
        DType::Int64 => all::<i64>(out, tensor),
        DType::UInt8 => all::<u8>(out, tensor),
        DType::UInt16 => all::<u16>(out, tensor),
        DType::UInt32 => all::<u32>(out, tensor),
        DType::UInt64 => all::<u64>(out, tensor),
        DType::Bool => extend(out, tensor, tensor.bytes().iter().map(|&b| b != 0).collect()),
        DType::Bf16 => extend(out, tensor, tensor.to_f64().iter().map(|&x| x as f32).collect()),
        DType::String => write_strings(out, tensor),
        _ => extend(out, tensor, tensor.to_i64().unwrap_or_default().iter().map(|&x| x as i8).collect()),
    }
}

/// NumPy's `<U` strings: UTF-32, padded with zeros to the longest.
fn write_strings(out: &mut impl Write, tensor: &Tensor) -> std::io::Result<()> {
    let width = tensor.strings().iter().map(|s| s.chars().count()).max().unwrap_or(0).max(1);
    let shape: Vec<String> = tensor.shape().iter().map(|n| format!("{n},")).collect();
    let mut header =
        format!("{{'descr': '<U{width}', 'fortran_order': False, 'shape': ({}), }}", shape.join(" "));
    // Magic, version and length take 10 bytes; the data starts at a multiple of 64.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', padded - header.len() - 1));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for s in tensor.strings() {
        let chars = s.chars().map(u32::from).chain(std::iter::repeat(0)).take(width);
        for c in chars {
            out.write_all(&c.to_le_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.npy");
        let tensors = [
            Tensor::from_vec(&[2, 3], vec![1.5f32, -0.0, f32::INFINITY, 3.0, 4.0, 1e-40]).unwrap(),
            Tensor::from_vec(&[3], [0.1f32, 65504.0, -2.0].map(f16::from_f32).to_vec()).unwrap(),
            Tensor::from_vec(&[0, 4], Vec::<i32>::new()).unwrap(),
            Tensor::scalar(7i64),
            Tensor::from_bools(&[2], &[true, false]).unwrap(),
        ];
        for tensor in tensors {
            write(&path, &tensor).unwrap();
            assert_eq!(read(&path).unwrap(), tensor);
        }
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.npy");
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        std::fs::write(&path, bytes).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("shorter than its header says"));
    }
}
