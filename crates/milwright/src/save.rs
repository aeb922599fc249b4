//! Writes models as packages.

use std::collections::HashMap;
use std::path::Path;

use milwright_convert::ml_program::WeightSink;
use milwright_formats::PackageWriter;
use milwright_formats::blob::BlobType;
use milwright_formats::proto::{mil_spec::value::BlobFileValue, model};

use crate::{Model, Result};

impl Model {
    /// Writes a model with a program as an `.mlpackage`, as it is: nothing is optimized or proved. An existing package is
    /// replaced completely or not at all.
    ///
    /// ```
    /// # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    /// use milwright::Model;
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let copy = folder.path().join("copy.mlpackage");
    /// Model::open(format!("{root}examples/digits.mlpackage"))?.save(&copy)?;
    /// assert_eq!(Model::open(&copy)?.info().function(None).unwrap().inputs[0].name, "image");
    /// # Ok::<(), milwright::Error>(())
    /// ```
    ///
    /// # Errors
    /// The model has no program of its own (a neural network's is made by [`Converter`](crate::Converter)), the folder
    /// cannot be written, or there is something at `path` that is not a package.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.check_not_replaced(path)?;
        let program = self.own_program()?;
        let mut writer = PackageWriter::create(path)?;
        if let Some(package) = self.package() {
            writer.carry_over(package)?;
        }
        let mut specification = self.specification().clone();
        let mut sink = Sink { writer: &mut writer, written: HashMap::new() };
        let written = milwright_convert::ml_program::write(program, &mut sink).map_err(crate::Error::from)?;
        let opset = program.functions.values().map(|f| f.opset.specification_version()).max();
        specification.specification_version = specification.specification_version.max(opset.unwrap_or(0));
        specification.r#type = Some(model::Type::MlProgram(written));
        writer.stage(&specification)?.commit()?;
        Ok(())
    }
}

/// Appends weights to a package. Equal weights are written once, because functions of a model often share them.
struct Sink<'a> {
    writer: &'a mut PackageWriter,
    written: HashMap<(BlobType, usize, blake3::Hash), BlobFileValue>,
}

impl WeightSink for Sink<'_> {
    fn store(
        &mut self,
        dtype: BlobType,
        elements: usize,
        data: &[u8],
    ) -> std::result::Result<BlobFileValue, milwright_formats::Error> {
        let key = (dtype, elements, blake3::hash(data));
        if let Some(written) = self.written.get(&key) {
            return Ok(written.clone());
        }
        let written = self.writer.append(dtype, elements as u64, data)?;
        self.written.insert(key, written.clone());
        Ok(written)
    }
}
