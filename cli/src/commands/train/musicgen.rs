//! Training a MusicGen over a codec that is there.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::Result;
use burn::tensor::Device;
use rand_chacha::rand_core::Rng;
use tonoscope_core::{
    audio::Waveform,
    checkpoint::Placement,
    corpus::Split,
    hooks::Hooks,
    models::{
        encodec::Encodec,
        musicgen::{
            DecoderConfig, Generate, GenerationConfig, MusicGen, MusicgenConfig, Prompt, Sampling, SequenceKey, Window,
        },
        t5::{T5Tokenizer, TokenIds},
    },
    training::{CodecTask, MusicBatch, MusicTask, NamedTensor, StepKey, Trainer},
};

use super::{
    Look, ModelFile, Study,
    captions::{Captions, captioned},
    codec::{Codec, weights},
    encoded::Clips,
    settings::Settings,
    source::Source,
    values,
};
use crate::{files::OutputFolder, session::sha256};

/// Its file in a model's folder.
const TOKENIZER: &str = "tokenizer.json";
/// Held-out captions that are played at every look.
const LISTENED: usize = 4;

/// A language model and the codes that it learns from.
pub(super) struct MusicgenStudy {
    settings: Settings,
    config: MusicgenConfig,
    without_text: f64,
    tokenizer: String,
    source: Source,
    codec: Encodec,
    codec_file: PathBuf,
    learnt: Pool,
    held_out: Pool,
    device: Device,
}

/// Clips as the model sees them.
struct Pool {
    texts: Vec<TokenIds>,
    /// None before the training begins.
    codes: Vec<Vec<Vec<u32>>>,
}

/// What the settings say of it.
pub(super) struct Parts<'a> {
    pub(super) codec: &'a Path,
    pub(super) clips: usize,
    pub(super) without_text: f64,
    pub(super) text_encoder: &'a toml::Table,
    pub(super) decoder: &'a DecoderConfig,
}

impl MusicgenStudy {
    pub(super) fn new(settings: &Settings, parts: &Parts<'_>, placement: &Placement) -> Result<Self> {
        let Codec { config: audio_encoder, model: codec, file } = Codec::open(parts.codec, placement.clone())?;
        let source = Source::open(settings, audio_encoder.sampling_rate)?;
        let counts = [(Split::Training, parts.clips), (Split::Validation, settings.held_out)];
        let captions = counts.map(|(split, count)| source.captions(split, count));
        let start = settings.start.as_ref().map(|start| start.join(TOKENIZER));
        let Captions { tokenizer, text_encoder } =
            captioned(&captions[0], start.as_deref(), parts.text_encoder, "model.musicgen.text_encoder")?;
        let words = T5Tokenizer::from_bytes(tokenizer.as_bytes(), text_encoder.n_positions, text_encoder.vocab_size)?;
        let pool = |captions: &[String]| -> Result<Pool> {
            let texts = captions.iter().map(|caption| words.encode(caption)).collect::<Result<_, _>>()?;
            Ok(Pool { texts, codes: vec![] })
        };
        let [learnt, held_out] = &captions;
        Ok(Self {
            learnt: pool(learnt)?,
            held_out: pool(held_out)?,
            settings: settings.clone(),
            config: MusicgenConfig {
                model_type: "musicgen".to_owned(),
                text_encoder,
                audio_encoder,
                decoder: parts.decoder.clone(),
            },
            without_text: parts.without_text,
            tokenizer,
            source,
            codec,
            codec_file: file,
            device: placement.device.clone(),
        })
    }

    /// Clips as their codes, `[clip][codebook][frame]`.
    fn codes(&self, folder: &OutputFolder, split: Split, count: usize) -> Result<Vec<Vec<Vec<u32>>>> {
        let rate = f64::from(self.config.audio_encoder.sampling_rate);
        let samples = (self.settings.seconds * rate) as usize;
        let clips = Clips { source: &self.source, split, count, samples };
        let encode = |sound| values(self.codec.encode(sound).float());
        let flat = clips.encoded(folder, &sha256(&self.codec_file)?, encode, &self.device)?;
        let codebooks = self.config.decoder.num_codebooks;
        let frames = flat.len() / (count * codebooks);
        let rows: Vec<Vec<u32>> =
            flat.chunks_exact(frames).map(|row| row.iter().map(|&code| code as u32).collect()).collect();
        Ok(rows.chunks_exact(codebooks).map(<[Vec<u32>]>::to_vec).collect())
    }
}

