//! Who a process of the box runs as: names looked up in the image's own `/etc/passwd` and
//! `/etc/group`. Called by `session::spawn`.
//!
//! The rules are those of Docker's runtime (moby/sys/user, `GetExecUser`), so that the same `USER`
//! gives the same ids; except that there an id that is no number counts as 0, which is root, and here
//! such a line is no line. The files are the image's: read with a bound, and never followed out of
//! the root.

use std::collections::BTreeMap;

use rustix::process::{Gid, Uid};

/// The largest id Docker takes.
const MAX_ID: u32 = i32::MAX as u32;

/// The most supplementary groups Linux takes (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// A user found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The user.
    pub(crate) uid: Uid,
    /// Its group.
    pub(crate) gid: Gid,
    /// Its supplementary groups.
    pub(crate) groups: Vec<Gid>,
    /// Its home.
    pub(crate) home: Vec<u8>,
}

/// Why there is no such user. The texts are Docker's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    /// A name that is not in `/etc/passwd`.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// A name that is not in `/etc/group`.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number no id can have.
    #[error("uids and gids must be in range 0-{MAX_ID}")]
    OutOfRange,
}

/// Looks `spec` up: `user`, `uid`, `user:group`, `uid:gid` and mixtures; empty for root.
pub(crate) fn find(spec: &[u8], passwd: &[u8], group: &[u8]) -> Result<User, UserError> {
    let mut parts = spec.splitn(2, |byte| *byte == b':');
    let user_arg = parts.next().unwrap_or_default();
    let group_arg = parts.next().unwrap_or_default();
    let mut user = User { uid: Uid::ROOT, gid: Gid::ROOT, groups: Vec::new(), home: b"/".to_vec() };
    let wanted = number(user_arg);
    let entry = passwd_entries(passwd).find(|entry| match (user_arg, wanted) {
        (b"", _) => entry.uid == 0,
        (_, Some(uid)) => i64::from(entry.uid) == uid,
        (name, None) => entry.name == name,
    });
    let mut name: &[u8] = b"";
    if let Some(entry) = entry {
        name = entry.name;
        user.uid = Uid::from_raw(checked(i64::from(entry.uid))?);
        user.gid = Gid::from_raw(checked(i64::from(entry.gid))?);
        if !entry.home.is_empty() {
            user.home = entry.home.to_vec();
        }
    } else if !user_arg.is_empty() {
        let uid = wanted.ok_or_else(|| UserError::NoUser(readable(user_arg)))?;
        user.uid = Uid::from_raw(checked(uid)?);
    }
    if !group_arg.is_empty() {
        user.gid = find_group(group_arg, group)?;
    }
    // The group itself is among them: a process that changes its group later keeps what it had
    // (moby's answer to CVE-2022-36109).
    user.groups.push(user.gid);
    if group_arg.is_empty() && !name.is_empty() {
        let member = |entry: &GroupEntry<'_>| {
            entry.gid != user.gid.as_raw()
                && entry.members.split(|byte| *byte == b',').any(|member| member == name)
        };
        let named = group_entries(group).filter(member).map(|entry| Gid::from_raw(entry.gid));
        user.groups.extend(named.take(MAX_GROUPS - 1));
    }
    Ok(user)
}

/// The longest name that is shown (`LOGIN_NAME_MAX` is 256).
const MAX_SHOWN: usize = 64;

/// The name that `/etc/passwd` has for each id: the first that it has.
pub(crate) fn names(passwd: &[u8]) -> BTreeMap<u32, Vec<u8>> {
    let mut names = BTreeMap::new();
    for entry in passwd_entries(passwd) {
        names
            .entry(entry.uid)
            .or_insert_with(|| entry.name[..entry.name.len().min(MAX_SHOWN)].to_vec());
    }
    names
}

fn find_group(arg: &[u8], group: &[u8]) -> Result<Gid, UserError> {
    let wanted = number(arg);
    let entry = group_entries(group).find(|entry| match wanted {
        Some(gid) => i64::from(entry.gid) == gid,
        None => entry.name == arg,
    });
    let gid = match (entry, wanted) {
        (Some(entry), _) => i64::from(entry.gid),
        (None, Some(gid)) => gid,
        (None, None) => return Err(UserError::NoGroup(readable(arg))),
    };
    Ok(Gid::from_raw(checked(gid)?))
}

fn checked(id: i64) -> Result<u32, UserError> {
    u32::try_from(id).ok().filter(|id| *id <= MAX_ID).ok_or(UserError::OutOfRange)
}

struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// `name:password:uid:gid:comment:home:shell`
fn passwd_entries(text: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry { name, uid, gid, home })
    })
}

