//! Training a diffusion model over an autoencoder that is there.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::rand_core::Rng;
use serde_json::json;
use tonoscope_core::{
    audio::Waveform,
    checkpoint::Placement,
    corpus::Split,
    diffusion::{BrownianNoise, NoiseKey, Sampler, SamplerSettings, Schedule, SolverType},
    hooks::Hooks,
    models::{
        oobleck::Oobleck,
        stable_audio::{
            DitConfig, InitialScale, ProjectionConfig, SampleRequest, SchedulerConfig, StableAudio, StableAudioConfig,
        },
        t5::{T5Tokenizer, TokenIds},
    },
    training::{AutoencoderTask, DiffusionBatch, DiffusionTask, NamedTensor, StepKey, Trainer},
};

use super::{
    Look, ModelFile, Study, autoencoder,
    captions::{Captions, captioned},
    codec::weights,
    encoded::Clips,
    settings::Settings,
    source::Source,
    values,
};
use crate::{files::OutputFolder, session::sha256};

/// Its file in a model's folder.
const TOKENIZER: &str = "tokenizer/tokenizer.json";
/// Parts of the model, and the files of their weights.
const PARTS: [(&str, &str); 4] = [
    ("text_encoder.", "text_encoder/model.safetensors"),
    ("projection_model.", "projection_model/diffusion_pytorch_model.safetensors"),
    ("vae.", "vae/diffusion_pytorch_model.safetensors"),
    ("transformer.", "transformer/diffusion_pytorch_model.safetensors"),
];
/// Held-out captions that are played at every look.
const LISTENED: usize = 4;
/// Steps in which they are.
const STEPS: usize = 30;
/// Weight of the text in it.
const GUIDANCE: f64 = 4.0;

/// A diffusion model and the latents that it learns from.
pub(super) struct DiffusionStudy {
    settings: Settings,
    config: StableAudioConfig,
    without_text: f64,
    tokenizer: String,
    autoencoder: PathBuf,
    /// `[clip, channel, length]` of the clips that are learnt from, and of those that are not; none before the training begins.
    latents: [Vec<f32>; 2],
    texts: [Vec<TokenIds>; 2],
    captions: Vec<String>,
    source: Source,
    encoder: Oobleck,
    device: Device,
}

/// What the settings say of it.
pub(super) struct Parts<'a> {
    pub(super) autoencoder: &'a Path,
    pub(super) clips: usize,
    pub(super) without_text: f64,
    pub(super) text_tokens: usize,
    pub(super) text_encoder: &'a toml::Table,
    pub(super) transformer: &'a DitConfig,
}

impl DiffusionStudy {
    pub(super) fn new(settings: &Settings, parts: &Parts<'_>, placement: &Placement) -> Result<Self> {
        let (vae, encoder) = autoencoder::open(parts.autoencoder, placement.clone())?;
        let source = Source::open(settings, vae.sampling_rate)?;
        let counts = [(Split::Training, parts.clips), (Split::Validation, settings.held_out)];
        let captions = counts.map(|(split, count)| source.captions(split, count));
        let start = settings.start.as_ref().map(|start| start.join(TOKENIZER));
        let Captions { tokenizer, text_encoder } =
            captioned(&captions[0], start.as_deref(), parts.text_encoder, "model.diffusion.text_encoder")?;
        let words = T5Tokenizer::from_bytes(tokenizer.as_bytes(), parts.text_tokens, text_encoder.vocab_size)?;
        let texts = |captions: &[String]| -> Result<Vec<TokenIds>> {
            captions.iter().map(|caption| Ok(words.encode(caption)?)).collect()
        };
        let condition = parts.transformer.cross_attention_input_dim;
        let config = StableAudioConfig {
            text_tokens: parts.text_tokens,
            projection_model: ProjectionConfig {
                text_encoder_dim: text_encoder.d_model,
                conditioning_dim: condition,
                min_value: 0.0,
                max_value: 16.0,
            },
            text_encoder,
            transformer: parts.transformer.clone(),
            vae,
            scheduler: SchedulerConfig {
                sigma_min: Some(0.3),
                sigma_max: Some(500.0),
                sigma_data: 1.0,
                prediction_type: "v_prediction".to_owned(),
            },
        };
        Ok(Self {
            settings: settings.clone(),
            latents: [vec![], vec![]],
            config,
            without_text: parts.without_text,
            tokenizer,
            autoencoder: parts.autoencoder.join(autoencoder::WEIGHTS),
            texts: [texts(&captions[0])?, texts(&captions[1])?],
            captions: captions[1].clone(),
            source,
            encoder,
            device: placement.device.clone(),
        })
    }