impl Study for MusicgenStudy {
    type Task = MusicTask;

    fn task(&self) -> MusicTask {
        MusicTask::new(self.config.clone())
    }

    fn prepare(&mut self, folder: &OutputFolder) -> Result<()> {
        self.learnt.codes = self.codes(folder, Split::Training, self.learnt.texts.len())?;
        self.held_out.codes = self.codes(folder, Split::Validation, self.held_out.texts.len())?;
        Ok(())
    }

    fn begin(&self, trainer: &mut Trainer<MusicTask>) -> Result<()> {
        trainer.parameters.take("audio_encoder.", &weights(&self.codec_file, &self.device)?)?;
        Ok(())
    }

    fn batch(&self, key: StepKey) -> Result<MusicBatch> {
        let mut random = key.random("clips");
        let mut batch = MusicBatch { texts: vec![], codes: vec![] };
        for _ in 0..self.settings.batch {
            let index = (random.next_u64() % self.learnt.codes.len() as u64) as usize;
            let silent = ((random.next_u64() >> 11) as f64 / (1u64 << 53) as f64) < self.without_text;
            batch.texts.push(if silent { vec![] } else { self.learnt.texts[index].clone() });
            batch.codes.push(self.learnt.codes[index].clone());
        }
        Ok(batch)
    }

    fn held_out(&self) -> Result<MusicBatch> {
        Ok(MusicBatch { texts: self.held_out.texts.clone(), codes: self.held_out.codes.clone() })
    }

    fn listen(&self, trainer: &Trainer<MusicTask>) -> Result<Look> {
        let model = MusicGen::load(&self.config, &trainer.weights())?;
        let count = self.held_out.texts.len().min(LISTENED);
        let prompt = |index: usize| Prompt {
            ids: self.held_out.texts[index].clone(),
            key: SequenceKey::new("held out", index as u64),
            start: vec![],
        };
        let prompts: Vec<Prompt> = (0..count).map(prompt).collect();
        let GenerationConfig { guidance_scale, top_k, temperature, .. } = GenerationConfig::default();
        let how = Generate {
            frames: self.held_out.codes[0][0].len(),
            guidance: guidance_scale,
            sampling: Sampling::Random { temperature, top_k, top_p: 0.0, seed: self.settings.seed },
            window: Window::published(model.frame_rate()),
        };
        let going_on = &mut |_| ControlFlow::Continue(());
        let generated = pollster::block_on(model.generate(&mut Hooks::none(), &prompts, &how, going_on))?;
        let mut sounds = vec![];
        for (name, codes) in [("original", &self.held_out.codes[..count]), ("generated", &generated.codes[..])] {
            let sound = model.decode_audio(codes);
            let length = sound.dims()[2];
            for (index, clip) in values(sound)?.chunks_exact(length).enumerate() {
                let wave = Waveform::new(vec![clip.to_vec()], self.config.audio_encoder.sampling_rate)?;
                sounds.push((format!("{index}_{name}"), wave));
            }
        }
        Ok(Look { sounds, ..Look::default() })
    }

    fn files(&self, tensors: Vec<NamedTensor>) -> Result<Vec<ModelFile>> {
        let mut config = serde_json::to_value(&self.config)?;
        config["architectures"] = serde_json::json!(["MusicgenForConditionalGeneration"]);
        for (part, kind) in [("text_encoder", "t5"), ("audio_encoder", "encodec"), ("decoder", "musicgen_decoder")] {
            config[part]["model_type"] = kind.into();
        }
        let generation = serde_json::json!({
            "guidance_scale": 3.0, "top_k": 250, "temperature": 1.0, "do_sample": true,
            "trained_seconds": self.settings.seconds,
        });
        Ok(vec![
            ModelFile::json("config.json", &config)?,
            ModelFile::json("generation_config.json", &generation)?,
            ModelFile::bytes(TOKENIZER, self.tokenizer.clone().into_bytes()),
            ModelFile::tensors("model.safetensors", CodecTask::exported(tensors)),
        ])
    }
}
