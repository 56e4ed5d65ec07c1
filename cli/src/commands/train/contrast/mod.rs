//! Training a CLAP.

mod called;
mod through;

use std::{io, path::Path};

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData, s};
use rand_chacha::rand_core::Rng;
use serde_json::json;
use tonoscope_core::{
    audio::Waveform,
    checkpoint::{Placement, Weights},
    corpus::Split,
    hooks::Hooks,
    models::{
        clap::{Clap, ClapConfig, FeatureConfig, FrontEnd},
        t5::{T5Tokenizer, TokenIds},
    },
    musicologist::{FAMILIES, Note, read_notes},
    training::{Bands, ContrastBatch, ContrastTask, NamedTensor, StepKey, Trainer},
};

use self::{
    called::{called, described, of_family, words_of_notes},
    through::Through,
};
use super::{Look, ModelFile, Study, captions::words, encoded::Clips, settings::Settings, source::Source, values};
use crate::{
    commands::data::{NotesArgs, render_notes},
    embedder::cosine,
    failure::Misuse,
    files::OutputFolder,
    session::sha256,
    sound::{find_sound, read_sound},
};

/// Samples per second that phrases are played with, as by the models whose music will be heard.
const PLAYED_RATE: u32 = 32_000;
/// Its file in a model's folder.
const TOKENIZER: &str = "tokenizer.json";
/// Phrases whose bands are measured.
const MEASURED: usize = 32;
/// Clips that are embedded at a time when looked at.
const LOOKED_AT_ONCE: usize = 16;

/// A CLAP, the phrases and the notes that it learns from.
pub(super) struct ContrastStudy {
    settings: Settings,
    config: ClapConfig,
    front_end: FrontEnd,
    bands: Bands,
    /// What every second phrase passes through: music that is heard later mostly comes from it.
    through: Option<Through>,
    words: T5Tokenizer,
    tokenizer: String,
    source: Source,
    programs: [Vec<u16>; 2],
    notes_per_program: u16,
    /// What is learnt from, and what is not.
    phrases: [Pool; 2],
    notes: [Pool; 2],
    /// Of the held-out notes, indices into [`FAMILIES`].
    families: Vec<usize>,
    device: Device,
}

/// Clips as the model meets them.
#[derive(Default)]
struct Pool {
    texts: Vec<TokenIds>,
    /// Spectrograms, one after another; none before the training begins.
    mel: Vec<f32>,
}

/// What the settings say of it.
pub(super) struct Parts<'a> {
    pub(super) autoencoder: Option<&'a Path>,
    pub(super) clips: usize,
    pub(super) programs: [&'a Vec<u16>; 2],
    pub(super) notes_per_program: u16,
    pub(super) features: &'a FeatureConfig,
    pub(super) config: &'a toml::Table,
}

impl Parts<'_> {
    /// What contradicts itself, if anything. No programs would be all of them.
    fn contradiction(&self) -> Option<String> {
        let [learnt, held_out] = self.programs;
        if learnt.is_empty() || held_out.is_empty() || self.notes_per_program == 0 {
            return Some("there are no `programs`, no `held_out_programs` or no notes of them".to_owned());
        }
        let both = held_out.iter().find(|program| learnt.contains(program))?;
        Some(format!("program {both} is learnt from and held out"))
    }
}

impl ContrastStudy {
    pub(super) fn new(settings: &Settings, parts: &Parts<'_>, placement: &Placement) -> Result<Self> {
        let device = &placement.device;
        if let Some(reason) = parts.contradiction() {
            return Err(Misuse::new(format!("`model.contrast`: {reason}")).into());
        }
        let through = match parts.autoencoder {
            Some(folder) => Some(Through::open(folder, placement)?),
            None => None,
        };
        let source = Source::open(settings, PLAYED_RATE)?;
        let counts = [(Split::Training, parts.clips), (Split::Validation, settings.held_out)];
        let captions = counts.map(|(split, count)| called(&source, split, count));
        let of_notes = words_of_notes();
        let all = captions[0].iter().chain(&of_notes).map(String::as_str);
        let start = settings.start.as_ref().map(|start| start.join(TOKENIZER));
        // The text tower speaks through its first token, which should be the same for all.
        let (tokenizer, pieces) = words(all, start.as_deref(), |tokenizer| {
            let end = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
            tokenizer["post_processor"]["single"] = json!([end, {"Sequence": {"id": "A", "type_id": 0}}, end]);
        })?;
        let mut table = parts.config.clone();
        let text = table.entry("text_config").or_insert_with(|| toml::Table::new().into());
        if let Some(text) = text.as_table_mut() {
            text.insert("vocab_size".to_owned(), toml::Value::Integer(pieces.next_multiple_of(16) as i64));
            text.insert("pad_token_id".to_owned(), toml::Value::Integer(0));
        }
        let wrong = |error: toml::de::Error| Misuse::new(format!("`model.contrast.config`: {error}"));
        let config: ClapConfig = toml::Value::Table(table).try_into().map_err(wrong)?;
        // Refuses shapes that contradict themselves, before anything is heard through them.
        Clap::load(&config, parts.features, &Weights::for_training(device))?;
        let text = &config.text_config;
        let words = T5Tokenizer::from_bytes(tokenizer.as_bytes(), text.most_tokens(), text.vocab_size)?;
        let pool = |captions: &[String]| -> Result<Pool> {
            Ok(Pool { texts: captions.iter().map(|text| words.encode(text)).collect::<Result<_, _>>()?, mel: vec![] })
        };
        let phrases = [pool(&captions[0])?, pool(&captions[1])?];
        let mut study = Self {
            settings: settings.clone(),
            config,
            front_end: FrontEnd::new(parts.features),
            bands: Bands::default(),
            through,
            words,
            tokenizer,
            source,
            programs: parts.programs.map(Clone::clone),
            notes_per_program: parts.notes_per_program,
            phrases,
            notes: Default::default(),
            families: vec![],
            device: device.clone(),
        };
        let measured = study.clips(Split::Training, MEASURED.min(parts.clips));
        let measured = measured.encode(|sound| study.heard(sound), device)?;
        study.bands = Bands::of(&measured, parts.features.feature_size);
        Ok(study)
    }

