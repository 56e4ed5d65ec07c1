//! tonoscope in a browser tab: what `page/worker.js` calls inside a Web Worker.
//!
//! `Session` is a model on a device. Its long actions are `async`: on a GPU the worker's events are served while they
//! wait, on the CPU between the steps of nothing; so progress and the wish to stop go through `bridge`, synchronously.
//! The models, the lens, the hooks are the library's. For wasm32 only; elsewhere this crate is empty.

#![cfg(target_arch = "wasm32")]

mod bridge;
mod capture;
mod crew;
mod device;
mod direction;
mod failure;
mod heat;
mod judge;
mod lens;
mod live;
mod memory;
mod model;
mod piece;
mod probes;
mod request;
mod self_test;
mod session;
mod startup;

pub use crew::help;
pub use device::self_test;
pub use lens::Lens;
pub use model::Digest;
pub use piece::Piece;
pub use session::Session;
pub use startup::start;
