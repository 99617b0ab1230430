//! Where a kernel comes from when the user names none: the distribution's package, unpacked into
//! the store and not installed, or else the kernel the host runs. Called by `kernel`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::run;
use crate::distro::{Distro, Need};
use crate::error::Error;
use crate::progress::Progress;
use crate::store::Writer;

const RESOLVE_TIME: Duration = Duration::from_secs(60);
/// 27 MB for the cloud flavour of Debian 12: slow lines need minutes.
const DOWNLOAD_TIME: Duration = Duration::from_secs(15 * 60);
const UNPACK_TIME: Duration = Duration::from_secs(5 * 60);

/// A kernel and its modules as somebody else packed them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What to tell the user about where it is from.
    pub(super) origin: String,
    /// A bzImage or vmlinux.
    pub(super) image: PathBuf,
    /// The directory that has `modules.builtin`; `None` means `/lib/modules/<release>`.
    pub(super) modules: Option<PathBuf>,
}

/// The programs that fetch packages; tests put their own in their place.
pub(super) struct Apt {
    pub(super) apt_cache: OsString,
    pub(super) apt_get: OsString,
    pub(super) dpkg_deb: OsString,
}

impl Default for Apt {
    fn default() -> Self {
        Apt {
            apt_cache: "apt-cache".into(),
            apt_get: "apt-get".into(),
            dpkg_deb: "dpkg-deb".into(),
        }
    }
}

