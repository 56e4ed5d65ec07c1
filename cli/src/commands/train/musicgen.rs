//! Training a MusicGen over a codec that is there.

use std::{ops::ControlFlow, path::Path};

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::rand_core::Rng;
use tonoscope_core::{
    audio::Waveform,
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
    samples,
    settings::Settings,
    source::{Source, Which},
};
use crate::progress;

/// Clips that are encoded at a time.
const ENCODED_AT_ONCE: usize = 8;

/// Held-out captions that are played at every look.
const LISTENED: usize = 4;

/// A language model and the codes that it learns from.
pub(super) struct MusicgenStudy {
    settings: Settings,
    config: MusicgenConfig,
    without_text: f64,
    tokenizer: String,
    codec: std::path::PathBuf,
    learnt: Pool,
    held_out: Pool,
    device: Device,
}

/// Clips as the model sees them.
struct Pool {
    texts: Vec<TokenIds>,
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
    pub(super) fn new(settings: &Settings, parts: &Parts<'_>, device: &Device) -> Result<Self> {
        let Codec { config: audio_encoder, model: codec, file: codec_file } = Codec::open(parts.codec, device)?;
        let rate = audio_encoder.sampling_rate;
        let samples = (settings.seconds * f64::from(rate)) as usize;
        let source = Source::open(settings, rate)?;
        let learnt = source.captions(Split::Training, parts.clips);
        let held_out = source.captions(Split::Validation, settings.held_out);
        let Captions { tokenizer, text_encoder } =
            captioned(&learnt, parts.text_encoder, "model.musicgen.text_encoder")?;
        let words = T5Tokenizer::from_bytes(tokenizer.as_bytes(), text_encoder.n_positions, text_encoder.vocab_size)?;
        let pool = |split: Split, captions: &[String]| -> Result<Pool> {
            let texts = captions.iter().map(|caption| words.encode(caption)).collect::<Result<_, _>>()?;
            let bar = progress::steps(captions.len() as u64, "encoding".to_owned(), "clips");
            let mut codes = vec![];
            for first in (0..captions.len()).step_by(ENCODED_AT_ONCE) {
                let count = ENCODED_AT_ONCE.min(captions.len() - first);
                let clip = |index| source.clip(Which { split, index }, samples).samples;
                let sound: Vec<f32> = (first..first + count).flat_map(clip).collect();
                let sound = Tensor::<3>::from_data(TensorData::new(sound, [count, 1, samples]), device);
                codes.extend(host_codes(&codec, sound)?);
                bar.inc(count as u64);
            }
            bar.finish_and_clear();
            Ok(Pool { texts, codes })
        };
        Ok(Self {
            learnt: pool(Split::Training, &learnt)?,
            held_out: pool(Split::Validation, &held_out)?,
            settings: settings.clone(),
            config: MusicgenConfig {
                model_type: "musicgen".to_owned(),
                text_encoder,
                audio_encoder,
                decoder: parts.decoder.clone(),
            },
            without_text: parts.without_text,
            tokenizer,
            codec: codec_file,
            device: device.clone(),
        })
    }
}

/// `[clip][codebook][frame]` of `[clip, 1, sample]`.
fn host_codes(codec: &Encodec, sound: Tensor<3>) -> Result<Vec<Vec<Vec<u32>>>> {
    let codes = codec.encode(sound);
    let [_, codebooks, frames] = codes.dims();
    let data = pollster::block_on(codes.into_data_async())?;
    let flat: Vec<u32> =
        data.convert::<i64>().try_to_vec::<i64>().unwrap_or_default().iter().map(|&c| c as u32).collect();
    Ok(flat
        .chunks_exact(codebooks * frames)
        .map(|clip| clip.chunks_exact(frames).map(<[u32]>::to_vec).collect())
        .collect())
}

impl Study for MusicgenStudy {
    type Task = MusicTask;

    fn task(&self) -> MusicTask {
        MusicTask::new(self.config.clone())
    }

    fn begin(&self, trainer: &mut Trainer<MusicTask>) -> Result<()> {
        trainer.parameters.take("audio_encoder.", &weights(&self.codec, &self.device)?)?;
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
        let GenerationConfig { guidance_scale, top_k, temperature } = GenerationConfig::default();
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
            for (index, clip) in samples(sound)?.chunks_exact(length).enumerate() {
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
        let generation =
            serde_json::json!({"guidance_scale": 3.0, "top_k": 250, "temperature": 1.0, "do_sample": true});
        Ok(vec![
            ModelFile::json("config.json", &config)?,
            ModelFile::json("generation_config.json", &generation)?,
            ModelFile::bytes("tokenizer.json", self.tokenizer.clone().into_bytes()),
            ModelFile::tensors("model.safetensors", CodecTask::exported(tensors)),
        ])
    }
}
