//! Every bound on what comes from outside, in one place. Called by all readers and by the tree.

/// The size of a block of the image, the unit in which file data is placed.
pub(crate) const BLOCK: u64 = 4096;

/// The apparent size of every block image, 32 GiB, and so the limit of an image's content.
///
/// It is the same for all images because a VM restored from a template must see the very disk
/// capacity the template was frozen with. The files are sparse: only content takes space.
pub const IMAGE_DISK_BYTES: u64 = 32 << 30;

/// The most bytes of a manifest, an index or a configuration.
pub(crate) const JSON_BYTES: u64 = 4 << 20;

/// The most layers of an image; Docker's own limit is 125.
pub(crate) const LAYERS: usize = 128;

/// The most images in one archive.
pub(crate) const IMAGES: usize = 256;

/// The most members of an archive (not of a layer).
pub(crate) const MEMBERS: usize = 65_536;

/// How deep an index may nest in an index.
pub(crate) const INDEX_DEPTH: usize = 4;

/// The most indexes and manifests that are looked into for the images of one archive.
pub(crate) const DESCRIPTORS: usize = 1024;

/// The most plain bytes of an archive that has to be kept while it is read: one that is compressed
/// as a whole or comes through a pipe.
pub(crate) const SPOOL_BYTES: u64 = 2 * IMAGE_DISK_BYTES;

/// The most bytes of a file of the store itself.
pub(crate) const STORE_FILE_BYTES: u64 = 64 << 20;

/// The longest file name, NAME_MAX.
pub(crate) const NAME_LEN: usize = 255;

/// The longest path of an entry, PATH_MAX without its NUL.
pub(crate) const PATH_LEN: usize = 4095;

/// The longest target of a symbolic link.
pub(crate) const SYMLINK_LEN: usize = 4095;

/// How many directories deep a tree may be.
pub(crate) const DEPTH: usize = 512;

/// How many symbolic links one path may run through, as in path_resolution(7).
pub(crate) const SYMLINK_FOLLOWS: usize = 40;

/// The most bytes of one PAX header, as in Go's archive/tar.
pub(crate) const PAX_BYTES: u64 = 1 << 20;

/// The most bytes of one GNU long-name header.
pub(crate) const GNU_NAME_BYTES: u64 = 1 << 16;

/// The most stored pieces of one sparse file.
pub(crate) const SPARSE_PIECES: usize = 1 << 18;

/// The most bytes of extended attributes of one file.
pub(crate) const XATTR_BYTES: usize = 128 << 10;

/// The most extended attributes of one file.
pub(crate) const XATTRS: usize = 512;

/// What one image may take altogether. Tests lower it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the block image, and of the uncompressed layers together.
    pub(crate) disk: u64,
    /// Entries of all layers, with those that later layers remove.
    pub(crate) entries: u64,
    /// Bytes of the names and link targets of all entries.
    pub(crate) names: u64,
    /// Bytes of the extended attributes of all entries.
    pub(crate) xattrs: u64,
    /// Directory entries looked at to resolve all paths and marks: bounds the time that paths
    /// through chains of symbolic links can burn.
    pub(crate) lookups: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            disk: IMAGE_DISK_BYTES,
            entries: 2 << 20,
            names: 256 << 20,
            xattrs: 64 << 20,
            lookups: 1 << 28,
        }
    }
}
