//! Whether a model can read the prompts that it is given.

use std::fmt::Write as _;

use tonoscope_core::models::t5::T5Tokenizer;

use crate::{failure::Misuse, progress, tensors::shortened};

/// Prompts that are told one by one.
const MOST_TOLD: usize = 5;

/// What to do about words that the model cannot read.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ReadableArgs {
    /// Refuse prompts with words that the model's tokenizer does not know, such as Chinese ones
    #[arg(long)]
    strict: bool,
}

impl ReadableArgs {
    /// Warns of prompts (text and ids) with unknown tokens; with `--strict` it refuses them.
    ///
    /// # Errors
    /// [`Misuse`] with `--strict`.
    pub(crate) fn check<'a>(
        self,
        tokenizer: &T5Tokenizer,
        prompts: impl IntoIterator<Item = (&'a str, &'a [u32])>,
    ) -> Result<(), Misuse> {
        let unknown = |(index, (text, ids)): (usize, (&'a str, &'a [u32]))| {
            let unknown = tokenizer.unknown_tokens(ids);
            (unknown > 0).then_some((index, text, unknown, ids.len()))
        };
        let found: Vec<_> = prompts.into_iter().enumerate().filter_map(unknown).collect();
        if found.is_empty() {
            return Ok(());
        }
        let mut what = format!("the model cannot read all words of {} prompts", found.len());
        for (index, text, unknown, all) in found.iter().take(MOST_TOLD) {
            let _ = write!(what, "\n  prompt {index}, `{}`: {unknown} of {all} tokens are unknown", shortened(text));
        }
        if found.len() > MOST_TOLD {
            let _ = write!(what, "\n  … and {} more", found.len() - MOST_TOLD);
        }
        if self.strict {
            return Err(Misuse::new(what).hint("write the prompts in the language and letters of the model's training"));
        }
        progress::note(&format!("{what}\n  unknown tokens all look the same to the model; `--strict` refuses them"));
        Ok(())
    }
}
