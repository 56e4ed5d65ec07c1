//! A tokenizer of captions, and the text encoder that goes with it.

use anyhow::Result;
use tonoscope_core::{models::t5::T5Config, training::word_tokenizer};

use crate::failure::Misuse;

/// What captions decide.
pub(super) struct Captions {
    /// Content of `tokenizer.json`.
    pub(super) tokenizer: String,
    pub(super) text_encoder: T5Config,
}

/// The tokenizer of the words in `captions`; `text_encoder` is the settings' table `name`, without `vocab_size`.
pub(super) fn captioned(captions: &[String], text_encoder: &toml::Table, name: &str) -> Result<Captions> {
    let (tokenizer, pieces) = word_tokenizer(captions.iter().map(String::as_str));
    let mut table = text_encoder.clone();
    table.insert("vocab_size".to_owned(), toml::Value::Integer(pieces.next_multiple_of(16) as i64));
    let wrong = |error: toml::de::Error| Misuse::new(format!("`{name}`: {error}"));
    Ok(Captions {
        tokenizer: tokenizer.to_string(),
        text_encoder: toml::Value::Table(table).try_into().map_err(wrong)?,
    })
}