    fn seconds(&self) -> f32 {
        self.config.seconds() as f32
    }

    /// Some of the clips, by number.
    fn batch_of(&self, part: usize, clips: &[usize], told: impl Fn(usize) -> bool) -> DiffusionBatch {
        let shape = [clips.len(), self.config.latent_channels(), self.config.latent_length()];
        let size = shape[1] * shape[2];
        let latents = clips.iter().flat_map(|clip| &self.latents[part][clip * size..(clip + 1) * size]).copied();
        let text = |(row, clip): (usize, &usize)| told(row).then(|| self.texts[part][*clip].clone());
        DiffusionBatch {
            texts: clips.iter().enumerate().map(text).collect(),
            seconds: self.seconds(),
            latents: Tensor::from_data(TensorData::new(latents.collect::<Vec<f32>>(), shape), &self.device),
        }
    }
}

impl Study for DiffusionStudy {
    type Task = DiffusionTask;

    fn task(&self) -> DiffusionTask {
        DiffusionTask::new(self.config.clone())
    }

    fn prepare(&mut self, folder: &OutputFolder) -> Result<()> {
        let samples = self.config.latent_length() * self.config.downsampling();
        let checksum = sha256(&self.autoencoder)?;
        for (part, split) in [Split::Training, Split::Validation].into_iter().enumerate() {
            let clips = Clips { source: &self.source, split, count: self.texts[part].len(), samples };
            let encode = |sound| values(self.encoder.encode(sound).mean);
            self.latents[part] = clips.encoded(folder, &checksum, encode, &self.device)?;
        }
        Ok(())
    }

    fn begin(&self, trainer: &mut Trainer<DiffusionTask>) -> Result<()> {
        trainer.parameters.take("vae.", &weights(&self.autoencoder, &self.device)?)?;
        Ok(())
    }

