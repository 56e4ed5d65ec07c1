//! How a failure is told: what, why, and what to do.

use std::{error::Error, process::ExitCode};

use burn::tensor::ExecutionError;
use tonoscope_backends::{DeviceError, GpuFailure};
use tonoscope_core::{
    checkpoint::LoadError,
    concepts::ConceptError,
    interventions::MeansError,
    models::{clap::ClapError, musicgen::GenerateError, t5::TokenError},
    musicologist::InputError,
};
use tonoscope_hub::{HubError, NameError};

use crate::{interrupt, llm::LlmError, sound::Refused, terminal};

/// A request that makes no sense, whatever the files hold: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Misuse {
    what: String,
    hint: Option<String>,
}

impl Misuse {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A failure that comes with advice: exit status 1.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failed {
    what: String,
    hint: String,
}

impl Failed {
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

/// Writes `error: …` with its causes and, where there is one, `hint: …` to stderr.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(failure) = gpu_failure(error) {
        terminal::complain(&format!("error: {failure}\nhint: {}", failure.hint()));
        return ExitCode::FAILURE;
    }
    let mut text = format!("error: {error}");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Transparent wrappers repeat what they wrap.
        if !said.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
            said = cause;
        }
    }
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    terminal::complain(&text);
    let misused = error.chain().any(|cause| {
        let name = matches!(cause.downcast_ref(), Some(HubError::Name(_)));
        let concept = matches!(cause.downcast_ref(), Some(ConceptError::Unknown { .. } | ConceptError::TooMany { .. }));
        let table = matches!(cause.downcast_ref(), Some(InputError::Unknown { .. }));
        name || concept || table || cause.is::<Misuse>() || cause.is::<NameError>()
    });
    let interrupted = error.chain().any(interrupt::is_cause);
    ExitCode::from(if interrupted {
        interrupt::STATUS
    } else if misused {
        2
    } else {
        1
    })
}

/// What a GPU's failure is, if `error` is one: Burn tells it in dozens of lines.
fn gpu_failure(error: &anyhow::Error) -> Option<GpuFailure> {
    let of_device = |cause: &(dyn Error + 'static)| {
        cause.is::<ExecutionError>() || matches!(cause.downcast_ref(), Some(GenerateError::Device(_)))
    };
    error.chain().any(of_device).then(|| GpuFailure::find(&format!("{error:#}")))?
}

fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<Misuse>() {
        return error.hint.clone();
    }
    if let Some(error) = cause.downcast_ref::<Failed>() {
        return Some(error.hint.clone());
    }
    if let Some(error) = cause.downcast_ref::<LoadError>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = cause.downcast_ref::<HubError>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<LlmError>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = cause.downcast_ref::<NameError>() {
        return Some(error.hint());
    }
    if let Some(error) = cause.downcast_ref::<DeviceError>() {
        return error.hint();
    }
    if let Some(ConceptError::TooMany { available, .. }) = cause.downcast_ref() {
        return Some(format!("pass `--prompts-per-concept {available}` or less"));
    }
    if let Some(error) = cause.downcast_ref::<Refused>() {
        return error.hint();
    }
    if let Some(MeansError::Other { .. }) = cause.downcast_ref::<MeansError>() {
        return Some("choose another folder with `--means`, or pass `--overwrite` to take them again".to_owned());
    }
    if let Some(GenerateError::NothingToAdd { .. }) = cause.downcast_ref() {
        return Some("`--duration` includes what is continued".to_owned());
    }
    match cause.downcast_ref() {
        Some(ClapError::Degenerate { .. }) => {
            return Some("take another checkpoint, or pass `--accept-degenerate` to use it all the same".to_owned());
        }
        Some(ClapError::Overflow { .. }) => return Some("pass `--dtype f32`".to_owned()),
        _ => {}
    }
    match cause.downcast_ref::<TokenError>() {
        Some(TokenError::TooLong { .. }) => Some("shorten the prompt".to_owned()),
        Some(TokenError::File(_)) => Some("put the model's `tokenizer.json` beside its weights".to_owned()),
        _ => None,
    }
}
