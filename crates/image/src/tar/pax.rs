//! PAX extended headers: `length key=value\n` records. Called by the reader only.

use crate::limits;

/// What the PAX headers before an entry say of it.
#[derive(Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// The `GNU.sparse.` records, for formats 0.0, 0.1 and 1.0.
#[derive(Default)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Offsets and lengths in turn.
    pub(super) map: Vec<u64>,
    major: Option<u64>,
    minor: Option<u64>,
}

impl PaxSparse {
    pub(super) fn is_version_1(&self) -> bool {
        (self.major, self.minor) == (Some(1), Some(0))
    }
}

impl Pax {
    /// Takes in the records of one header; a later header overrides an earlier one.
    pub(super) fn parse(&mut self, mut body: &[u8]) -> Result<(), &'static str> {
        while !body.is_empty() {
            let space = body.iter().take(20).position(|byte| *byte == b' ');
            let space = space.ok_or("a record has no length")?;
            let length = decimal(&body[..space]).ok_or("a record's length is no number")?;
            let length = usize::try_from(length).ok().filter(|length| *length <= body.len());
            let length = length.ok_or("a record is longer than its header")?;
            let record =
                body.get(space + 1..length).ok_or("a record is shorter than its length")?;
            let record = record.strip_suffix(b"\n").ok_or("a record does not end in a newline")?;
            let equals = record.iter().position(|byte| *byte == b'=');
            let equals = equals.ok_or("a record has no '='")?;
            self.record(&record[..equals], &record[equals + 1..])?;
            body = &body[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = |reason| decimal(value).ok_or(reason);
        let text = || Some(value.to_vec()).filter(|value| !value.is_empty());
        match key {
            b"path" | b"linkpath" | b"GNU.sparse.name" if value.contains(&0) => {
                return Err("a path has a NUL in it");
            }
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = Some(number("its size is no number")?),
            b"uid" => self.uid = Some(number("its uid is no number")?),
            b"gid" => self.gid = Some(number("its gid is no number")?),
            b"mtime" => self.mtime = Some(time(value).ok_or("its mtime is no time")?),
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.major" => self.sparse.major = Some(number("no sparse version")?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(number("no sparse version")?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.real_size = Some(number("its sparse size is no number")?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let offset_next = self.sparse.map.len().is_multiple_of(2);
                if offset_next != (key == b"GNU.sparse.offset") {
                    return Err("its sparse offsets and lengths do not alternate");
                }
                self.sparse.map.push(number("its sparse map has no numbers")?);
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').filter(|part| !part.is_empty());
                let numbers: Option<Vec<u64>> = numbers.map(decimal).collect();
                self.sparse.map = numbers.ok_or("its sparse map has no numbers")?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                    if self.xattrs.len() > limits::XATTRS {
                        return Err("it has too many extended attributes");
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = digits.then(|| std::str::from_utf8(text).ok())??;
    text.parse().ok()
}

/// Seconds with an optional fraction, perhaps negative.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    let nanos = format!("{:0<9}", &fraction[..fraction.len().min(9)]).parse::<u32>().ok()?;
    match (negative, nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_malformed_ones_refused() {
        let mut pax = Pax::default();
        pax.parse(b"12 path=a/b\n21 mtime=1.500000000\n26 SCHILY.xattr.user.x==\0\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(pax.mtime, Some((1, 500_000_000)));
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"=\0".to_vec())]);
        for bad in [
            &b"path=a\n"[..],
            b"99 path=a\n",
            b"3 path=a\n",
            b"9 path=a\0",
            b"7 path\n",
            b"10 path=\0a\n",
            b"0 ",
            b"1 1 1 ",
            b"99999999999999999999 path=a\n",
            b"10 size=-1\n",
        ] {
            assert!(Pax::default().parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn times_before_1970_round_down() {
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-1"), Some((-1, 0)));
        assert_eq!(time(b"1.123456789123"), Some((1, 123_456_789)));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
    }
}
