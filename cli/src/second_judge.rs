//! CLAP as a second judge: how near music is to a text about each concept.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tonoscope_backends::Opened;
use tonoscope_core::audio::Waveform;

use crate::{
    embedder::{Embedder, EmbedderArgs, FoundEmbedder, cosine},
    failure::Misuse,
};

/// What stands for the concept in a text.
const SLOT: &str = "{}";

/// Which second judge.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SecondJudgeArgs {
    /// A CLAP that judges as well, by the text of each concept: a name such as `larger_clap_general`, a Hub id, or a folder
    #[arg(long, value_name = "MODEL")]
    second_judge: Option<String>,
    /// Text about a concept, for the second judge; `{}` stands for the concept
    #[arg(long, value_name = "TEXT", default_value = "This is a sound of {}.")]
    second_judge_text: String,
}

/// The part of it that decides its scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SecondPlan {
    /// Model, checksums and front end.
    pub(crate) model: Value,
    /// A text for each concept, in their order.
    pub(crate) texts: Vec<String>,
}

/// A second judge that was found.
pub(crate) struct FoundSecondJudge {
    embedder: FoundEmbedder,
    texts: Vec<String>,
}

/// A second judge that is ready.
pub(crate) struct SecondJudge {
    embedder: Embedder,
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

impl SecondJudgeArgs {
    /// Finds it, if there is to be one, for concepts of these names.
    pub(crate) fn find<'a>(&self, concepts: impl Iterator<Item = &'a str>) -> Result<Option<FoundSecondJudge>> {
        let Some(model) = &self.second_judge else { return Ok(None) };
        if !self.second_judge_text.contains(SLOT) {
            let what = format!("`{}` says nothing about the concept", self.second_judge_text);
            return Err(Misuse::new(what).hint("write `{}` where the concept belongs").into());
        }
        let text = |concept: &str| self.second_judge_text.replace(SLOT, &concept.replace('_', " "));
        Ok(Some(FoundSecondJudge { embedder: EmbedderArgs::of(model).find()?, texts: concepts.map(text).collect() }))
    }
}

impl FoundSecondJudge {
    /// Places its weights on a device and reads the texts.
    pub(crate) fn load(self, opened: &Opened) -> Result<SecondJudge> {
        let embedder = self.embedder.load(opened)?;
        let vectors = embedder.embed_texts(&self.texts)?;
        Ok(SecondJudge { embedder, texts: self.texts, vectors })
    }
}

impl SecondJudge {
    /// What decides its scores.
    pub(crate) fn plan(&self) -> SecondPlan {
        SecondPlan { model: self.embedder.key(), texts: self.texts.clone() }
    }

    /// Of each sound, the score of every concept before the softmax over concepts.
    pub(crate) fn judge(&self, sounds: Vec<Waveform>) -> Result<Vec<Vec<f32>>> {
        let scale = self.embedder.logit_scale();
        let scores = |sound: &Vec<f32>| self.vectors.iter().map(|text| (scale * cosine(sound, text)) as f32).collect();
        Ok(self.embedder.embed(sounds)?.iter().map(scores).collect())
    }
}
