//! One block of prompts, asked for until it is full.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::Result;
use serde_json::json;

use super::lines::{Line, lines};
use crate::{
    commands::prompts::asking::essence,
    llm::{Client, LlmError, Question},
};

/// How often is asked for a block, each time for what is still missing.
const ROUNDS: usize = 6;
/// Prompts that a repeated question shows, so that the model writes others.
const SHOWN: usize = 40;

/// Three prompts of our own.
pub(super) const EXAMPLES: [&str; 3] = [
    "A laid-back bossa nova song with nylon-string guitar, soft vocals and brushed drums at 120 BPM, breezy and intimate.",
    "An ominous cinematic score for low strings, French horns and timpani at a slow 60 BPM. The mood is tense and dark.",
    "A euphoric trance anthem with arpeggiated synth leads, lush pads and a pounding kick drum at 138 BPM.",
];

/// The prompts of one request, as far as they are there.
pub(super) struct Block<'a> {
    pub(super) size: usize,
    pub(super) examples: &'a [String],
    pub(super) seed: Option<u64>,
    pub(super) prompts: &'a mut Vec<String>,
}

impl Block<'_> {
    pub(super) fn is_whole(&self) -> bool {
        self.prompts.len() >= self.size
    }

    /// Asks until the block is full or nothing comes of it; `keep` is given what there is whenever it is more. `seen` holds
    /// the [`essence`] of all prompts of all blocks.
    ///
    /// Gives back how it ended, and why prompts are missing.
    ///
    /// # Errors
    /// If what was found cannot be kept.
    pub(super) fn complete(
        &mut self,
        client: &mut Client,
        seen: &mut BTreeSet<String>,
        keep: &mut dyn FnMut(&[String]) -> Result<()>,
    ) -> Result<(Result<(), LlmError>, Option<String>)> {
        let mut why = None;
        for round in 0..ROUNDS {
            if self.is_whole() {
                return Ok((Ok(()), None));
            }
            let shown = &self.prompts[self.prompts.len().saturating_sub(SHOWN)..];
            // The same seed would bring the same prompts.
            let seed = self.seed.map(|seed| seed.wrapping_add((round as u64) << 32));
            let question = question(self.size - self.prompts.len(), self.examples, shown, seed);
            let answer = match client.ask(&question) {
                Ok(answer) => answer,
                Err(error) => {
                    let why = why.or_else(|| (!error.concerns_all()).then(|| error.to_string()));
                    return Ok((Err(error), why));
                }
            };
            let (before, mut doubled, mut unusable) = (self.prompts.len(), 0, 0);
            for line in lines(&answer.text) {
                let line = line.map(|prompt| client.hidden(&prompt));
                match line {
                    Line::Prompt(_) if self.is_whole() => break,
                    Line::Prompt(prompt) if seen.insert(essence(&prompt)) => self.prompts.push(prompt),
                    Line::Prompt(_) => doubled += 1,
                    Line::Unusable => unusable += 1,
                }
            }
            why = Some(match answer.refusal {
                Some(refusal) => format!("the model refuses to answer: {refusal}"),
                None => format!(
                    "the last answer brought {} new prompts, {doubled} that there were already and {unusable} lines that are none",
                    self.prompts.len() - before
                ),
            });
            if self.prompts.len() > before {
                keep(self.prompts)?;
            }
        }
        Ok((Ok(()), why.filter(|_| !self.is_whole())))
    }
}

/// The question for `count` prompts like `examples`, other than `written`.
pub(super) fn question(count: usize, examples: &[String], written: &[String], seed: Option<u64>) -> Question {
    let system = "You write prompts for a model that makes music from text. Each prompt is one line of one or two sentences \
                  that names a genre, a mood, a tempo in BPM and the instruments. No two are alike: vary the genres, cultures, \
                  moods, tempi and instruments as widely as you can. Answer with JSON alone: {\"prompts\": [\"…\", \"…\"]}";
    let mut user = format!("Write {count} prompts. Examples:\n");
    for example in examples {
        let _ = writeln!(user, "{example}");
    }
    if !written.is_empty() {
        user.push_str("\nThese are written already, write others:\n");
        for prompt in written {
            let _ = writeln!(user, "{prompt}");
        }
    }
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["prompts"],
        "properties": {"prompts": {"type": "array", "items": {"type": "string"}}},
    });
    Question { system: system.to_owned(), user, schema: ("prompts", schema), seed }
}