    fn clips(&self, split: Split, count: usize) -> Clips<'_> {
        let samples = (self.settings.seconds * f64::from(PLAYED_RATE)) as usize;
        Clips { source: &self.source, split, count, samples }
    }

    /// Spectrograms of sounds `[clip, 1, sample]`.
    fn heard(&self, sound: Tensor<3>) -> Result<Vec<f32>> {
        let [clips, _, length] = sound.dims();
        let mut mel = vec![];
        let coded = match &self.through {
            Some(through) if clips > 1 => through.pass(sound.clone().slice_dim(0, s![1..;2]))?,
            _ => vec![],
        };
        let mut coded = coded.into_iter();
        for (index, clip) in values(sound)?.chunks_exact(length).enumerate() {
            let coded = if index % 2 == 1 { coded.next() } else { None };
            let clip = coded.unwrap_or_else(|| clip.to_vec());
            mel.extend(self.spectrogram(Waveform::new(vec![clip], PLAYED_RATE)?)?);
        }
        Ok(mel)
    }

    fn spectrogram(&self, wave: Waveform) -> Result<Vec<f32>> {
        let rate = u32::try_from(self.front_end.config().sampling_rate)?;
        let heard = wave.resample_sinc(rate)?;
        Ok(self.front_end.features(&heard.channels()[0]).mel)
    }

    /// Plays the notes of a part, and turns them into spectrograms.
    fn play(&mut self, folder: &OutputFolder, part: usize) -> Result<()> {
        let path = folder.path().join(["notes", "notes_held_out"][part]);
        let (programs, seed) = (self.programs[part].clone(), self.settings.seed);
        render_notes(&NotesArgs::of(path.clone(), programs, self.notes_per_program, seed), &mut io::sink())?;
        let examples = path.join("examples.json");
        let bytes = std::fs::read(&examples).with_context(|| format!("cannot read `{}`", examples.display()))?;
        let mut pool = Pool::default();
        for (index, note) in read_notes(&bytes)?.iter().enumerate() {
            pool.texts.push(self.words.encode(&described(note, index))?);
            pool.mel.extend(self.spectrogram(note_sound(&path, note)?)?);
            if part == 1 {
                let family = FAMILIES.iter().position(|family| **family == *note.instrument_family_str);
                self.families.push(family.unwrap_or_default());
            }
        }
        self.notes[part] = pool;
        Ok(())
    }

    fn size(&self) -> usize {
        self.front_end.config().frames() * self.front_end.config().feature_size
    }

    /// `[row, 1, frame, band]`
    fn mel(&self, values: Vec<f32>) -> Tensor<4> {
        let config = self.front_end.config();
        let shape = [values.len() / self.size(), 1, config.frames(), config.feature_size];
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// Some clips of each pool.
    fn batch_of(&self, chosen: [(&Pool, Vec<usize>); 2]) -> ContrastBatch {
        let size = self.size();
        let (mut mel, mut texts) = (vec![], vec![]);
        for (pool, clips) in chosen {
            for clip in clips {
                mel.extend_from_slice(&pool.mel[clip * size..(clip + 1) * size]);
                texts.push(pool.texts[clip].clone());
            }
        }
        ContrastBatch { mel: self.mel(mel), texts }
    }

    /// Vectors of all sounds of a pool.
    fn sounds(&self, clap: &Clap, pool: &Pool) -> Result<Vec<Vec<f32>>> {
        let mut vectors = vec![];
        for part in pool.mel.chunks(LOOKED_AT_ONCE * self.size()) {
            let mel = self.mel(part.to_vec());
            let rows = vec![false; mel.dims()[0]];
            vectors.extend(unit(clap.project_audio(clap.audio().forward(&mut Hooks::none(), mel, &rows)))?);
        }
        Ok(vectors)
    }
}

impl Study for ContrastStudy {
    type Task = ContrastTask;

    fn task(&self) -> ContrastTask {
        ContrastTask::new(self.config.clone(), self.front_end.config().clone(), self.bands.clone())
    }

