//! One batch of prompts, asked about until all of it is annotated.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Result;
use serde_json::json;
use tonoscope_core::musicologist::Annotation;

use super::judge::{Verdict, judge};
use crate::llm::{Client, LlmError, Question};

/// How often is asked about a batch, each time about what is still missing.
const ROUNDS: usize = 4;

/// The annotations that there are of some prompts.
pub(super) struct Batch<'a> {
    prompts: &'a [String],
    found: Vec<Option<Annotation>>,
    /// Why the others are missing.
    reasons: BTreeMap<usize, String>,
}

impl<'a> Batch<'a> {
    /// Prompts, and what an earlier run has found of them.
    pub(super) fn new(prompts: &'a [String], mut earlier: Vec<Annotation>) -> Self {
        let mut take = |prompt: &String| {
            let at = earlier.iter().position(|annotation| annotation.prompt == *prompt)?;
            Some(earlier.swap_remove(at))
        };
        let found = prompts.iter().map(&mut take).collect();
        Self { prompts, found, reasons: BTreeMap::new() }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.found.iter().all(Option::is_some)
    }

    /// Index of what is missing and why, as far as it was asked about.
    pub(super) fn reasons(&self) -> impl Iterator<Item = (usize, String)> {
        self.reasons.iter().map(|(at, why)| (*at, why.clone()))
    }

    /// For every prompt what was found.
    pub(super) fn into_annotations(self) -> Vec<Option<Annotation>> {
        self.found
    }

    /// Asks until the batch is whole or nothing comes of it; `keep` is given what there is whenever it is more.
    ///
    /// Words that are no aspects are asked about once more; when the model insists they are left out and counted in
    /// `dropped`.
    ///
    /// # Errors
    /// The outer error: what was found cannot be kept. The inner: the server does not answer.
    pub(super) fn complete(
        &mut self,
        client: &mut Client,
        aspects: &[String],
        keep: &mut dyn FnMut(&[Annotation]) -> Result<()>,
        dropped: &mut BTreeMap<String, usize>,
    ) -> Result<Result<(), LlmError>> {
        for round in 0..ROUNDS {
            let pending: Vec<usize> = (0..self.prompts.len()).filter(|at| self.found[*at].is_none()).collect();
            if pending.is_empty() {
                break;
            }
            let asked = distinct(&pending, self.prompts);
            let texts: Vec<&str> = asked.iter().map(|at| self.prompts[*at].as_str()).collect();
            let problems =
                asked.iter().enumerate().filter_map(|(number, at)| Some((number, self.reasons.get(at)?.as_str())));
            let question = question(&texts, &problems.collect::<Vec<_>>(), aspects);
            let answer = match client.ask(&question) {
                Ok(answer) => answer,
                Err(error) => {
                    if !error.concerns_all() {
                        for at in pending {
                            self.reasons.entry(at).or_insert_with(|| error.to_string());
                        }
                    }
                    return Ok(Err(error));
                }
            };
            let before = self.whole();
            for (verdict, at) in judge(&answer, &texts, aspects, round > 0).into_iter().zip(&asked) {
                let same = pending.iter().filter(|other| self.prompts[**other] == self.prompts[*at]);
                match verdict {
                    Verdict::Good { annotation, left_out } => {
                        for at in same {
                            self.reasons.remove(at);
                            self.found[*at] = Some(annotation.clone());
                        }
                        for word in left_out {
                            *dropped.entry(client.hidden(&word)).or_default() += 1;
                        }
                    }
                    Verdict::Bad(why) => same.for_each(|at| {
                        self.reasons.insert(*at, client.hidden(&why));
                    }),
                }
            }
            if self.whole() > before {
                keep(&self.found.iter().flatten().cloned().collect::<Vec<_>>())?;
            }
        }
        Ok(Ok(()))
    }

    fn whole(&self) -> usize {
        self.found.iter().flatten().count()
    }
}

/// Of prompts with the same text the first.
fn distinct(pending: &[usize], prompts: &[String]) -> Vec<usize> {
    let mut asked: Vec<usize> = vec![];
    for at in pending {
        if !asked.iter().any(|other| prompts[*other] == prompts[*at]) {
            asked.push(*at);
        }
    }
    asked
}

/// What is asked first, for all batches.
pub(super) fn questions(prompts: &[String], batch: usize, aspects: &[String]) -> Vec<Question> {
    let texts = |batch: &[String]| {
        let all: Vec<usize> = (0..batch.len()).collect();
        distinct(&all, batch).into_iter().map(|at| batch[at].clone()).collect::<Vec<_>>()
    };
    let ask = |batch: &[String]| {
        let texts = texts(batch);
        question(&texts.iter().map(String::as_str).collect::<Vec<_>>(), &[], aspects)
    };
    prompts.chunks(batch).map(ask).collect()
}

/// The question about `texts`; `problems`: index of a text and what was wrong with an earlier answer.
fn question(texts: &[&str], problems: &[(usize, &str)], aspects: &[String]) -> Question {
    let system = format!(
        "You annotate prompts for music. For each prompt you say which of these aspects the music it asks for would have, \
         written exactly as here: {}. Name every aspect that clearly applies and no word that is not in this list. Also give \
         the tempo in beats per minute as `bpm`, 0 if the prompt does not say it. Answer with JSON alone, one object per \
         prompt, each prompt once and word for word: {{\"annotations\": [{{\"prompt\": \"…\", \"aspects\": [\"…\"], \"bpm\": 0}}]}}",
        aspects.join(", ")
    );
    let mut user = String::new();
    for (at, text) in texts.iter().enumerate() {
        let _ = writeln!(user, "{}. {text}", at + 1);
    }
    if !problems.is_empty() {
        user.push_str("\nAn earlier answer could not be used:\n");
        for (at, why) in problems {
            let _ = writeln!(user, "{}: {why}", at + 1);
        }
    }
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["annotations"],
        "properties": {"annotations": {"type": "array", "items": {
            "type": "object", "additionalProperties": false, "required": ["prompt", "aspects", "bpm"],
            "properties": {
                "prompt": {"type": "string"},
                "aspects": {"type": "array", "items": {"type": "string", "enum": aspects}},
                "bpm": {"type": "number"},
            },
        }}},
    });
    Question { system, user, schema: ("annotations", schema), seed: None }
}
