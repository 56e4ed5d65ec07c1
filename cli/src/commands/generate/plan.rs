//! What is to be done, once everything that can be checked without the weights was checked.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tonoscope_core::{
    audio::Waveform,
    hooks::{HookPoint, Hooks, Spec},
    models::{
        musicgen::{Generate, MusicGen, MusicgenConfig, Prompt, SequenceKey, points},
        occurrences,
        t5::TokenIds,
    },
};

use super::{GenerateArgs, record::Settings};
use crate::{
    interrupt,
    session::{self, FoundModel, Provenance, UsedDevice},
    sound::read_sound,
    tensors::{self, EditTensors},
};

/// Length of a piece by default.
const USUAL_SECONDS: f64 = 8.0;

pub(super) struct Plan {
    pub(super) prompts: Vec<String>,
    /// What a prompt file says of each prompt beside its text.
    pub(super) concepts: Vec<Option<String>>,
    ids: Vec<TokenIds>,
    /// Tokens of each prompt that the model cannot read.
    pub(super) unknown: Vec<usize>,
    /// Tokens of every prompt, as they stand in the vocabulary.
    pub(super) tokens: Vec<Vec<String>>,
    pub(super) spec: Spec,
    /// Every hook point of the model.
    pub(super) points: Vec<HookPoint>,
    pub(super) edit_tensors: EditTensors,
    pub(super) how: Generate,
    /// What is to be continued.
    recording: Option<Waveform>,
    /// Frames per second.
    rate: usize,
}

impl Plan {
    /// Reads all but the weights.
    pub(super) fn new(args: &GenerateArgs) -> Result<(Self, FoundModel)> {
        let (prompts, concepts): (Vec<_>, Vec<_>) = args.read_prompts()?.into_iter().unzip();
        let recording = args.continue_from.as_deref().map(read_sound).transpose()?;
        let (edits, edit_tensors) = tensors::read_edits(&args.edit)?;
        let spec = Spec { captures: args.capture.clone(), edits };
        interrupt::listen();
        let found = args.model.find()?;
        let rate = found.files.config.audio_encoder.frame_rate();
        // What is continued counts, and may be as long as the model was trained on.
        let asked = args.duration.or(recording.as_ref().map(|_| USUAL_SECONDS));
        let how = args.sampling.generate(asked, USUAL_SECONDS, &found)?;
        let encode = |prompt: &String| {
            found.tokenizer.encode(prompt).with_context(|| format!("prompt `{}`", tensors::shortened(prompt)))
        };
        let ids: Vec<TokenIds> = prompts.iter().map(encode).collect::<Result<_>>()?;
        args.readable.check(&found.tokenizer, prompts.iter().map(String::as_str).zip(ids.iter().map(Vec::as_slice)))?;
        let unknown = ids.iter().map(|ids| found.tokenizer.unknown_tokens(ids)).collect();
        let tokens = ids.iter().map(|ids| found.tokenizer.tokens(ids)).collect();
        let points = points(&found.files.config);
        Hooks::check_spec(&spec, &points)?;
        Hooks::check_edits(&spec.edits, |name| edit_tensors.shape(name), prompts.len())?;
        Ok((Self { prompts, concepts, ids, unknown, tokens, spec, points, edit_tensors, how, recording, rate }, found))
    }

    /// Length of a piece.
    pub(super) fn seconds(&self) -> f64 {
        self.how.frames as f64 / self.rate as f64
    }

    pub(super) fn settings(&self, args: &GenerateArgs) -> Settings {
        Settings {
            seconds: self.seconds(),
            frames: self.how.frames,
            guidance: self.how.guidance,
            sampling: self.how.sampling,
            batch_size: args.batch_size,
            normalise: args.normalise,
            continue_from: args.continue_from.clone(),
        }
    }

    /// Everything that decides a bit of the results: a run goes on only where all of it is the same.
    pub(super) fn key(
        &self,
        args: &GenerateArgs,
        provenance: &Provenance,
        device: &UsedDevice,
        config: &MusicgenConfig,
    ) -> Result<Value> {
        Ok(json!({
            "command": "generate",
            "version": env!("CARGO_PKG_VERSION"),
            "weights": provenance.checksums,
            "config": config,
            "device": device.key(),
            "prompts": self.prompts,
            "tokens": self.ids,
            "frames": self.how.frames,
            "window": [self.how.window.frames, self.how.window.stride],
            "guidance": self.how.guidance,
            "sampling": self.how.sampling,
            // Not for the tokens, but for captures, and for which pieces a file of a batch holds.
            "batch_size": args.batch_size,
            "normalise": args.normalise,
            "float": args.float,
            "continue_from": args.continue_from.as_deref().map(session::sha256).transpose()?,
            "hooks": self.spec,
            "edit_tensors": self.edit_tensors.digest(),
        }))
    }

    /// What `model` is given, and which of the pieces of its prompt each is, from 0. The keys of their random numbers
    /// are the prompt's text and that number, so that a piece does not depend on its neighbours.
    pub(super) fn sequences(&self, model: &MusicGen) -> Result<Vec<(u64, Prompt)>> {
        let start = match &self.recording {
            Some(recording) => pollster::block_on(model.encode_recording(recording.clone()))?,
            None => vec![],
        };
        let sequence = |((text, ids), sample): ((&String, &TokenIds), u64)| {
            (sample, Prompt { ids: ids.clone(), key: SequenceKey::new(text, sample), start: start.clone() })
        };
        Ok(self.prompts.iter().zip(&self.ids).zip(occurrences(&self.prompts)).map(sequence).collect())
    }
}
