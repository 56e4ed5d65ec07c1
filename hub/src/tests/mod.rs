//! The store against a Hub on 127.0.0.1. No test reads the environment. They look at symbolic links.
#![cfg(unix)]

mod cache;
mod downloads;
mod fuzz;
mod mirrors;
mod names;
mod server;

use std::path::Path;
use std::time::Duration;

use super::*;
use server::{COMMIT, FakeHub};

const ID: &str = "org/model";

/// Bytes without a pattern that a shifted copy would share.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(len)
    .collect()
}

/// A Hub with a small MusicGen whose weights are `weights`.
fn hub_with(weights: &[u8]) -> FakeHub {
    FakeHub::start()
        .with("config.json", r#"{"model_type": "musicgen"}"#)
        .with("generation_config.json", "{}")
        .with("tokenizer.json", "{}")
        .with("model.safetensors", weights)
}

fn config(cache: &Path, hub: &FakeHub) -> HubConfig {
    HubConfig {
        endpoint: hub.address.clone(),
        stall: Duration::from_millis(400),
        retries: 2,
        backoff: Duration::from_millis(1),
        ..HubConfig::new(cache.to_owned())
    }
}

fn store(cache: &Path, hub: &FakeHub) -> Store {
    Store::new(config(cache, hub))
}

fn model() -> ModelRef {
    ModelRef::parse(ID, None).unwrap()
}

fn fetch(store: &Store) -> Result<Checkpoint, HubError> {
    store.fetch(&model(), &MUSICGEN, &mut |_: Event<'_>| {})
}

/// The partial file of `content`.
fn partial(cache: &Path, content: &[u8]) -> std::path::PathBuf {
    let etag = server::etag("model.safetensors", content);
    cache.join("models--org--model/blobs").join(format!("{etag}.incomplete"))
}

/// A valid safetensors file with one tensor `name` of `len` bytes.
fn safetensors(name: &str, len: usize) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[{len}],"data_offsets":[0,{len}]}}}}"#);
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &noise(len)].concat()
}
