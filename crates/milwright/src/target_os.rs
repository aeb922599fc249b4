//! The systems that a model is for.

use milwright_mil::Opset;

use crate::words::words;

/// The systems that a model is for, named by the version of iOS. Apple's other systems of the same year are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetOs {
    /// iOS 15, macOS 12.
    Ios15,
    /// iOS 16, macOS 13.
    Ios16,
    /// iOS 17, macOS 14.
    Ios17,
    /// iOS 18, macOS 15.
    Ios18,
}

words!(TargetOs, "target system", "ios15" => Ios15, "ios16" => Ios16, "ios17" => Ios17, "ios18" => Ios18);

impl From<TargetOs> for Opset {
    fn from(target: TargetOs) -> Opset {
        match target {
            TargetOs::Ios15 => Opset::Ios15,
            TargetOs::Ios16 => Opset::Ios16,
            TargetOs::Ios17 => Opset::Ios17,
            TargetOs::Ios18 => Opset::Ios18,
        }
    }
}
