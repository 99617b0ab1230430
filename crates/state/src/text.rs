//! Texts that are bytes: arguments, environment and paths need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

/// Bytes that are nearly always a text. In JSON a string where they are UTF-8, else `{"hex":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Text(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Raw {
    Plain(String),
    Hex { hex: String },
}

impl Text {
    /// As people are shown it.
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(text.as_bytes().to_vec())
    }
}

impl From<OsString> for Text {
    fn from(text: OsString) -> Self {
        Text(OsStr::as_bytes(&text).to_vec())
    }
}

impl From<Text> for Raw {
    fn from(text: Text) -> Raw {
        match String::from_utf8(text.0) {
            Ok(plain) => Raw::Plain(plain),
            Err(error) => {
                let hex = error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                Raw::Hex { hex }
            }
        }
    }
}

impl TryFrom<Raw> for Text {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Self, &'static str> {
        match raw {
            Raw::Plain(plain) => Ok(Text(plain.into_bytes())),
            Raw::Hex { hex } if hex.is_ascii() && hex.len() % 2 == 0 => {
                let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16);
                let bytes = (0..hex.len()).step_by(2).map(byte).collect::<Result<_, _>>();
                bytes.map(Text).map_err(|_| "not hexadecimal")
            }
            Raw::Hex { .. } => Err("not hexadecimal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_survives_json(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let json = serde_json::to_string(&Text(bytes.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), Text(bytes));
        }
    }

    #[test]
    fn wrong_hexadecimal_is_refused() {
        for bad in [r#"{"hex":"0"}"#, r#"{"hex":"zz"}"#, r#"{"hex":"éé"}"#, "5"] {
            assert!(serde_json::from_str::<Text>(bad).is_err(), "{bad}");
        }
    }
}
