//! `--log-opt`: how much of a log is kept, as with Docker's local driver. Used by `run` and `create`.

use anyhow::{Context, bail};
use boxwood_runtime::state::log::LogPolicy;
use boxwood_types::ByteSize;

/// What all of them say together; later ones win.
pub(crate) fn policy(options: &[String]) -> anyhow::Result<LogPolicy> {
    let mut policy = LogPolicy::default();
    for option in options {
        let Some((name, value)) = option.split_once('=') else {
            bail!("invalid log opt '{option}': write NAME=VALUE");
        };
        match name {
            "max-size" if value == "-1" => policy.max_size = u64::MAX,
            "max-size" => {
                let size: ByteSize =
                    value.parse().with_context(|| format!("invalid log opt '{option}'"))?;
                policy.max_size = size.bytes();
                if policy.max_size == 0 {
                    bail!("invalid log opt '{option}': max-size must be a positive number");
                }
            }
            "max-file" => match value.parse() {
                Ok(0) => bail!("invalid log opt '{option}': max-file cannot be less than 1"),
                Ok(count) => policy.max_files = count,
                Err(_) => bail!("invalid log opt '{option}': max-file must be a number"),
            },
            _ => bail!("unknown log opt '{name}' for local log driver: max-size, max-file"),
        }
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    #[test]
    fn h11_options_are_dockers() {
        let policy = |options: &[&str]| {
            super::policy(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        };
        let set = policy(&["max-size=1m", "max-file=3", "max-size=10k"]).unwrap();
        assert_eq!((set.max_size, set.max_files), (10 << 10, 3));
        assert_eq!(policy(&["max-size=-1"]).unwrap().max_size, u64::MAX);
        for wrong in ["max-size=0", "max-file=0", "max-file=x", "mode=async", "x", "max-size=lots"]
        {
            assert!(policy(&[wrong]).is_err(), "{wrong}");
        }
    }
}
