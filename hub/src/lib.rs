//! Model names, the cache of the Hugging Face Hub, and downloads into it.
//!
//! The cache is the one of Python's `huggingface_hub`, so what was downloaded already is used, and what is
//! downloaded here is found there. Reading order: [`name`](ModelRef) (what `--model` may say),
//! [`built_in`](BuiltIn) (models inside the program),
//! [`config`](HubConfig) (the environment), [`wanted`](Wanted) (which files make a checkpoint),
//! [`store`](Store) (from a model to a folder), `http`, `download` and `plain` (how they come), `manage` and
//! `verify` (what `tonoscope models` does with them).
//!
//! Without the feature `network` no request is sent and no HTTP client is built: there are the models inside the program,
//! folders, and what the cache holds.
//!
//! Nothing here prints or ends the process. The environment is read in [`HubConfig::from_env`] alone.
//!
//! The crate `hf-hub` is not used: `docs/hub.md` says why, test by test.

#![cfg_attr(
    not(feature = "network"),
    allow(dead_code, reason = "what only downloads use is checked in a build with them")
)]

mod built_in;
mod checksum;
mod config;
#[cfg(feature = "network")]
mod download;
mod error;
#[cfg(feature = "network")]
mod fetch;
#[cfg(feature = "network")]
mod http;
mod layout;
mod manage;
mod name;
#[cfg(feature = "network")]
mod plain;
mod progress;
#[cfg(feature = "network")]
mod proxy;
mod secret;
mod store;
#[cfg(test)]
#[cfg(feature = "network")]
mod tests;
mod verify;
mod wanted;

pub use built_in::BuiltIn;
pub use checksum::hex;
pub use config::HubConfig;
pub use config::certificates;
#[cfg(feature = "network")]
pub use config::check_address;
pub use error::HubError;
#[cfg(feature = "network")]
pub use http::{agent, is_private, reason, text};
pub use manage::{CachedModel, Removed, Snapshot};
pub use name::{HubId, ModelRef, NameError, known_names};
#[cfg(feature = "network")]
pub use plain::fetch_url;
pub use progress::{Event, Progress};
#[cfg(feature = "network")]
pub use proxy::{Proxies, address, is_this_machine};
pub use secret::Token;
pub use store::{Checkpoint, Store};
pub use verify::{FileCheck, Outcome, all_sound};
pub use wanted::printable;
pub use wanted::{CLAP, ENCODEC, Inventory, KINDS, MUSICGEN, STABLE_AUDIO, T5, Wanted, Weights};
