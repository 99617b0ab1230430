//! Amounts of bytes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes. Written as Docker does: `512m`, `1g`, `1.5GiB`, `1048576`; units are powers
/// of 1024 and their case does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

/// Why a text is no size.
#[derive(Debug, thiserror::Error)]
#[error("invalid size '{0}': write a number and b, k, m, g or t, as in 512m")]
pub struct SizeError(String);

impl ByteSize {
    /// This many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        ByteSize(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let refuse = || SizeError(text.chars().take(40).collect());
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(refuse()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(ByteSize).ok_or_else(refuse);
        }
        let value = number.parse::<f64>().map_err(|_| refuse())? * (1u64 << shift) as f64;
        if value.is_finite() && value < u64::MAX as f64 {
            Ok(ByteSize(value as u64))
        } else {
            Err(refuse())
        }
    }
}

impl fmt::Display for ByteSize {
    /// Three digits and a unit, powers of 1024: `1.5 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 || unit == "TiB" {
                let decimals = usize::from(unit != "B" && value < 100.0 && value.fract() != 0.0);
                return write!(f, "{value:.decimals$} {unit}");
            }
            value /= 1024.0;
        }
        unreachable!("the last unit takes every value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_does() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("512m", 512 << 20),
            ("1G", 1 << 30),
            ("1.5g", 3 << 29),
            ("64MiB", 64 << 20),
            ("7b", 7),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1e9", "99999999999t", "1.2.3g", "٣"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown_with_units() {
        assert_eq!(ByteSize::from_bytes(512 << 20).to_string(), "512 MiB");
        assert_eq!(ByteSize::from_bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(ByteSize::from_bytes(12).to_string(), "12 B");
    }
}