/// The distribution's kernel: its package where it has apt, else the one it runs.
pub(super) fn distribution(
    writer: &Writer,
    progress: &mut dyn FnMut(Progress),
) -> Result<Found, Error> {
    let distro = Distro::current();
    let host = || host_kernel(Path::new("/"), &host_release(), distro);
    if !matches!(distro, Distro::Debian | Distro::Ubuntu) {
        return host();
    }
    let failed = match package(&Apt::default(), distro.package(Need::Kernel), writer, progress) {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    match host() {
        Ok(found) => {
            progress(Progress::UsingHostKernel { reason: failed.to_string() });
            Ok(found)
        }
        // The package is what the user will want to have: its error is the one to tell.
        Err(_) => Err(failed),
    }
}

/// What [`distribution`] would take, for people. Downloads nothing.
pub(super) fn available() -> Result<String, Error> {
    let distro = Distro::current();
    let host = || host_kernel(Path::new("/"), &host_release(), distro).map(|found| found.origin);
    if !matches!(distro, Distro::Debian | Distro::Ubuntu) {
        return host();
    }
    match resolve(&Apt::default(), distro.package(Need::Kernel)) {
        Ok(package) => Ok(format!("package {package}")),
        Err(error) => host().map_err(|_| error),
    }
}

/// Downloads and unpacks what the meta package stands for.
pub(super) fn package(
    apt: &Apt,
    meta: &str,
    writer: &Writer,
    progress: &mut dyn FnMut(Progress),
) -> Result<Found, Error> {
    let image = resolve(apt, meta)?;
    let tree = writer.temporary_directory("package")?;
    get(apt, &image, (writer, &tree), progress)?;
    if meta == Distro::Ubuntu.package(Need::Kernel) {
        // Ubuntu has the modules in packages of their own, and not every release has the second.
        let release = image.trim_start_matches("linux-image-").trim_start_matches("unsigned-");
        get(apt, &format!("linux-modules-{release}"), (writer, &tree), progress)?;
        match get(apt, &format!("linux-modules-extra-{release}"), (writer, &tree), progress) {
            // A module that is then missing is told by its name.
            Ok(()) | Err(Error::Download { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    unpacked(&tree, &image)
}

/// Downloads one package and unpacks it into the tree.
fn get(
    apt: &Apt,
    package: &str,
    (writer, tree): (&Writer, &Path),
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let name = || package.to_owned();
    progress(Progress::Downloading { package: name() });
    let download = writer.temporary_directory(&format!("download-{package}"))?;
    let mut command = Command::new(&apt.apt_get);
    command.args(["-q", "download", package]).current_dir(&download);
    writer.run(&mut command, DOWNLOAD_TIME).map_err(|error| match error {
        Error::HelperFailed { .. } | Error::HelperTimedOut { .. } => {
            Error::Download { package: name(), source: Box::new(error) }
        }
        other => other,
    })?;
    let file = only(&download, |name| name.ends_with(".deb"))?
        .ok_or_else(|| Error::EmptyPackage { package: name(), what: "downloaded file" })?;
    progress(Progress::Unpacking { package: name() });
    writer.run(Command::new(&apt.dpkg_deb).arg("-x").args([&file, tree]), UNPACK_TIME)?;
    Ok(())
}

/// The one package that the meta package depends on and that has a release in its name.
fn resolve(apt: &Apt, meta: &str) -> Result<String, Error> {
    let unknown = || Error::NoKernelPackage { package: meta.to_owned() };
    let query = run(Command::new(&apt.apt_cache).args(["depends", meta]), RESOLVE_TIME, None);
    let (text, _) = match query {
        Ok(output) => output,
        // apt-cache fails when it has no package of this name.
        Err(Error::HelperFailed { .. }) => return Err(unknown()),
        Err(error) => return Err(error),
    };
    depended_image(&text).ok_or_else(unknown)
}

fn depended_image(depends: &str) -> Option<String> {
    depends
        .lines()
        .filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends:"))
        .map(str::trim)
        .find(|package| {
            let rest = package.strip_prefix("linux-image-").unwrap_or_default();
            rest.trim_start_matches("unsigned-").starts_with(|c: char| c.is_ascii_digit())
        })
        .map(str::to_owned)
}

pub(super) fn unpacked(tree: &Path, package: &str) -> Result<Found, Error> {
    let empty = |what| Error::EmptyPackage { package: package.to_owned(), what };
    // With a merged /usr the modules are packed below usr/lib.
    let modules = ["lib/modules", "usr/lib/modules"]
        .iter()
        .find_map(|place| only(&tree.join(place), |_| true).transpose())
        .transpose()?
        .ok_or_else(|| empty("modules"))?;
    let image = match only(&tree.join("boot"), |name| name.starts_with("vmlinuz-"))? {
        Some(image) => image,
        None => only(&modules, |name| name == "vmlinuz")?.ok_or_else(|| empty("kernel"))?,
    };
    Ok(Found { origin: format!("package {package}"), image, modules: Some(modules) })
}

/// The first entry, by name, of a directory that may be missing.
fn only(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<PathBuf>, Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut first: Option<PathBuf> = None;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_name().to_str().is_some_and(&wanted)
            && first.as_ref().is_none_or(|first| path < *first)
        {
            first = Some(path);
        }
    }
    Ok(first)
}

/// The release of the kernel the host runs.
pub(super) fn host_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The kernel of this release as the host has it installed below `root`.
pub(super) fn host_kernel(root: &Path, release: &str, distro: Distro) -> Result<Found, Error> {
    // Fedora, Arch and openSUSE keep it beside the modules; Alpine names it by flavour only.
    let flavour = release.rsplit('-').next().unwrap_or(release);
    let images = [
        root.join(format!("boot/vmlinuz-{release}")),
        root.join(format!("lib/modules/{release}/vmlinuz")),
        root.join(format!("boot/vmlinuz-{flavour}")),
    ];
    let modules = root.join("lib/modules").join(release);
    // Some distributions let only root read it.
    let image = images.iter().find(|image| fs::File::open(image).is_ok());
    match image {
        Some(image) if modules.is_dir() => Ok(Found {
            origin: format!("the host's kernel {release}"),
            image: image.clone(),
            modules: Some(modules),
        }),
        _ => Err(Error::NoHostKernel {
            release: release.to_owned(),
            package: distro.package(Need::Kernel),
            tried: images.into_iter().chain([modules]).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(directory: &Path, name: &str, text: &str) -> OsString {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.into()
    }

    fn apt(directory: &Path, cache: &str, get: &str, deb: &str) -> Apt {
        Apt {
            apt_cache: script(directory, "apt-cache", cache),
            apt_get: script(directory, "apt-get", get),
            dpkg_deb: script(directory, "dpkg-deb", deb),
        }
    }

    const DEPENDS: &str = "echo \"$2\"; echo '  Depends: linux-image-6.1.0-9-cloud-amd64'";
    const UNPACK: &str =
        "mkdir -p $3/boot $3/lib/modules/6.1.0-9 && touch $3/boot/vmlinuz-6.1.0-9 $3/boot/config";

    #[test]
    fn a_package_is_resolved_downloaded_and_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        let writer = Writer::open(&directory.path().join("store"), || ()).unwrap();
        let apt = apt(directory.path(), DEPENDS, "touch $3_6.1_amd64.deb", UNPACK);
        let mut told = Vec::new();
        let found =
            package(&apt, "linux-image-cloud-amd64", &writer, &mut |step| told.push(step)).unwrap();
        assert!(found.image.ends_with("package/boot/vmlinuz-6.1.0-9"));
        assert!(found.modules.unwrap().ends_with("lib/modules/6.1.0-9"));
        let package = "linux-image-6.1.0-9-cloud-amd64".to_owned();
        assert_eq!(
            told,
            [Progress::Downloading { package: package.clone() }, Progress::Unpacking { package }]
        );
    }

    #[test]
    fn ubuntus_modules_are_fetched_too() {
        let directory = tempfile::tempdir().unwrap();
        let writer = Writer::open(&directory.path().join("store"), || ()).unwrap();
        let depends = "echo '  Depends: linux-image-6.8.0-31-generic'";
        let unpack = "case $2 in *modules*) mkdir -p $3/usr/lib/modules/6.8.0-31;; \
                      *) mkdir -p $3/boot; touch $3/boot/vmlinuz-6.8.0-31;; esac";
        let get = "case $3 in *extra*) exit 100;; esac; touch $3.deb";
        let apt = apt(directory.path(), depends, get, unpack);
        let found = package(&apt, "linux-image-virtual", &writer, &mut |_| ()).unwrap();
        assert!(found.modules.unwrap().ends_with("usr/lib/modules/6.8.0-31"));
    }

    #[test]
    fn a_package_that_is_unknown_says_to_update() {
        let directory = tempfile::tempdir().unwrap();
        let writer = Writer::open(&directory.path().join("store"), || ()).unwrap();
        for cache in ["echo 'E: No packages found' >&2; exit 100", "true"] {
            let apt = apt(directory.path(), cache, "true", "true");
            let error = package(&apt, "linux-image-cloud-amd64", &writer, &mut |_| ()).unwrap_err();
            assert!(error.to_string().contains("apt-get update"), "{error}");
        }
    }

    #[test]
    fn a_download_that_fails_says_to_update_and_keeps_apts_words() {
        let directory = tempfile::tempdir().unwrap();
        let writer = Writer::open(&directory.path().join("store"), || ()).unwrap();
        let apt = apt(directory.path(), DEPENDS, "echo 'E: 404' >&2; exit 100", "true");
        let error = package(&apt, "linux-image-cloud-amd64", &writer, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("apt-get update"), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("E: 404"), "{source}");
    }

    #[test]
    fn a_package_without_a_kernel_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let writer = Writer::open(&directory.path().join("store"), || ()).unwrap();
        let apt = apt(directory.path(), DEPENDS, "touch $3.deb", "true");
        let error = package(&apt, "linux-image-cloud-amd64", &writer, &mut |_| ()).unwrap_err();
        assert!(matches!(error, Error::EmptyPackage { .. }), "{error}");
    }

    #[test]
    fn only_an_image_with_a_release_is_taken() {
        for (text, image) in [
            (
                "  Depends: linux-base\n |Depends: linux-image-6.1-cloud\n",
                Some("linux-image-6.1-cloud"),
            ),
            (
                "  Depends: linux-image-unsigned-6.8.0-31-generic\n",
                Some("linux-image-unsigned-6.8.0-31-generic"),
            ),
            ("  Depends: linux-image-cloud-amd64\n  Depends: <linux-image-6.1>\n", None),
            ("  Recommends: linux-image-6.1\n", None),
        ] {
            assert_eq!(depended_image(text).as_deref(), image, "{text}");
        }
    }

    #[test]
    fn the_hosts_kernel_is_found_where_distributions_put_it() {
        for image in
            ["boot/vmlinuz-6.6.1-0-virt", "lib/modules/6.6.1-0-virt/vmlinuz", "boot/vmlinuz-virt"]
        {
            let root = tempfile::tempdir().unwrap();
            let missing = host_kernel(root.path(), "6.6.1-0-virt", Distro::Alpine).unwrap_err();
            assert!(missing.to_string().contains("linux-virt"), "{missing}");
            fs::create_dir_all(root.path().join("boot")).unwrap();
            fs::create_dir_all(root.path().join("lib/modules/6.6.1-0-virt")).unwrap();
            fs::write(root.path().join(image), b"x").unwrap();
            let found = host_kernel(root.path(), "6.6.1-0-virt", Distro::Alpine).unwrap();
            assert_eq!(found.image, root.path().join(image));
        }
    }
}
