//! Names for boxes that were given none.

use boxwood_types::BoxName;

const QUALITIES: [&str; 48] = [
    "able", "agile", "amber", "bold", "brave", "brisk", "bright", "calm", "clear", "clever",
    "cosy", "crisp", "deft", "eager", "early", "fair", "fleet", "fond", "frank", "fresh", "gentle",
    "glad", "golden", "grand", "happy", "hardy", "honest", "keen", "kind", "light", "lively",
    "loyal", "lucid", "mellow", "merry", "neat", "nimble", "noble", "plain", "proud", "quick",
    "quiet", "ready", "sharp", "smooth", "steady", "sunny", "swift",
];

const PLANTS: [&str; 48] = [
    "acacia", "alder", "almond", "apple", "ash", "aspen", "bamboo", "bay", "beech", "birch",
    "cedar", "cherry", "cypress", "elder", "elm", "fern", "fig", "fir", "gorse", "hazel",
    "heather", "hemlock", "hickory", "holly", "hornbeam", "ivy", "juniper", "larch", "laurel",
    "lilac", "lime", "maple", "medlar", "myrtle", "oak", "olive", "osier", "pear", "pine", "plane",
    "plum", "poplar", "quince", "rowan", "sorrel", "spruce", "willow", "yew",
];

/// The name these random bytes stand for: `quick_rowan`, or `quick_rowan7` when simpler ones were
/// taken.
pub(crate) fn name(random: [u8; 4], attempt: u32) -> BoxName {
    let quality = QUALITIES[usize::from(random[0]) % QUALITIES.len()];
    let plant = PLANTS[usize::from(random[1]) % PLANTS.len()];
    let number = u32::from(u16::from_le_bytes([random[2], random[3]]));
    let text = match attempt {
        0 => format!("{quality}_{plant}"),
        1..=3 => format!("{quality}_{plant}{}", number % 10),
        _ => format!("{quality}_{plant}{number}"),
    };
    text.parse().expect("made of letters and digits")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_name_is_one() {
        for byte in 0..=255 {
            for attempt in [0, 1, 9] {
                super::name([byte, byte, byte, byte], attempt);
            }
        }
    }
}
