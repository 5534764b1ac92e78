//! `mos.conf` → [`Config`]: the grammar in one file, the model in another.
//!
//! * `grammar`: text → blocks and lines with their positions, no meaning.
//! * `parse`: blocks → [`Config`]; `value`: the forms a value may have (numbers, addresses, names).
//! * `netdev_env`: `MOS_NETDEV`, the device list from the environment.
//! * `args`: command-line splitting for `run`, `dpdk { eal }` and `StrToArgs`.
//! * `dump`: what `mtcp_init` prints. `diag`: warnings and errors with file and line.
//!
//! Nothing here prints, exits or panics; what is wrong with a file comes back as data.

mod args;
mod diag;
mod dump;
mod grammar;
mod model;
mod netdev_env;
mod parse;
mod value;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use args::{split_args, split_in_place};
pub use diag::{ConfigError, Diagnostic};
pub use model::*;
pub use value::{MAX_SECONDS, round_rmem_size, round_wmem_size};

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Largest configuration file read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A configuration that can be used, and what was odd about its text.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// Lines without effect, values changed, and notices, in file order.
    pub warnings: Vec<Diagnostic>,
    /// Set when `mos` has no `netdev` block: an error unless `MOS_NETDEV` names devices.
    missing_netdev: Option<Diagnostic>,
}

impl Loaded {
    /// The last check, after [`Config::apply_netdev_env`] had its chance: a configuration without a
    /// `netdev` block needs devices from elsewhere. (An empty block is allowed: no devices.)
    pub fn validate(&self) -> Result<(), ConfigError> {
        match &self.missing_netdev {
            Some(missing) if self.config.mos.netdevs.is_empty() => {
                Err(ConfigError::new(vec![missing.clone()], self.warnings.clone()))
            }
            _ => Ok(()),
        }
    }
}

impl Config {
    /// Reads and parses the file at `path`. Fails when it cannot be read, when there is no `mos` block,
    /// and when an `application` has no `run` words (endpoint-io §2, D15).
    pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
        let name = path.display().to_string();
        let fail = |message: String| Err(ConfigError::of_file(&name, message));
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) => return fail(format!("cannot open the configuration file: {e}")),
        };
        let mut bytes = Vec::new();
        if let Err(e) = file.take(MAX_FILE + 1).read_to_end(&mut bytes) {
            return fail(format!("cannot read the configuration file: {e}"));
        }
        if bytes.len() as u64 > MAX_FILE {
            return fail(format!(
                "expected a configuration file of at most {MAX_FILE} bytes, found a longer one"
            ));
        }
        Self::parse(&bytes, &name)
    }

    /// Parses a configuration text; `file_name` is what diagnostics call it. Fails as [`Config::load`].
    pub fn parse(text: impl AsRef<[u8]>, file_name: &str) -> Result<Loaded, ConfigError> {
        parse::parse(text.as_ref(), file_name)
    }
}
