//! The checkpoint's own tokenizer.

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::checkpoint::{guarded, guarded_on_a_large_stack};

/// Longest `tokenizer.json` that is parsed, in bytes; a published one has some 2 MB.
const LONGEST: usize = 64 << 20;
/// Longest token, in bytes. `tokenizers` keeps a node for each byte, and frees one within the other.
const LONGEST_TOKEN: usize = 1024;

/// Ids of a tokenised prompt.
pub type TokenIds = Vec<u32>;

/// A prompt that cannot be given to the text encoder.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// `tokenizer.json` cannot be read or does not parse.
    #[error("{0}")]
    File(String),
    /// More tokens than the encoder was made for.
    #[error("the prompt has {tokens} tokens, the text encoder takes {limit}")]
    TooLong {
        /// Tokens of the prompt, the end token included.
        tokens: usize,
        /// The most that are allowed.
        limit: usize,
    },
    /// An id that the encoder has no row for.
    #[error("token id {id} is beyond the text encoder's vocabulary of {vocab_size}: tokenizer and model do not match")]
    OutOfVocabulary {
        /// The id.
        id: u32,
        /// Rows of the encoder's table.
        vocab_size: usize,
    },
    /// The tokenizer itself fails.
    #[error("the tokenizer fails: {0}")]
    Tokenizer(String),
}

/// Text to ids, as `tokenizer.json` says.
#[derive(Debug, Clone)]
pub struct T5Tokenizer {
    tokenizer: Tokenizer,
    limit: usize,
    vocab_size: usize,
    /// Stands for all text that the vocabulary has no piece for.
    unknown: Option<u32>,
}

/// What `tokenizer.json` says of the unknown token.
#[derive(serde::Deserialize)]
struct UnknownToken {
    model: UnknownTokenModel,
}

#[derive(serde::Deserialize)]
struct UnknownTokenModel {
    /// Of a Unigram model.
    #[serde(default)]
    unk_id: Option<u32>,
    /// Of all other models.
    #[serde(default)]
    unk_token: Option<String>,
}

impl T5Tokenizer {
    /// Parses the content of a `tokenizer.json` for an encoder that takes `limit` tokens out of `vocab_size`.
    ///
    /// # Errors
    /// [`TokenError::File`].
    pub fn from_bytes(json: &[u8], limit: usize, vocab_size: usize) -> Result<Self, TokenError> {
        let damaged = |reason: String| TokenError::File(format!("`tokenizer.json` does not parse: {reason}"));
        check(json).map_err(damaged)?;
        let parse = || {
            let mut tokenizer = Tokenizer::from_bytes(json)?;
            tokenizer.with_padding(None);
            tokenizer.with_truncation(None)?;
            // A tokenizer whose parts do not fit fails at its first text.
            tokenizer.encode("a", true)?;
            Ok(tokenizer)
        };
        let parsed: Option<tokenizers::Result<Tokenizer>> = guarded_on_a_large_stack(parse);
        let parsed = parsed.ok_or_else(|| damaged("its parts contradict each other".to_owned()))?;
        let tokenizer = parsed.map_err(|error| damaged(error.to_string()))?;
        let UnknownToken { model } = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
        let unknown = model.unk_id.or_else(|| tokenizer.token_to_id(&model.unk_token?));
        Ok(Self { tokenizer, limit, vocab_size, unknown })
    }

