//! `mos.conf` → [`Config`]: the grammar in one file, the model in another.

mod model;
pub use model::*;
