//! The checkpoint's own tokenizer.

use tokenizers::Tokenizer;

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
        let damaged = |error: tokenizers::Error| TokenError::File(format!("`tokenizer.json` does not parse: {error}"));
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(damaged)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(damaged)?;
        let UnknownToken { model } = serde_json::from_slice(json).map_err(|error| damaged(error.into()))?;
        let unknown = model.unk_id.or_else(|| tokenizer.token_to_id(&model.unk_token?));
        Ok(Self { tokenizer, limit, vocab_size, unknown })
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
        let encoding = self.tokenizer.encode(prompt, true).map_err(|error| TokenError::Tokenizer(error.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            return Err(TokenError::OutOfVocabulary { id, vocab_size: self.vocab_size });
        }
        Ok(ids)
    }
}
