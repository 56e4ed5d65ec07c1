//! Model names, the cache of the Hugging Face Hub, and downloads into it.
//!
//! The cache is the one of Python's `huggingface_hub`, so what was downloaded already is used, and what is
//! downloaded here is found there. Reading order: [`name`](ModelRef) (what `--model` may say),
//! [`built_in`](BuiltIn) (models inside the program),
//! [`config`](HubConfig) (the environment), [`wanted`](Wanted) (which files make a checkpoint),
//! [`store`](Store) (from a model to a folder), `http`, `download` and `plain` (how they come), `manage` and
//! `verify` (what `tonoscope models` does with them).
//!
//! Nothing here prints or ends the process. The environment is read in [`HubConfig::from_env`] alone.
//!
//! The crate `hf-hub` is not used: version 1.0 brings an asynchronous runtime and 171 more crates (ureq: 18),
//! and offers neither resume nor a stall time-out nor a checksum, nor a way to add them.

mod built_in;
mod checksum;
mod config;
mod download;
mod error;
mod http;
mod layout;
mod manage;
mod name;
mod plain;
mod progress;
mod proxy;
mod secret;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod wanted;

pub use built_in::BuiltIn;
pub use checksum::hex;
pub use config::HubConfig;
pub use config::{certificates, check_address};
pub use error::HubError;
pub use http::{agent, is_private, reason, text};
pub use manage::{CachedModel, Removed, Snapshot};
pub use name::{HubId, ModelRef, NameError, known_names};
pub use plain::fetch_url;
pub use progress::{Event, Progress};
pub use proxy::{Proxies, address, is_this_machine};
pub use secret::Token;
pub use store::{Checkpoint, Store};
pub use verify::{FileCheck, Outcome, all_sound};
pub use wanted::printable;
pub use wanted::{CLAP, ENCODEC, Inventory, KINDS, MUSICGEN, STABLE_AUDIO, T5, Wanted, Weights};