struct GroupEntry<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// `name:password:gid:member,member`
fn group_entries(text: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let gid = id(fields.nth(1)?)?;
        let members = fields.next().unwrap_or_default();
        Some(GroupEntry { name, gid, members })
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

fn id(field: &[u8]) -> Option<u32> {
    number(field).and_then(|number| u32::try_from(number).ok())
}

/// A decimal number, as Go's `strconv.Atoi` takes it. One too long for any id is a number still.
fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Some(if negative { -value } else { value })
}

fn readable(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        broken line\n\
        web:x:100:101:Web:/srv/web:/bin/false\n\
        nohome:x:102:102::\n";
    const GROUP: &[u8] =
        b"root:x:0:\nadm:x:4:root,web\nweb:x:101:\ndisk:x:6:root\nstaff:x:50:web,other\n";

    fn ids(spec: &str) -> Result<(u32, u32, Vec<u32>, String), UserError> {
        let user = find(spec.as_bytes(), PASSWD, GROUP)?;
        let groups = user.groups.iter().map(|gid| gid.as_raw()).collect();
        let home = String::from_utf8(user.home).unwrap();
        Ok((user.uid.as_raw(), user.gid.as_raw(), groups, home))
    }

    #[test]
    fn g7_users_are_found_as_docker_finds_them() {
        let home = |text: &str| text.to_owned();
        for (spec, expected) in [
            ("", (0, 0, vec![0, 4, 6], home("/root"))),
            ("root", (0, 0, vec![0, 4, 6], home("/root"))),
            ("web", (100, 101, vec![101, 4, 50], home("/srv/web"))),
            ("100", (100, 101, vec![101, 4, 50], home("/srv/web"))),
            ("web:disk", (100, 6, vec![6], home("/srv/web"))),
            ("web:7", (100, 7, vec![7], home("/srv/web"))),
            ("1234", (1234, 0, vec![0], home("/"))),
            ("1234:5678", (1234, 5678, vec![5678], home("/"))),
            (":staff", (0, 50, vec![50], home("/root"))),
            ("nohome", (102, 102, vec![102], home("/"))),
        ] {
            assert_eq!(ids(spec).unwrap(), expected, "{spec}");
        }
    }

    #[test]
    fn g7_unknown_names_are_refused_in_dockers_words() {
        assert_eq!(
            ids("nobody").unwrap_err().to_string(),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(ids("web:nogroup").unwrap_err(), UserError::NoGroup("nogroup".into()));
        for spec in ["-1", "2147483648", "99999999999999999999", "web:-5"] {
            assert_eq!(ids(spec).unwrap_err(), UserError::OutOfRange, "{spec}");
        }
    }

    #[test]
    fn an_id_has_the_first_name_that_is_its_own() {
        let text = b"root:x:0:0:::\ntoor:x:0:0:::\nweb:x:100:101:::\n";
        let names = names(&[&text[..], &[b'x'; 500], b":x:7:7:::\n"].concat());
        assert_eq!(names[&0], b"root");
        assert_eq!(names[&100], b"web");
        assert_eq!(names[&7], [b'x'; MAX_SHOWN]);
    }

    #[test]
    fn an_image_without_the_files_has_root_and_numbers() {
        let root = find(b"", b"", b"").unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_slice()), (Uid::ROOT, Gid::ROOT, &b"/"[..]));
        assert_eq!(find(b"7:8", b"", b"").unwrap().gid.as_raw(), 8);
        assert!(find(b"root", b"", b"").is_err());
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic(
            spec in proptest::collection::vec(any::<u8>(), 0..30),
            passwd in proptest::collection::vec(any::<u8>(), 0..300),
            group in "([a-z]{0,3}:x?:[0-9-]{0,12}:[a-z,]{0,9}\n?){0,8}",
        ) {
            if let Ok(user) = find(&spec, &passwd, group.as_bytes()) {
                prop_assert!(user.uid.as_raw() <= MAX_ID && user.gid.as_raw() <= MAX_ID);
            }
        }

        #[test]
        fn an_entry_is_found_among_any_others(
            before in "([a-z]{1,4}:x:[0-9]{1,5}:[0-9]{1,5}:::\n){0,8}",
            uid in 0u32..=MAX_ID,
        ) {
            let text = format!("{before}THE-ONE:x:{uid}:9:c:/home/one:/bin/sh\n");
            let user = find(b"THE-ONE", text.as_bytes(), b"").unwrap();
            prop_assert_eq!(user.uid.as_raw(), uid);
            prop_assert_eq!(user.home, b"/home/one".to_vec());
        }
    }
}
