//! What is learnt from, what is looked at on the way, and what is kept for the end.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::UnknownWord;

/// A part of the corpus. Parts share no seed and no score; the test also has melody instruments of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Training,
    /// To choose by.
    Validation,
    /// To report, once.
    Test,
}

/// Bits of a seed that do not say its part.
const REST: u64 = u64::MAX >> 2;

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Training, Self::Validation, Self::Test];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// Seed of the phrase `index` of the corpus `corpus`: no other part has it, its two highest bits being the part.
    pub fn seed(self, corpus: u64, index: u64) -> u64 {
        let digest = Sha256::new().chain_update(corpus.to_le_bytes()).chain_update(index.to_le_bytes()).finalize();
        let mixed = digest.iter().take(8).fold(0u64, |number, &byte| (number << 8) | u64::from(byte));
        ((self as u64) << 62) | (mixed & REST)
    }

    /// The part that a phrase's seed is of; small numbers are of the training part.
    pub fn of_seed(seed: u64) -> Self {
        match seed >> 62 {
            1 => Self::Validation,
            2 => Self::Test,
            _ => Self::Training,
        }
    }

    /// The part that a score is of, by its content: 8, 1 and 1 of ten.
    pub fn of_score(bytes: &[u8]) -> Self {
        match Sha256::digest(bytes)[0] % 10 {
            0 => Self::Validation,
            1 => Self::Test,
            _ => Self::Training,
        }
    }
}

impl std::str::FromStr for Split {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|split| split.name() == word);
        found.ok_or_else(|| UnknownWord::new("split", word, "training, validation, test"))
    }
}
