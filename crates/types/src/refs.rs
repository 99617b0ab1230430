//! Names of images: digests, and `repository[:tag]` names normalized as Docker does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A SHA-256 content digest, written `sha256:` and 64 lower-case hexadecimal digits
/// (OCI image specification, "Digests"). Other algorithms are refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is no digest.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a digest: it takes 'sha256:' and 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The digest made of these 32 bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Digest(format!("sha256:{hex}"))
    }

    /// The 64 digits, without the algorithm: safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The first 12 digits: what people are shown.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// With the algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.strip_prefix("sha256:") {
            Some(digits) if digits.len() == 64 && digits.bytes().all(hex) => {
                Ok(Digest(text.to_owned()))
            }
            _ => Err(DigestError(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an image in the store, in full: `docker.io/library/busybox:latest`.
///
/// What a user types is shorter; [`ImageName::from_str`] adds the registry, the `library/` and the
/// tag as Docker does, and [`ImageName::familiar`] takes them away again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    repository: String,
    tag: String,
}

/// Why a text can't name an image.
#[derive(Debug, thiserror::Error)]
#[error("invalid image name '{name}': {reason}")]
pub struct ImageNameError {
    name: String,
    reason: &'static str,
}

impl ImageName {
    const DEFAULT_DOMAIN: &'static str = "docker.io";

    /// Registry and path, without the tag.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The repository as people write it: `busybox` for `docker.io/library/busybox`.
    pub fn familiar_repository(&self) -> &str {
        let hub = self.repository.strip_prefix("docker.io/");
        hub.map_or(&*self.repository, |path| path.strip_prefix("library/").unwrap_or(path))
    }

    /// The whole name as people write it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        format!("{}:{}", self.familiar_repository(), self.tag)
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    /// The grammar is that of the `distribution/reference` package, which Docker uses.
    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        let refuse =
            |reason| Err(ImageNameError { name: text.chars().take(300).collect(), reason });
        if text.contains('@') {
            return refuse("a name with a digest can't be given here; use the image's ID");
        }
        let slash = text.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match text[slash..].rfind(':') {
            Some(colon) => (&text[..slash + colon], &text[slash + colon + 1..]),
            None => (text, "latest"),
        };
        let (domain, rest) = match path.split_once('/') {
            Some((first, rest)) if is_domain(first) => (first, rest.to_owned()),
            _ if path.contains('/') => (Self::DEFAULT_DOMAIN, path.to_owned()),
            _ => (Self::DEFAULT_DOMAIN, format!("library/{path}")),
        };
        let domain = if domain == "index.docker.io" { Self::DEFAULT_DOMAIN } else { domain };
        if !rest.split('/').all(is_component) {
            return refuse(
                "each part of it takes lower-case letters and digits, joined by '.', '_', '__' or '-'",
            );
        }
        if !is_tag(tag) {
            return refuse(
                "a tag takes up to 128 characters of [A-Za-z0-9_.-], no '.' or '-' first",
            );
        }
        if domain.len() + rest.len() > 254 {
            return refuse("it is longer than 255 characters");
        }
        Ok(ImageName { repository: format!("{domain}/{rest}"), tag: tag.to_owned() })
    }
}

/// Whether the part before the first slash is a registry and not a path: it has a dot or a port, is
/// `localhost`, or has upper-case letters.
fn is_domain(text: &str) -> bool {
    let marked = text.contains(['.', ':'])
        || text == "localhost"
        || text.bytes().any(|b| b.is_ascii_uppercase());
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    marked
        && host.split('.').all(label)
        && !port.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_component(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let mut run = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | '0'..='9' => run.clear(),
            '.' | '_' | '-' => {
                run.push(c);
                let dashes = run.bytes().all(|b| b == b'-');
                if !(dashes || matches!(&*run, "." | "_" | "__")) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    edge(text.bytes().next()) && edge(text.bytes().last())
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && word(text.as_bytes()[0])
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

impl TryFrom<String> for ImageName {
    type Error = ImageNameError;

    fn try_from(text: String) -> Result<Self, ImageNameError> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> String {
        name.to_string()
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalized_as_docker_does() {
        for (typed, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("me/app:1.0", "docker.io/me/app:1.0", "me/app:1.0"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
            ("ghcr.io/x/y__z:T", "ghcr.io/x/y__z:T", "ghcr.io/x/y__z:T"),
            ("index.docker.io/library/a--b", "docker.io/library/a--b:latest", "a--b:latest"),
        ] {
            let name: ImageName = typed.parse().unwrap();
            assert_eq!(name.to_string(), full);
            assert_eq!(name.familiar(), familiar);
            assert_eq!(full.parse::<ImageName>().unwrap(), name);
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for bad in [
            "",
            ":",
            "a:",
            "UPPER",
            "a//b",
            "a/",
            "-a",
            "a_",
            "a___b",
            "a..b",
            "a:b c",
            "a@sha256:0",
            "a:.b",
            "../a",
            "a/../b",
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
        assert!("x".repeat(300).parse::<ImageName>().is_err());
    }

    #[test]
    fn digests_are_sha256() {
        let digest = Digest::from_bytes(&[7; 32]);
        assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
        assert!("sha512:00".parse::<Digest>().is_err());
        assert!(format!("sha256:{}", "g".repeat(64)).parse::<Digest>().is_err());
    }
}
