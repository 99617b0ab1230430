//! Whether the kernel killed for want of memory. Asked by `guest` when a child was killed.

/// How many processes the kernel has killed so (proc(5), `/proc/vmstat`, `oom_kill`), as far as it says.
pub(crate) fn kills() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
