//! Which distribution this is and what it calls the packages we need. Called where a message
//! tells the user what to install.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The families that differ in package names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distro {
    Debian,
    Ubuntu,
    Fedora,
    Rhel,
    Arch,
    Alpine,
    Suse,
    Unknown,
}

/// Something a package provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Qemu,
    Mke2fs,
    Debugfs,
    Kernel,
    Busybox,
    AptTools,
}

/// os-release is a few hundred bytes; nothing longer is read.
const OS_RELEASE_LIMIT: u64 = 64 << 10;

impl Distro {
    /// This host's, by os-release(5).
    pub(crate) fn current() -> Self {
        ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| read_bounded(Path::new(path)))
            .map_or(Distro::Unknown, |text| Self::from_os_release(&text))
    }

    /// `ID` decides; else the first known word of `ID_LIKE`.
    pub(crate) fn from_os_release(text: &str) -> Self {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(|value| value.trim_matches(['"', '\'']))
                .unwrap_or_default()
        };
        std::iter::once(value("ID"))
            .chain(value("ID_LIKE").split_whitespace())
            .find_map(|id| match id {
                "debian" => Some(Distro::Debian),
                "ubuntu" => Some(Distro::Ubuntu),
                "fedora" => Some(Distro::Fedora),
                "rhel" | "centos" => Some(Distro::Rhel),
                "arch" => Some(Distro::Arch),
                "alpine" => Some(Distro::Alpine),
                "suse" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" => Some(Distro::Suse),
                _ => None,
            })
            .unwrap_or(Distro::Unknown)
    }

    /// What to install for it here, as the distribution calls it.
    ///
    /// From packages.debian.org and packages.ubuntu.com (qemu-system-x86, e2fsprogs,
    /// busybox-static, linux-image-virtual), pkgs.alpinelinux.org (qemu, e2fsprogs-extra,
    /// busybox-static), archlinux.org/packages and its PKGBUILD of qemu (qemu-system-x86, busybox,
    /// which is static), packages.fedoraproject.org (busybox, which is static),
    /// qemu.org/download (qemu-kvm on RHEL), qemu.spec on build.opensuse.org (qemu-x86).
    pub(crate) fn package(self, need: Need) -> &'static str {
        use Distro::{Alpine, Arch, Debian, Fedora, Rhel, Suse, Ubuntu, Unknown};
        match (need, self) {
            (Need::Qemu, Debian | Ubuntu | Arch | Unknown) => "qemu-system-x86",
            (Need::Qemu, Alpine) => "qemu-system-x86_64",
            (Need::Qemu, Fedora) => "qemu-system-x86-core",
            (Need::Qemu, Rhel) => "qemu-kvm",
            (Need::Qemu, Suse) => "qemu-x86",
            (Need::Debugfs, Alpine) => "e2fsprogs-extra",
            (Need::Mke2fs | Need::Debugfs, _) => "e2fsprogs",
            (Need::Kernel, Debian | Unknown) => "linux-image-cloud-amd64",
            (Need::Kernel, Ubuntu) => "linux-image-virtual",
            (Need::Kernel, Fedora | Rhel) => "kernel-core",
            (Need::Kernel, Arch) => "linux",
            (Need::Kernel, Alpine) => "linux-virt",
            (Need::Kernel, Suse) => "kernel-default",
            (Need::Busybox, Debian | Ubuntu | Alpine | Suse) => "busybox-static",
            (Need::Busybox, _) => "busybox",
            (Need::AptTools, _) => "apt and dpkg",
        }
    }

    /// The package of a helper program.
    pub(crate) fn package_of(self, program: &str) -> &'static str {
        match program {
            "mke2fs" => self.package(Need::Mke2fs),
            "debugfs" => self.package(Need::Debugfs),
            _ => self.package(Need::AptTools),
        }
    }
}

fn read_bounded(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(OS_RELEASE_LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_known_by_its_id_or_its_parents() {
        for (text, distro) in [
            ("ID=debian\n", Distro::Debian),
            ("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n", Distro::Ubuntu),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Distro::Ubuntu),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Distro::Rhel),
            ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", Distro::Suse),
            ("ID=alpine\n", Distro::Alpine),
            ("ID=plan9\n", Distro::Unknown),
            ("", Distro::Unknown),
        ] {
            assert_eq!(Distro::from_os_release(text), distro, "{text}");
        }
    }
}
