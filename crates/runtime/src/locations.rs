//! Where things are: the home of boxes, the store of what boxes are made from.

use std::env;
use std::path::{Path, PathBuf};

use crate::Error;

/// The directories a runtime works in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locations {
    /// Boxes and their names. Private to the user.
    pub home: PathBuf,
    /// Images, templates, kernel, guest, the blank disk. May be shared by many homes.
    pub store: PathBuf,
    /// The store that root set up for everybody, read where the own one lacks something.
    pub system_store: Option<PathBuf>,
}

/// Where root's home and store are.
const SYSTEM: &str = "/var/lib/boxwood";

impl Locations {
    /// As the environment says: `BOXWOOD_HOME`, `BOXWOOD_STORE`, else root's places or the user's
    /// data directory (XDG base directory specification).
    ///
    /// # Errors
    /// When an ordinary user has no place for boxes; when there is a relative path among them and no
    /// directory that it is relative to.
    pub fn from_environment() -> Result<Self, Error> {
        let variable = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = rustix::process::geteuid().is_root();
        Self::choose(&variable, if root { Owner::Root } else { Owner::User })?.absolute()
    }

    /// The same from wherever one looks: shims work in `/`.
    fn absolute(self) -> Result<Self, Error> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|source| Error::Relative { path, source })
        };
        let Locations { home, store, system_store } = self;
        Ok(Locations { home: absolute(home)?, store: absolute(store)?, system_store })
    }

    fn choose(variable: &dyn Fn(&str) -> Option<PathBuf>, owner: Owner) -> Result<Self, Error> {
        let system_store = || Some(Path::new(SYSTEM).join("store"));
        // Who names a store means that one and no other.
        let (home, store, system_store) =
            match (variable("BOXWOOD_HOME"), variable("BOXWOOD_STORE")) {
                (Some(home), Some(store)) => (home, store, None),
                (Some(home), None) => (home.clone(), home.join("store"), system_store()),
                (None, Some(store)) => (base(variable, owner)?.join("home"), store, None),
                (None, None) => {
                    let base = base(variable, owner)?;
                    (base.join("home"), base.join("store"), system_store())
                }
            };
        let system_store = system_store.filter(|system| *system != store);
        Ok(Locations { home, store, system_store })
    }

    /// Where images are.
    pub fn images(&self) -> PathBuf {
        self.store.join("images")
    }

    /// Where templates are.
    pub fn templates(&self) -> PathBuf {
        self.store.join("templates")
    }

    /// Where verdicts that hold for one boot of the host are kept.
    pub fn cache(&self) -> PathBuf {
        self.store.join("cache")
    }
}

/// Where this user's things are. There is no other place for them: in a directory that everybody may
/// write to, somebody else could make it first.
fn base(variable: &dyn Fn(&str) -> Option<PathBuf>, owner: Owner) -> Result<PathBuf, Error> {
    let data = match owner {
        Owner::Root => return Ok(PathBuf::from(SYSTEM)),
        Owner::User => variable("XDG_DATA_HOME").filter(|path| path.is_absolute()),
    };
    let data = data.or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    Ok(data.ok_or(Error::NoHome)?.join("boxwood"))
}

#[derive(Clone, Copy)]
enum Owner {
    Root,
    User,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(owner: Owner, variables: &[(&str, &str)]) -> (String, String) {
        let variable = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value))
        };
        let found = Locations::choose(&variable, owner).unwrap();
        (found.home.display().to_string(), found.store.display().to_string())
    }

    #[test]
    fn the_environment_decides_before_the_user() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let root = choose(Owner::Root, &[]);
        assert_eq!(root, pair("/var/lib/boxwood/home", "/var/lib/boxwood/store"));
        let user = choose(Owner::User, &[("HOME", "/h")]);
        assert_eq!(user, pair("/h/.local/share/boxwood/home", "/h/.local/share/boxwood/store"));
        let own = choose(Owner::User, &[("HOME", "/h"), ("BOXWOOD_HOME", "/b")]);
        assert_eq!(own, pair("/b", "/b/store"));
        let shared = choose(Owner::Root, &[("BOXWOOD_HOME", "/b"), ("BOXWOOD_STORE", "/s")]);
        assert_eq!(shared, pair("/b", "/s"));
    }

    #[test]
    fn h13_a_user_without_a_place_is_refused() {
        let choose = |given: &str, owner| {
            Locations::choose(&|name| (name == given).then(|| "/x".into()), owner)
        };
        for given in ["", "BOXWOOD_STORE"] {
            let refused = choose(given, Owner::User).unwrap_err();
            assert!(refused.to_string().contains("BOXWOOD_HOME"), "{refused}");
            assert!(choose(given, Owner::Root).is_ok());
        }
        for given in ["HOME", "XDG_DATA_HOME", "BOXWOOD_HOME"] {
            assert!(choose(given, Owner::User).is_ok(), "{given}");
        }
    }

    #[test]
    fn relative_places_are_told_from_the_directory_at_hand() {
        let places =
            Locations { home: "h".into(), store: "./s".into(), system_store: None }.absolute();
        let (places, here) = (places.unwrap(), env::current_dir().unwrap());
        assert_eq!((places.home, places.store), (here.join("h"), here.join("s")));
    }

    #[test]
    fn the_systems_store_helps_out_unless_a_store_was_named() {
        let system = |variables: &[(&str, &str)], owner| {
            let variable = |name: &str| {
                variables.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value))
            };
            Locations::choose(&variable, owner).unwrap().system_store
        };
        let shared = Some(PathBuf::from("/var/lib/boxwood/store"));
        assert_eq!(system(&[("HOME", "/h")], Owner::User), shared);
        assert_eq!(system(&[("BOXWOOD_HOME", "/b")], Owner::Root), shared);
        assert_eq!(system(&[], Owner::Root), None, "it is the own one");
        assert_eq!(system(&[("HOME", "/h"), ("BOXWOOD_STORE", "/s")], Owner::User), None);
    }
}
