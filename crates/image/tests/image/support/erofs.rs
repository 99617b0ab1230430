//! An EROFS reader for the tests, written from the format's description and not from the writer:
//! it reads compact and extended inodes, plain and inline, and checks what it can on the way.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file as the image has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) inode: u64,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) links: u32,
    /// Bytes of a file, the target of a symbolic link; the number of a device.
    pub(crate) content: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) device: u32,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

/// All of an image, by path; the root is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Node>);

struct Image {
    file: File,
    meta: u64,
}

const BLOCK: u64 = 4096;

/// Content longer than this is not read.
const CONTENT: u64 = 1 << 24;

impl Tree {
    pub(crate) fn read(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let head = bytes(&file, 0, BLOCK);
        let sb = &head[1024..];
        assert_eq!(u32_at(sb, 0), 0xE0F5_E1E2, "magic");
        assert_eq!(sb[12], 12, "block size");
        assert_eq!(u32_at(sb, 80), 0, "incompatible features");
        let used = u64::from(u32_at(sb, 36)) * BLOCK;
        assert!(used <= file.metadata().unwrap().len());
        let image = Image { file, meta: u64::from(u32_at(sb, 40)) * BLOCK };
        let root = u64::from(u16_at(sb, 14));
        let mut tree = Tree::default();
        image.walk(root, root, String::new(), &mut tree);
        let inodes: std::collections::BTreeSet<u64> =
            tree.0.values().map(|node| node.inode).collect();
        assert_eq!(u64::from(u32_at(sb, 16)), inodes.len() as u64, "number of inodes");
        tree
    }

    pub(crate) fn paths(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).filter(|path| !path.is_empty()).collect()
    }

    pub(crate) fn get(&self, path: &str) -> &Node {
        self.0.get(path).unwrap_or_else(|| panic!("no {path} in {:?}", self.paths()))
    }

    pub(crate) fn text(&self, path: &str) -> &str {
        std::str::from_utf8(&self.get(path).content).unwrap()
    }
}

impl Image {
    fn walk(&self, nid: u64, parent: u64, path: String, tree: &mut Tree) {
        let node = self.inode(nid);
        let is_directory = node.mode & 0o170_000 == 0o040_000;
        let entries = if is_directory { self.entries(&node) } else { Vec::new() };
        tree.0.insert(path.clone(), node);
        let mut last: Option<Vec<u8>> = None;
        for (name, child, kind) in entries {
            assert!(last.is_none_or(|last| last < name), "names are sorted in {path}");
            match &*name {
                b"." => assert_eq!(child, nid, "'.' of {path}"),
                b".." => assert_eq!(child, parent, "'..' of {path}"),
                _ => {
                    let shown = name.escape_ascii().to_string();
                    let path = if path.is_empty() { shown } else { format!("{path}/{shown}") };
                    self.walk(child, nid, path.clone(), tree);
                    let expected = [0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6];
                    let mode = tree.get(&path).mode;
                    assert_eq!(kind, expected[usize::from(mode >> 12)], "type of {path}");
                }
            }
            last = Some(name);
        }
    }

    fn inode(&self, nid: u64) -> Node {
        let at = self.meta + nid * 32;
        let head = bytes(&self.file, at, 64);
        let format = u16_at(&head, 0);
        assert_eq!(format & 1, 1, "extended inodes only");
        let layout = (format >> 1) & 7;
        assert!(at % BLOCK + 64 <= BLOCK, "an inode crosses a block");
        let icount = u64::from(u16_at(&head, 2));
        let xattr_len = if icount == 0 { 0 } else { 12 + 4 * (icount - 1) };
        let mode = u16_at(&head, 4);
        let size = u64_at(&head, 8);
        let address = u32_at(&head, 16);
        let has_content = matches!(mode >> 12, 4 | 8 | 10);
        let content = match has_content && size <= CONTENT {
            true => self.content(size, u64::from(address), layout, at + 64 + xattr_len),
            false => Vec::new(),
        };
        Node {
            inode: nid,
            mode,
            uid: u32_at(&head, 24),
            gid: u32_at(&head, 28),
            mtime: (u64_at(&head, 32) as i64, u32_at(&head, 40)),
            links: u32_at(&head, 44),
            content,
            size,
            device: if has_content { 0 } else { address },
            xattrs: self.xattrs(at + 64, xattr_len),
        }
    }

    fn content(&self, size: u64, block: u64, layout: u16, tail_at: u64) -> Vec<u8> {
        match layout {
            0 => bytes(&self.file, block * BLOCK, size),
            2 => {
                let tail = size % BLOCK;
                assert!(tail > 0 && tail_at % BLOCK + tail <= BLOCK, "a tail crosses a block");
                let mut content = bytes(&self.file, block * BLOCK, size - tail);
                content.extend(bytes(&self.file, tail_at, tail));
                content
            }
            _ => panic!("layout {layout}"),
        }
    }

    fn entries(&self, node: &Node) -> Vec<(Vec<u8>, u64, u8)> {
        let mut entries = Vec::new();
        for block in node.content.chunks(BLOCK as usize) {
            let count = usize::from(u16_at(block, 8)) / 12;
            for at in 0..count {
                let entry = &block[at * 12..];
                let start = usize::from(u16_at(entry, 8));
                let end = match at + 1 < count {
                    true => usize::from(u16_at(&block[(at + 1) * 12..], 8)),
                    false => {
                        let rest = &block[start..];
                        start + rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())
                    }
                };
                entries.push((block[start..end].to_vec(), u64_at(entry, 0), entry[10]));
            }
        }
        entries
    }

    fn xattrs(&self, at: u64, len: u64) -> BTreeMap<String, Vec<u8>> {
        let mut xattrs = BTreeMap::new();
        if len == 0 {
            return xattrs;
        }
        let body = bytes(&self.file, at, len);
        assert_eq!(body[4], 0, "shared attributes");
        let mut at = 12;
        while at < body.len() {
            let (name_len, index) = (usize::from(body[at]), body[at + 1]);
            let value_len = usize::from(u16_at(&body, at + 2));
            let prefix = match index {
                1 => "user.",
                2 => "system.posix_acl_access",
                3 => "system.posix_acl_default",
                4 => "trusted.",
                6 => "security.",
                _ => panic!("xattr index {index}"),
            };
            let (name, value) = body[at + 4..].split_at(name_len);
            let name = format!("{prefix}{}", name.escape_ascii());
            xattrs.insert(name, value[..value_len].to_vec());
            at += (4 + name_len + value_len).next_multiple_of(4);
        }
        xattrs
    }
}

fn bytes(file: &File, at: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, at).unwrap();
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
