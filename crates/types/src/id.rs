//! Names of boxes: the id a box is born with and the name a user gives it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The identity of a box: 256 random bits, written as 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoxId(String);

/// Why a text is no box id.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a box id: it takes 64 lower-case hexadecimal digits")]
pub struct IdError(String);

impl BoxId {
    /// The id made of these random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        BoxId(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: what people are shown.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for BoxId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() == 64 && hex {
            Ok(BoxId(text.to_owned()))
        } else {
            Err(IdError(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for BoxId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BoxId> for String {
    fn from(id: BoxId) -> String {
        id.0
    }
}

impl fmt::Display for BoxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BoxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoxId({})", self.short())
    }
}

/// The name of a box, unique in its home. Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, and here at
/// most 128 characters, so that it always fits a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoxName(String);

/// Why a text can't name a box.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid box name '{0}': it takes 2 to 128 characters of [a-zA-Z0-9_.-] and starts with a \
     letter or digit"
)]
pub struct NameError(String);

impl BoxName {
    /// The longest name, in bytes.
    pub const MAX: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BoxName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let rest = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
        let fits = (2..=Self::MAX).contains(&bytes.len());
        if fits && bytes[0].is_ascii_alphanumeric() && bytes[1..].iter().all(rest) {
            Ok(BoxName(text.to_owned()))
        } else {
            Err(NameError(text.chars().take(140).collect()))
        }
    }
}

impl TryFrom<String> for BoxName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<BoxName> for String {
    fn from(name: BoxName) -> String {
        name.0
    }
}

impl fmt::Display for BoxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_docker() {
        for good in ["ab", "web-1", "A_b.c", "0x"] {
            assert!(good.parse::<BoxName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "-ab", ".ab", "a b", "a/b", "ä1", &"x".repeat(129), "a\0b"] {
            assert!(bad.parse::<BoxName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_64_hexadecimal_digits() {
        let id = BoxId::from_random([0xab; 32]);
        assert_eq!(id.as_str().parse::<BoxId>().unwrap(), id);
        assert_eq!(id.short(), "abababababab");
        assert!("AB".repeat(32).parse::<BoxId>().is_err());
        assert!("ab".parse::<BoxId>().is_err());
    }
}
