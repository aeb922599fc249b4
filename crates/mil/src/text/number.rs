//! Exact text for floats: hexadecimal, as C's `%a` writes it.

use std::fmt::Write;

use crate::DType;

/// The layout of a binary float.
#[derive(Clone, Copy)]
struct Format {
    /// Bits of the significand after the point.
    fraction: u32,
    /// Bits of the exponent.
    exponent: u32,
}

impl Format {
    fn of(dtype: DType) -> Option<Format> {
        Some(match dtype {
            DType::Fp16 => Format { fraction: 10, exponent: 5 },
            DType::Bf16 => Format { fraction: 7, exponent: 8 },
            DType::Fp32 => Format { fraction: 23, exponent: 8 },
            DType::Fp64 => Format { fraction: 52, exponent: 11 },
            _ => return None,
        })
    }

    const fn bias(self) -> i64 {
        (1 << (self.exponent - 1)) - 1
    }

    const fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    const fn sign(self) -> u64 {
        1 << (self.fraction + self.exponent)
    }

    const fn quiet_nan(self) -> u64 {
        self.infinity() | 1 << (self.fraction - 1)
    }
}

/// Writes a float, given by its bits.
pub(super) fn print_float(out: &mut String, dtype: DType, bits: u64) {
    let Some(format) = Format::of(dtype) else { return };
    let (magnitude, negative) = (bits & (format.sign() - 1), bits & format.sign() != 0);
    let infinity = format.infinity();
    if magnitude > infinity && bits != format.quiet_nan() {
        // Writing to a string cannot fail, here and below.
        let _ = write!(out, "nan({bits:#x})");
        return;
    }
    out.push_str(if negative { "-" } else { "" });
    if magnitude >= infinity {
        out.push_str(if magnitude == infinity { "inf" } else { "nan" });
        return;
    }
    if magnitude == 0 {
        out.push_str("0x0p+0");
        return;
    }
    // Normalizes the significand to 1.fraction, also for subnormals, and keeps the fraction in 64 bits without the
    // leading 1.
    let biased = (magnitude >> format.fraction) as i64;
    let fraction = magnitude & ((1 << format.fraction) - 1);
    let (exponent, fraction) = if biased == 0 {
        let lead = i64::from(fraction.leading_zeros()) - i64::from(64 - format.fraction);
        // In two steps, because a shift by 64 would overflow.
        (-format.bias() - lead, fraction << fraction.leading_zeros() << 1)
    } else {
        (biased - format.bias(), fraction << (64 - format.fraction))
    };
    out.push_str("0x1");
    if fraction != 0 {
        let digits = format!("{fraction:016x}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    let _ = write!(out, "p{exponent:+}");
}

/// The reason why a number was rejected.
#[derive(Debug, PartialEq)]
pub(super) enum NumberError {
    /// It is not written as a number.
    Malformed,
    /// It is too large for the element type.
    Range,
}

/// Reads a decimal or hexadecimal float as the bits of `dtype`, rounded to nearest, ties to even.
pub(super) fn parse_float(text: &str, dtype: DType) -> Result<u64, NumberError> {
    let format = Format::of(dtype).ok_or(NumberError::Malformed)?;
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = match digits.get(..2) {
        _ if digits == "inf" => format.infinity(),
        _ if digits == "nan" => format.quiet_nan(),
        Some("0x" | "0X") => parse_hex(&digits[2..], format)?,
        _ if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => parse_decimal(digits, dtype)?,
        _ => return Err(NumberError::Malformed),
    };
    Ok(magnitude | if negative { format.sign() } else { 0 })
}

fn parse_decimal(digits: &str, dtype: DType) -> Result<u64, NumberError> {
    let wide: f64 = digits.parse().map_err(|_| NumberError::Malformed)?;
    let (bits, finite) = match dtype {
        DType::Fp16 => {
            let x = half::f16::from_f64(wide);
            (x.to_bits().into(), x.is_finite())
        }
        DType::Bf16 => {
            let x = half::bf16::from_f64(wide);
            (x.to_bits().into(), x.is_finite())
        }
        DType::Fp32 => {
            let x: f32 = digits.parse().map_err(|_| NumberError::Malformed)?;
            (x.to_bits().into(), x.is_finite())
        }
        _ => (wide.to_bits(), wide.is_finite()),
    };
    if finite { Ok(bits) } else { Err(NumberError::Range) }
}

/// Reads the part after `0x`.
fn parse_hex(digits: &str, format: Format) -> Result<u64, NumberError> {
    let (digits, exponent) = match digits.split_once(['p', 'P']) {
        Some((digits, e)) => (digits, e.parse::<i64>().map_err(|_| NumberError::Malformed)?),
        None => (digits, 0),
    };
    // The value is significand * 2^scale; `sticky` is set if nonzero lower bits were dropped.
    let (mut significand, mut scale, mut sticky) = (0u64, exponent.clamp(-1 << 20, 1 << 20), false);
    let (mut point, mut any) = (false, false);
    for c in digits.chars() {
        if c == '.' && !point {
            point = true;
            continue;
        }
        let digit = u64::from(c.to_digit(16).ok_or(NumberError::Malformed)?);
        any = true;
        if significand >> 60 == 0 {
            significand = significand << 4 | digit;
            scale -= if point { 4 } else { 0 };
        } else {
            sticky |= digit != 0;
            scale += if point { 0 } else { 4 };
        }
    }
    match (any, significand) {
        (false, _) => Err(NumberError::Malformed),
        (true, 0) => Ok(0),
        _ => round(significand, scale, sticky, format),
    }
}

/// Rounds `significand * 2^scale`, which must not be zero, to the bits of a format.
fn round(significand: u64, scale: i64, sticky: bool, format: Format) -> Result<u64, NumberError> {
    let shift = significand.leading_zeros();
    let (significand, scale) = (significand << shift, scale - i64::from(shift));
    // Now bit 63 is the leading 1; this is its exponent:
    let exponent = scale + 63;
    let smallest = 1 - format.bias();
    let dropped = i64::from(63 - format.fraction) + (smallest - exponent).max(0);
    let (kept, rest, half) = match dropped {
        64 => (0, significand, 1 << 63),
        65.. => (0, 0, 1),
        d => (significand >> d, significand & ((1 << d) - 1), 1u64 << (d - 1)),
    };
    let up = rest > half || rest == half && (sticky || kept & 1 == 1);
    let rounded = kept + u64::from(up);
    // The leading 1 of a normal number adds one to the exponent field, as does a carry out of the fraction.
    let field = (exponent.max(smallest) - smallest) as u64;
    let bits = field.checked_shl(format.fraction).and_then(|f| f.checked_add(rounded));
    bits.filter(|&b| field < 1 << format.exponent && b < format.infinity()).ok_or(NumberError::Range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(dtype: DType, bits: u64) -> String {
        let mut s = String::new();
        print_float(&mut s, dtype, bits);
        s
    }

    /// Checks that the printed text reads back as the same bits. NaNs with other bits are the parser's concern.
    fn check(dtype: DType, bits: u64) {
        let s = printed(dtype, bits);
        if !s.starts_with("nan(") {
            assert_eq!(parse_float(&s, dtype), Ok(bits), "{s}");
        }
    }

    #[test]
    fn every_half_round_trips() {
        for bits in 0..=u16::MAX {
            check(DType::Fp16, bits.into());
            check(DType::Bf16, bits.into());
        }
    }

    #[test]
    fn wider_floats_round_trip() {
        let mut x = 1u64;
        for _ in 0..100_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            check(DType::Fp32, x >> 32);
            check(DType::Fp64, x);
            check(DType::Fp64, x >> 12);
        }
        assert_eq!(printed(DType::Fp64, 1), "0x1p-1074");
        assert_eq!(printed(DType::Fp32, 0x3dcc_cccd), "0x1.99999ap-4");
    }

    #[test]
    fn rounds_to_nearest_even() {
        let f32_of = |s| parse_float(s, DType::Fp32).map(|b| f32::from_bits(b as u32));
        assert_eq!(f32_of("0x1.000001p+0"), Ok(1.0));
        assert_eq!(f32_of("0x1.0000010000000000001p+0"), Ok(1.0 + f32::EPSILON));
        assert_eq!(f32_of("0x1.000003p+0"), Ok(1.0 + 2.0 * f32::EPSILON));
        assert_eq!(f32_of("0x0.8p-149"), Ok(0.0));
        assert_eq!(f32_of("0x0.81p-149"), Ok(f32::from_bits(1)));
        assert_eq!(f32_of("0x1.fffffep+127"), Ok(f32::MAX));
        assert_eq!(f32_of("0x1.ffffffp+127"), Err(NumberError::Range));
        assert_eq!(f32_of("0x1p+99999999999"), Err(NumberError::Range));
        assert_eq!(f32_of("0x1p-99999999"), Ok(0.0));
        assert_eq!(f32_of("0x10"), Ok(16.0));
        for bad in ["", "0x", "0x.", "0xp1", "0x1p", "1e", "--1", "1.2.3", "infinity", "0x1.2.3"] {
            assert_eq!(f32_of(bad), Err(NumberError::Malformed), "{bad}");
        }
    }
}
