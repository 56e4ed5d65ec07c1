//! A tokenizer of captions, and the text encoder that goes with it.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tonoscope_core::{models::t5::T5Config, training::word_tokenizer};

use crate::failure::Misuse;

/// What captions decide.
pub(super) struct Captions {
    /// Content of `tokenizer.json`.
    pub(super) tokenizer: String,
    pub(super) text_encoder: T5Config,
}

/// The tokenizer of the words in `captions`, or the one in `start`; `text_encoder` is the settings' table `name`, without
/// `vocab_size`.
pub(super) fn captioned(
    captions: &[String],
    start: Option<&Path>,
    text_encoder: &toml::Table,
    name: &str,
) -> Result<Captions> {
    let (tokenizer, pieces) = words(captions.iter().map(String::as_str), start, |_| ())?;
    let mut table = text_encoder.clone();
    table.insert("vocab_size".to_owned(), toml::Value::Integer(pieces.next_multiple_of(16) as i64));
    let wrong = |error: toml::de::Error| Misuse::new(format!("`{name}`: {error}"));
    Ok(Captions { tokenizer, text_encoder: toml::Value::Table(table).try_into().map_err(wrong)? })
}

/// The content of `tokenizer.json` for `captions`, after `adapt`, and the number of its pieces; of a model that begins as another
/// one, the file `start` of that, as it is.
pub(super) fn words<'a>(
    captions: impl IntoIterator<Item = &'a str>,
    start: Option<&Path>,
    adapt: impl FnOnce(&mut Value),
) -> Result<(String, usize)> {
    let Some(path) = start else {
        let (mut tokenizer, pieces) = word_tokenizer(captions);
        adapt(&mut tokenizer);
        return Ok((tokenizer.to_string(), pieces));
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let tokenizer: Value = serde_json::from_str(&text).with_context(|| format!("`{}`", path.display()))?;
    let pieces = tokenizer["model"]["vocab"].as_array().map(Vec::len);
    Ok((text, pieces.with_context(|| format!("`{}` lists no pieces of words", path.display()))?))
}
