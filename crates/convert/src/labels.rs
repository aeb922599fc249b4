//! Class labels as constants.

use milwright_mil::Tensor;

use crate::Error;

pub(crate) fn strings(labels: &[String]) -> Result<Tensor, Error> {
    Tensor::from_strings(&[labels.len()], labels.to_vec()).map_err(|e| Error::malformed(e.to_string()))
}

pub(crate) fn ints(labels: &[i64]) -> Result<Tensor, Error> {
    Tensor::from_vec(&[labels.len()], labels.to_vec()).map_err(|e| Error::malformed(e.to_string()))
}
