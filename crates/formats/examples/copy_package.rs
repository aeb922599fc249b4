//! Reads a package and writes it again: `cargo run -p milwright-formats --example copy_package IN OUT`.
//!
//! Every blob of every weight file is copied, so references stay as they are.

use std::error::Error;

use milwright_formats::{Package, PackageWriter};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let [from, to] = &paths[..] else { return Err("usage: copy_package IN OUT".into()) };
    let package = Package::open(from)?;
    let mut writer = PackageWriter::create(to)?;
    for (name, file) in package.weight_files() {
        let plain = name.rsplit('/').next().unwrap_or(name);
        for blob in file.blobs() {
            let (offset, blob) = blob?;
            let written = writer.append_to(plain, blob.dtype, blob.len, &blob.data)?;
            if (&written.file_name, written.offset) != (name, offset) {
                return Err(format!("{name} at {offset} became {written:?}").into());
            }
        }
    }
    writer.stage(package.model())?.commit()?;
    Ok(())
}
