//! Who may ask: over TCP, whoever knows the token. Called by `serve` for every request.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use boxwood_api::ErrorKind;
use http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::ApiError;

/// The shortest token that is none to be guessed.
const MIN: usize = 16;
/// The longest.
const MAX: usize = 4096;

/// What a client has to know. Only its digest is kept, so that comparing takes the same time whatever
/// is sent.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    digest: [u8; 32],
}

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It can't be read.
    #[error("can't read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could read it.
    #[error("others can use the token file {}: run 'chmod 600' on it", .0.display())]
    Open(PathBuf),
    /// It is no token.
    #[error("the token file {} must hold one line of {MIN} to {MAX} visible ASCII characters", .0.display())]
    Bad(PathBuf),
}

impl Token {
    /// Reads the token's file.
    pub(crate) fn read(path: &Path) -> Result<Token, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(TokenError::Open(path.to_owned()));
        }
        let mut text = String::new();
        file.take(MAX as u64 + 2).read_to_string(&mut text).map_err(failed)?;
        let token = text.strip_suffix('\n').unwrap_or(&text);
        let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
        if !(MIN..=MAX).contains(&token.len()) || !plain {
            return Err(TokenError::Bad(path.to_owned()));
        }
        Ok(Token { digest: Sha256::digest(token).into() })
    }

    /// Lets a request pass that has the token.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let given = given.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
        });
        let digest: [u8; 32] = Sha256::digest(given.unwrap_or_default()).into();
        if bool::from(digest.ct_eq(&self.digest)) {
            return Ok(());
        }
        let message = "send the token: 'Authorization: Bearer TOKEN'";
        Err(ApiError::new(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const TOKEN: &str = "0123456789abcdef";

    fn file(content: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_token_is_long_private_and_in_one_line() {
        for (content, mode, good) in [
            (TOKEN, 0o600, true),
            ("0123456789abcdef\n", 0o400, true),
            (TOKEN, 0o640, false),
            (TOKEN, 0o604, false),
            ("short", 0o600, false),
            ("0123456789abcdef\nmore", 0o600, false),
            ("", 0o600, false),
        ] {
            let file = file(content, mode);
            assert_eq!(Token::read(file.path()).is_ok(), good, "{content:?} {mode:o}");
        }
        assert!(Token::read(Path::new("/no/such/file")).is_err());
    }

    #[test]
    fn only_who_sends_the_token_passes() {
        let token = Token::read(file(TOKEN, 0o600).path()).unwrap();
        let check = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            token.check(&headers).is_ok()
        };
        assert!(check(Some("Bearer 0123456789abcdef")));
        assert!(check(Some("bearer 0123456789abcdef")));
        for wrong in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer 0123456789abcdeg"),
            Some("Bearer 0123456789abcde"),
            Some("Bearer 0123456789abcdef0"),
            Some("Basic 0123456789abcdef"),
            Some("0123456789abcdef"),
        ] {
            assert!(!check(wrong), "{wrong:?}");
        }
    }
}