    /// As [`Self::from_bytes`], of the file at `path`.
    ///
    /// # Errors
    /// [`TokenError::File`].
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn from_file(path: &std::path::Path, limit: usize, vocab_size: usize) -> Result<Self, TokenError> {
        let refused = |error: crate::checkpoint::LoadError| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            TokenError::File(format!("{error}{source}"))
        };
        let bytes = crate::checkpoint::read_small(path, LONGEST as u64).map_err(refused)?;
        crate::checkpoint::refuse_pointer(path, &bytes).map_err(refused)?;
        Self::from_bytes(&bytes, limit, vocab_size)
    }

    /// Ids of `prompt`, the end token included; none for a prompt without text.
    ///
    /// # Errors
    /// [`TokenError::TooLong`] says how many tokens there are.
    pub fn encode(&self, prompt: &str) -> Result<TokenIds, TokenError> {
        if prompt.trim().is_empty() {
            return Ok(vec![]);
        }
        let ids = self.ids(prompt)?;
        if ids.len() > self.limit {
            return Err(TokenError::TooLong { tokens: ids.len(), limit: self.limit });
        }
        Ok(ids)
    }

    /// As [`Self::encode`], but what is too long is cut, the end token being kept; also says how many tokens were cut.
    ///
    /// # Errors
    /// [`TokenError::OutOfVocabulary`] or [`TokenError::Tokenizer`].
    pub fn encode_truncated(&self, prompt: &str) -> Result<(TokenIds, usize), TokenError> {
        if prompt.trim().is_empty() {
            return Ok((vec![], 0));
        }
        let mut ids = self.ids(prompt)?;
        let cut = ids.len().saturating_sub(self.limit);
        let end = ids.len().saturating_sub(1);
        ids.drain(end - cut.min(end)..end);
        Ok((ids, cut))
    }

    /// How many of `ids` stand for text that the vocabulary has no piece for. The model cannot tell such texts apart.
    pub fn unknown_tokens(&self, ids: &[u32]) -> usize {
        self.unknown.map_or(0, |unknown| ids.iter().filter(|id| **id == unknown).count())
    }

    /// The tokens of `ids` as they stand in the vocabulary.
    pub fn tokens(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.tokenizer.id_to_token(id).unwrap_or_else(|| format!("<{id}>"))).collect()
    }

    fn ids(&self, prompt: &str) -> Result<TokenIds, TokenError> {
        let encoding = guarded(|| self.tokenizer.encode(prompt, true));
        let encoding = encoding.ok_or_else(|| TokenError::Tokenizer("its parts contradict each other".to_owned()))?;
        let encoding = encoding.map_err(|error| TokenError::Tokenizer(error.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            return Err(TokenError::OutOfVocabulary { id, vocab_size: self.vocab_size });
        }
        Ok(ids)
    }
}

/// Refuses what makes `tokenizers` panic or overflow the stack.
fn check(json: &[u8]) -> Result<(), String> {
    if json.len() > LONGEST {
        return Err(format!("it has {} bytes, expected {LONGEST} at most", json.len()));
    }
    // Nesting is bounded by this parser.
    let whole: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let is_long = |token: &&str| token.len() > LONGEST_TOKEN;
    let vocabulary = &whole["model"]["vocab"];
    let listed = vocabulary.as_array().into_iter().flatten().filter_map(|entry| entry.get(0)?.as_str());
    let keyed = vocabulary.as_object().into_iter().flat_map(|entries| entries.keys().map(String::as_str));
    let added = whole["added_tokens"].as_array().into_iter().flatten().filter_map(|token| token["content"].as_str());
    match listed.chain(keyed).chain(added).find(is_long) {
        Some(token) => Err(format!("a token has {} bytes, expected {LONGEST_TOKEN} at most", token.len())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tokenizer(change: impl Fn(&mut Value)) -> Result<TokenIds, String> {
        let mut whole = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [{"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}],
            "normalizer": null, "decoder": null,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
            "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": false,
                "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u{2581}", -2.0], ["a", -3.0]]},
        });
        change(&mut whole);
        let tokenizer =
            T5Tokenizer::from_bytes(whole.to_string().as_bytes(), 16, 8).map_err(|error| error.to_string())?;
        tokenizer.encode("a").map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_tokenizer_is_read_and_one_whose_parts_contradict_each_other_is_refused() {
        assert_eq!(tokenizer(|_| ()), Ok(vec![3, 4, 1]));
        let template = tokenizer(|whole| whole["post_processor"]["special_tokens"] = json!({}));
        assert!(template.is_err_and(|error| error.starts_with("`tokenizer.json` does not parse: ")));
        let unknown = tokenizer(|whole| whole["model"]["unk_id"] = json!(70));
        assert!(unknown.is_err_and(|error| error.starts_with("`tokenizer.json` does not parse: ")));
        let long = tokenizer(|whole| whole["model"]["vocab"][4][0] = json!("a".repeat(100_000)));
        assert!(long.is_err_and(|error| error.contains("100000 bytes")));
        let nested = format!("{{\"model\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let error = T5Tokenizer::from_bytes(nested.as_bytes(), 16, 8).map(|_| ()).expect_err("it is nested");
        assert!(error.to_string().contains("recursion limit"), "{error}");
    }
}
