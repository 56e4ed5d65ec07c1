//! What `generate` and `annotate` share: a long list made of batches, each asked for until it is whole, and kept.

use std::{collections::BTreeMap, fmt::Write as _, io::Write, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    failure::Failed,
    files::OutputFolder,
    interrupt::Interrupted,
    llm::{Client, LlmError, Question, Settings, Tokens, request_body},
    units::Units,
};

/// Batches in a row that are given up before the server is.
const MOST_IN_A_ROW: usize = 3;
/// Missing things that are told one by one.
const MOST_TOLD: usize = 20;

/// The folder beside the file `name` in which its finished batches are kept.
pub(super) fn open_units(folder: &OutputFolder, name: &str, key: &Value, overwrite: bool) -> Result<Units> {
    Units::open(&OutputFolder::open(&parts(folder, name))?, key, overwrite)
}

/// Ends the work; nothing is left where nothing was finished.
pub(super) fn close_units(units: Units, folder: &OutputFolder, name: &str) {
    drop(units);
    // What is not empty stays.
    let _ = std::fs::remove_dir(parts(folder, name));
}

fn parts(folder: &OutputFolder, name: &str) -> PathBuf {
    folder.path().join(format!("{name}.parts"))
}

/// What is there of batch `index`, possibly not all of it.
pub(super) fn read_batch<T: DeserializeOwned>(units: &Units, index: usize) -> Result<Vec<T>> {
    let name = batch_name(index);
    if !units.has(&name) {
        return Ok(vec![]);
    }
    let bytes = units.read(&name)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("`{name}` of the finished batches is damaged; pass `--overwrite` to start anew"))
}

/// Keeps what is there of batch `index`.
pub(super) fn write_batch<T: Serialize>(units: &Units, index: usize, items: &[T]) -> Result<()> {
    units.write(&batch_name(index), &serde_json::to_vec_pretty(items)?)
}

fn batch_name(index: usize) -> String {
    format!("batch_{index:05}")
}

/// What became of all batches.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Number of what is missing, from 1 → why.
    pub(super) reasons: BTreeMap<usize, String>,
    /// Why nothing more was asked.
    pub(super) stopped: Option<LlmError>,
    /// Batches in a row that were given up.
    in_a_row: usize,
}

impl Missing {
    /// Takes note of how a batch ended; `false`: nothing more is to be asked.
    pub(super) fn goes_on_after(&mut self, ended: Result<(), LlmError>) -> bool {
        match ended {
            Ok(()) => self.in_a_row = 0,
            Err(error) => {
                self.in_a_row += 1;
                if error.concerns_all() || self.in_a_row >= MOST_IN_A_ROW {
                    self.stopped = Some(error);
                }
            }
        }
        self.stopped.is_none()
    }

    /// Why number `number` is missing.
    pub(super) fn reason(&self, number: usize) -> String {
        let stopped = || self.stopped.as_ref().map_or("not asked for".to_owned(), ToString::to_string);
        self.reasons.get(&number).cloned().unwrap_or_else(stopped)
    }

    /// The failure of a list of `all` of which `numbers` are missing; `what` such as `prompts are not annotated`.
    pub(super) fn failure(&self, numbers: &[usize], all: usize, what: &str) -> anyhow::Error {
        if self.stopped == Some(LlmError::Interrupted) {
            return Interrupted::Finished { finished: all - numbers.len(), all, what: "prompts" }.into();
        }
        let mut text = format!("{} of {all} {what}", numbers.len());
        if let Some(stopped) = &self.stopped {
            let _ = write!(text, ": {stopped}");
        }
        let _ = write!(text, "\n  missing: {}", ranges(numbers));
        let told: Vec<usize> = numbers.iter().copied().filter(|number| self.reasons.contains_key(number)).collect();
        for number in told.iter().take(MOST_TOLD) {
            let _ = write!(text, "\n  {number}: {}", self.reason(*number));
        }
        if told.len() > MOST_TOLD {
            let _ = write!(text, "\n  … and {} more", told.len() - MOST_TOLD);
        }
        let again = "give the same command again to ask for what is missing, or pass `--partial` to take what is there";
        let hint = self.stopped.as_ref().and_then(LlmError::hint).unwrap_or(again);
        Failed::new(text, hint).into()
    }
}

/// `1-3, 7` of 1, 2, 3, 7.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let run = |run: &[usize]| match run {
        [one] => one.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    };
    runs.map(run).collect::<Vec<_>>().join(", ")
}

/// Shows what would be asked, and what it would take: four letters are a token, roughly.
pub(super) fn dry_run(
    settings: &Settings,
    questions: &[Question],
    completion: u64,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let bodies: Vec<Value> = questions.iter().map(|question| request_body(&settings.model, question, false)).collect();
    let letters: usize = bodies.iter().map(|body| body.to_string().chars().count()).sum();
    let tokens = Tokens { prompt: letters as u64 / 4, completion };
    let url = format!("{}/chat/completions", settings.base_url);
    if as_json {
        let estimate = json!({"requests": bodies.len(), "tokens": tokens});
        return print_json(&json!({"url": url, "requests": bodies, "estimate": estimate}), out);
    }
    let Some(first) = bodies.first() else {
        writeln!(out, "nothing to ask: all is there")?;
        return Ok(());
    };
    writeln!(out, "POST {url}")?;
    print_json(first, out)?;
    if bodies.len() > 1 {
        writeln!(out, "… and {} more like it (`--json` shows all)", bodies.len() - 1)?;
    }
    let Tokens { prompt, completion } = tokens;
    writeln!(out, "{} requests, some {prompt} tokens to the model and {completion} back", bodies.len())?;
    Ok(())
}

/// What was asked, for `--json`.
pub(super) fn asked(client: &Client, settings: &Settings) -> Value {
    json!({
        "base_url": settings.base_url, "model": settings.model, "requests": client.sent(), "tokens": client.used(),
    })
}

pub(super) fn print_json(value: &Value, out: &mut dyn Write) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// What two texts have in common that are the same but for case, white space, quotes and full stops.
pub(super) fn essence(text: &str) -> String {
    text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_in_ranges_with_its_reasons() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3, 7, 9-10");
        let mut missing = Missing::default();
        missing.reasons.insert(7, "twice, and differently".into());
        let error = missing.failure(&[2, 3, 7], 10, "prompts are not annotated").to_string();
        assert_eq!(error, "3 of 10 prompts are not annotated\n  missing: 2-3, 7\n  7: twice, and differently");
        missing.reasons.extend((100..200).map(|number| (number, "no".to_owned())));
        let error = missing.failure(&(1..200).collect::<Vec<_>>(), 200, "x").to_string();
        assert!(error.ends_with("\n  … and 81 more"), "{error}");
    }

    #[test]
    fn a_server_is_given_up_after_three_batches_in_a_row() {
        let gave_up = || Err(LlmError::GaveUp { attempts: 6, last: "x".into() });
        let mut missing = Missing::default();
        assert!(missing.goes_on_after(gave_up()) && missing.goes_on_after(gave_up()) && missing.goes_on_after(Ok(())));
        assert!(
            missing.goes_on_after(gave_up()) && missing.goes_on_after(gave_up()) && !missing.goes_on_after(gave_up())
        );
        assert!(!Missing::default().goes_on_after(Err(LlmError::Credit)));
    }
}
