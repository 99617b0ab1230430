//! The shape of a box: what a template depends on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ByteSize;

/// vCPUs and memory of a VM. Boxes of the same shape start from the same template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "RawShape", into = "RawShape")]
pub struct Shape {
    cpus: u32,
    memory_mib: u32,
}

/// A shape as it is written to disk, before it is checked.
#[derive(Serialize, Deserialize)]
struct RawShape {
    cpus: u32,
    memory_mib: u32,
}

/// Why no box has this shape.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// Fewer than one vCPU or more than [`Shape::MAX_CPUS`].
    #[error("a box takes 1 to {max} CPUs, not {0}", max = Shape::MAX_CPUS)]
    Cpus(u32),
    /// Less than [`Shape::MIN_MEMORY_MIB`].
    #[error("a box takes at least {min} MiB of memory, not {0}", min = Shape::MIN_MEMORY_MIB)]
    Memory(ByteSize),
    /// More than [`Shape::MAX_MEMORY_MIB`].
    #[error("a box takes at most {max} MiB of memory, not {0}", max = Shape::MAX_MEMORY_MIB)]
    TooMuchMemory(ByteSize),
}

impl Shape {
    /// The most vCPUs of a box.
    pub const MAX_CPUS: u32 = 64;
    /// The least memory of a box, in MiB: the kernel and the guest need about half of it.
    pub const MIN_MEMORY_MIB: u32 = 64;
    /// The most memory of a box, in MiB.
    pub const MAX_MEMORY_MIB: u32 = 1 << 20;

    /// A checked shape. `memory` is rounded up to whole MiB.
    ///
    /// # Errors
    /// When a number is out of the bounds above. The host's own size is the caller's to check.
    pub fn new(cpus: u32, memory: ByteSize) -> Result<Self, ShapeError> {
        if !(1..=Self::MAX_CPUS).contains(&cpus) {
            return Err(ShapeError::Cpus(cpus));
        }
        let mib = memory.bytes().div_ceil(1 << 20);
        if mib < u64::from(Self::MIN_MEMORY_MIB) {
            return Err(ShapeError::Memory(memory));
        }
        match u32::try_from(mib) {
            Ok(memory_mib) if memory_mib <= Self::MAX_MEMORY_MIB => Ok(Shape { cpus, memory_mib }),
            _ => Err(ShapeError::TooMuchMemory(memory)),
        }
    }

    /// vCPUs.
    pub fn cpus(self) -> u32 {
        self.cpus
    }

    /// Memory in MiB.
    pub fn memory_mib(self) -> u32 {
        self.memory_mib
    }

    /// Memory in bytes.
    pub fn memory_bytes(self) -> u64 {
        u64::from(self.memory_mib) << 20
    }
}

impl Default for Shape {
    /// 1 vCPU and 512 MiB.
    fn default() -> Self {
        Shape { cpus: 1, memory_mib: 512 }
    }
}

impl TryFrom<RawShape> for Shape {
    type Error = ShapeError;

    fn try_from(raw: RawShape) -> Result<Self, ShapeError> {
        Shape::new(raw.cpus, ByteSize::from_bytes(u64::from(raw.memory_mib) << 20))
    }
}

impl From<Shape> for RawShape {
    fn from(shape: Shape) -> RawShape {
        RawShape { cpus: shape.cpus, memory_mib: shape.memory_mib }
    }
}

impl fmt::Display for Shape {
    /// `1cpu-512mib`: also safe as part of a file name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}cpu-{}mib", self.cpus, self.memory_mib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_bounds() {
        let mib = |n: u64| ByteSize::from_bytes(n << 20);
        assert_eq!(Shape::new(1, mib(512)).unwrap(), Shape::default());
        assert!(Shape::new(1, mib(64)).is_ok());
        assert!(Shape::new(1, mib(63)).is_err());
        assert!(Shape::new(0, mib(512)).is_err());
        assert!(Shape::new(65, mib(512)).is_err());
        assert!(Shape::new(1, ByteSize::from_bytes(u64::MAX)).is_err());
        assert_eq!(Shape::new(1, ByteSize::from_bytes((64 << 20) + 1)).unwrap().memory_mib(), 65);
    }
}