    fn weight_files(&self) -> &'static [(&'static str, &'static str)] {
        &PARTS
    }

    fn batch(&self, key: StepKey) -> Result<DiffusionBatch> {
        let mut random = key.random("clips");
        let mut chosen = vec![];
        let mut told = vec![];
        for _ in 0..self.settings.batch {
            chosen.push((random.next_u64() % self.texts[0].len() as u64) as usize);
            told.push(((random.next_u64() >> 11) as f64 / (1u64 << 53) as f64) >= self.without_text);
        }
        Ok(self.batch_of(0, &chosen, |row| told[row]))
    }

    fn held_out(&self) -> Result<DiffusionBatch> {
        Ok(self.batch_of(1, &(0..self.settings.held_out).collect::<Vec<_>>(), |_| true))
    }

    fn listen(&self, trainer: &Trainer<DiffusionTask>) -> Result<Look> {
        let model = StableAudio::load(&self.config, &trainer.weights())?;
        let count = self.settings.held_out.min(LISTENED);
        let hooks = &mut Hooks::none();
        let conditioning = model.condition(hooks, &self.texts[1][..count], None, 0.0, self.seconds());
        let key = |index: usize| NoiseKey::new(self.settings.seed, &self.captions[index], index as u64);
        let keys: Vec<NoiseKey> = (0..count).map(key).collect();
        let (channels, length) = (self.config.latent_channels(), self.config.latent_length());
        let request = SampleRequest {
            steps: STEPS,
            sigma_min: 0.03,
            sigma_max: 100.0,
            schedule: Schedule::Polyexponential { rho: 1.0 },
            sampler: SamplerSettings {
                sampler: Sampler::Dpmpp2mSde,
                eta: 1.0,
                s_noise: 1.0,
                solver_type: SolverType::Midpoint,
            },
            guidance: GUIDANCE,
            rescale: 0.0,
            latent_length: length,
            initial: InitialScale::default(),
        };
        let mut noise = BrownianNoise::new(&keys, channels, length);
        let sampled = model.sample(hooks, &conditioning, &request, &mut noise, &mut |_| ControlFlow::Continue(()));
        let ControlFlow::Continue(latents) = sampled else { return Err(anyhow!("sampling was stopped")) };
        let wanted = self.batch_of(1, &(0..count).collect::<Vec<_>>(), |_| true).latents;
        let mut look = Look::default();
        for (name, latents) in [("original", wanted), ("generated", latents)] {
            let sound = model.decode(latents, None);
            let length = sound.dims()[2];
            for (index, clip) in values(sound)?.chunks_exact(length).enumerate() {
                let wave = Waveform::new(vec![clip.to_vec()], self.config.sample_rate())?;
                look.sounds.push((format!("{index}_{name}"), wave));
            }
        }
        Ok(look)
    }

    fn files(&self, tensors: Vec<NamedTensor>) -> Result<Vec<ModelFile>> {
        let part = |prefix: &str| -> Vec<NamedTensor> {
            let within = |(name, shape, values): &NamedTensor| {
                Some((name.strip_prefix(prefix)?.to_owned(), shape.clone(), values.clone()))
            };
            tensors.iter().filter_map(within).collect()
        };
        let named = |value: serde_json::Value, class: &str| {
            let mut value = value;
            value["_class_name"] = class.into();
            value
        };
        let StableAudioConfig { text_encoder, text_tokens, projection_model, transformer, vae, scheduler } =
            &self.config;
        let mut text = serde_json::to_value(text_encoder)?;
        text["model_type"] = "t5".into();
        text["architectures"] = json!(["T5EncoderModel"]);
        let index = json!({
            "_class_name": "StableAudioPipeline",
            "projection_model": ["stable_audio", "StableAudioProjectionModel"],
            "scheduler": ["diffusers", "CosineDPMSolverMultistepScheduler"],
            "text_encoder": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "T5TokenizerFast"],
            "transformer": ["diffusers", "StableAudioDiTModel"],
            "vae": ["diffusers", "AutoencoderOobleck"],
        });
        let dit = named(serde_json::to_value(transformer)?, "StableAudioDiTModel");
        let projection = named(serde_json::to_value(projection_model)?, "StableAudioProjectionModel");
        let scheduler = named(serde_json::to_value(scheduler)?, "CosineDPMSolverMultistepScheduler");
        let weights = PARTS.map(|(prefix, file)| {
            let tensors = part(prefix);
            ModelFile::tensors(file, if prefix == "vae." { AutoencoderTask::exported(tensors) } else { tensors })
        });
        let mut files = vec![
            ModelFile::json("scheduler/scheduler_config.json", &scheduler)?,
            ModelFile::json("text_encoder/config.json", &text)?,
            ModelFile::json("tokenizer/tokenizer_config.json", &json!({"model_max_length": text_tokens}))?,
            ModelFile::bytes(TOKENIZER, self.tokenizer.clone().into_bytes()),
            ModelFile::json("projection_model/config.json", &projection)?,
            ModelFile::json("vae/config.json", &autoencoder::config_json(vae)?)?,
            ModelFile::json("transformer/config.json", &dit)?,
        ];
        files.extend(weights);
        files.push(ModelFile::json("model_index.json", &index)?);
        Ok(files)
    }
}