    fn prepare(&mut self, folder: &OutputFolder) -> Result<()> {
        let through = self.through.as_ref().map(|through| sha256(&through.file)).transpose()?;
        let key = format!("{} {}", serde_json::to_string(self.front_end.config())?, through.unwrap_or_default());
        for (part, split) in [Split::Training, Split::Validation].into_iter().enumerate() {
            let clips = self.clips(split, self.phrases[part].texts.len());
            let mel = clips.encoded(folder, &key, |sound| self.heard(sound), &self.device)?;
            self.phrases[part].mel = mel;
            self.play(folder, part)?;
        }
        Ok(())
    }

    fn batch(&self, key: StepKey) -> Result<ContrastBatch> {
        let mut random = key.random("clips");
        let of_notes = self.settings.batch / 2;
        let mut draw = |pool: &Pool, count: usize| -> Vec<usize> {
            (0..count).map(|_| (random.next_u64() % pool.texts.len() as u64) as usize).collect()
        };
        let (phrases, notes) = (&self.phrases[0], &self.notes[0]);
        let some = draw(phrases, self.settings.batch - of_notes);
        Ok(self.batch_of([(phrases, some), (notes, draw(notes, of_notes))]))
    }

    fn held_out(&self) -> Result<ContrastBatch> {
        let some = |pool: &Pool| -> Vec<usize> {
            let (all, count) = (pool.texts.len(), pool.texts.len().min(self.settings.batch / 2));
            (0..count).map(|index| index * all / count).collect()
        };
        let (phrases, notes) = (&self.phrases[1], &self.notes[1]);
        Ok(self.batch_of([(phrases, some(phrases)), (notes, some(notes))]))
    }

    fn listen(&self, trainer: &Trainer<ContrastTask>) -> Result<Look> {
        let clap = Clap::load(&self.config, self.front_end.config(), &trainer.weights())?;
        let read = |texts: &[TokenIds]| -> Result<Vec<Vec<f32>>> {
            let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
            unit(clap.project_text(clap.text().forward(&mut Hooks::none(), texts, longest).pooled))
        };
        let mut look = Look::default();
        let phrases = &self.phrases[1];
        let captions = read(&phrases.texts)?;
        let nearest = self.sounds(&clap, phrases)?.iter().map(|sound| nearest(sound, &captions)).collect::<Vec<_>>();
        let right = nearest.iter().zip(&phrases.texts).filter(|(found, own)| phrases.texts[**found] == **own).count();
        look.numbers.insert("caption_found".to_owned(), right as f64 / nearest.len().max(1) as f64);
        let named = FAMILIES.map(|family| self.words.encode(&of_family(family)));
        let families = read(&named.into_iter().collect::<Result<Vec<_>, _>>()?)?;
        let sounds = self.sounds(&clap, &self.notes[1])?;
        let right = sounds.iter().zip(&self.families).filter(|(sound, own)| self::nearest(sound, &families) == **own);
        look.numbers.insert("family_found".to_owned(), right.count() as f64 / sounds.len().max(1) as f64);
        Ok(look)
    }

    fn files(&self, mut tensors: Vec<NamedTensor>) -> Result<Vec<ModelFile>> {
        let mut config = serde_json::to_value(&self.config)?;
        config["model_type"] = "clap".into();
        config["architectures"] = json!(["ClapModel"]);
        config["audio_config"]["model_type"] = "clap_audio_model".into();
        config["text_config"]["model_type"] = "clap_text_model".into();
        let mut features = serde_json::to_value(self.front_end.config())?;
        features["feature_extractor_type"] = "ClapFeatureExtractor".into();
        // transformers wants a second temperature, for texts, and keeps it equal at first.
        let second = tensors.iter().find(|(name, ..)| name == "logit_scale_a").cloned();
        tensors.extend(second.map(|(_, shape, values)| ("logit_scale_t".to_owned(), shape, values)));
        Ok(vec![
            ModelFile::json("config.json", &config)?,
            ModelFile::json("preprocessor_config.json", &features)?,
            ModelFile::bytes(TOKENIZER, self.tokenizer.clone().into_bytes()),
            ModelFile::tensors("model.safetensors", tensors),
        ])
    }
}

/// Rows of length 1.
fn unit(rows: Tensor<2>) -> Result<Vec<Vec<f32>>> {
    let width = rows.dims()[1];
    let unit = |row: &[f32]| {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        row.iter().map(|value| value / length).collect()
    };
    Ok(values(rows.unsqueeze())?.chunks_exact(width).map(unit).collect())
}

/// Which of `vectors` has the smallest angle to `sound`.
fn nearest(sound: &[f32], vectors: &[Vec<f32>]) -> usize {
    let cosines: Vec<f64> = vectors.iter().map(|vector| cosine(sound, vector)).collect();
    (0..cosines.len()).max_by(|&one, &other| cosines[one].total_cmp(&cosines[other])).unwrap_or_default()
}

fn note_sound(folder: &Path, note: &Note) -> Result<Waveform> {
    read_sound(&find_sound(&folder.join("audio"), &note.note_str))
}
