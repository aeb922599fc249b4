//! The words for the values of options, as the command and Python take them.

/// Parses an enum from the words for its values. The error is a sentence that names them all.
macro_rules! words {
    ($type:ty, $what:literal, $($word:literal => $variant:ident),+ $(,)?) => {
        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(<$type>::$variant),)+
                    _ => Err($crate::words::unknown($what, word, &[$($word),+])),
                }
            }
        }
    };
}

pub(crate) use words;

pub(crate) fn unknown(what: &str, word: &str, words: &[&str]) -> String {
    format!("there is no {what} {word:?}: it is one of {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::image::Fit;
    use crate::{ComputePrecision, Precision, Target, TargetOs};

    #[test]
    fn words() {
        assert_eq!("ane".parse(), Ok(Target::Ane));
        assert_eq!("ios17".parse(), Ok(TargetOs::Ios17));
        assert_eq!("float16".parse(), Ok(ComputePrecision::Float16));
        assert_eq!("wide".parse(), Ok(Precision::Wide));
        assert_eq!("pad".parse(), Ok(Fit::Pad));
        let error = "stretched".parse::<Fit>().unwrap_err();
        assert_eq!(
            error,
            "there is no way to fit images \"stretched\": it is one of crop, pad, stretch, exact"
        );
        assert!("".parse::<Target>().is_err() && "CPU".parse::<Target>().is_err());
    }
}
