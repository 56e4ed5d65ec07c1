//! Training a tagger.

use std::collections::BTreeSet;

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use tonoscope_core::{
    concepts::ConceptSet,
    corpus::{Genre, Instrument, Split},
    hooks::Hooks,
    models::{
        encodec::Encodec,
        passt::{Labels, MelFrontEnd, PasstConfig, Vit},
    },
    training::{NamedTensor, StepKey, TagBatch, TagTask, Trainer},
};

use super::{
    Look, ModelFile, Study,
    codec::Codec,
    settings::{Music, Settings},
    source::{Source, Which},
    values,
};
use crate::failure::Misuse;

/// Clips that are tagged at a time when looked at.
const LOOKED_AT_ONCE: usize = 16;

/// A tagger and the music that it learns from.
pub(super) struct TaggerStudy {
    settings: Settings,
    config: PasstConfig,
    /// What every second clip passes through: what is tagged later mostly comes from it.
    codec: Option<Encodec>,
    source: Source,
    mel: MelFrontEnd,
    instruments: Vec<Vec<usize>>,
    genres: Vec<Vec<usize>>,
    device: Device,
}

/// Clips on their way to a tagger.
struct Heard {
    sounds: Vec<Vec<f32>>,
    /// Index of the instrument and of the genre.
    truths: Vec<[usize; 2]>,
}

impl TaggerStudy {
    pub(super) fn new(
        settings: &Settings,
        config: &PasstConfig,
        codec: Option<Codec>,
        device: &Device,
    ) -> Result<Self> {
        if settings.solos > 0.0 {
            return Err(Misuse::new("a tagger hears genres, which a melody alone does not have")
                .hint("leave out `solos`")
                .into());
        }
        if settings.music == Music::Harmonics {
            return Err(Misuse::new("a tagger needs music of which something is known")
                .hint("set `music` to \"soundfont\"")
                .into());
        }
        let labels = Labels::audioset();
        if config.num_classes != labels.len() {
            let what = format!("`num_classes` is {}, AudioSet has {}", config.num_classes, labels.len());
            return Err(Misuse::new(what).into());
        }
        let rate = u32::try_from(config.mel.sr)?;
        if codec.as_ref().is_some_and(|codec| codec.config.sampling_rate != rate) {
            return Err(Misuse::new("the codec and the tagger have different sample rates").into());
        }
        let classes = |word: &str| classes(word, labels);
        Ok(Self {
            settings: settings.clone(),
            config: config.clone(),
            codec: codec.map(|codec| codec.model),
            source: Source::open(settings, rate)?,
            mel: MelFrontEnd::new(&config.mel),
            instruments: Instrument::ALL.iter().map(|word| classes(word.name())).collect::<Result<_>>()?,
            genres: Genre::ALL.iter().map(|word| classes(word.name())).collect::<Result<_>>()?,
            device: device.clone(),
        })
    }

    fn heard(&self, split: Split, first: usize, count: usize) -> Heard {
        let length = (self.settings.seconds * self.config.mel.sr as f64) as usize;
        let mut heard = Heard { sounds: vec![], truths: vec![] };
        for index in first..first + count {
            let which = Which { split, index };
            let phrase = self.source.phrase(which, length);
            let place = |found: Option<usize>| found.unwrap_or_default();
            let instrument = place(Instrument::ALL.iter().position(|word| *word == phrase.instrument));
            let genre = place(Genre::ALL.iter().position(|word| *word == phrase.genre));
            heard.sounds.push(self.source.clip(which, length).samples);
            heard.truths.push([instrument, genre]);
        }
        heard
    }

    /// Clips after the codec, if there is one.
    fn coded(&self, sounds: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let (Some(codec), Some(first)) = (&self.codec, sounds.first()) else { return Ok(sounds.to_vec()) };
        let length = first.len();
        let data = TensorData::new(sounds.concat(), [sounds.len(), 1, length]);
        let decoded = codec.decode(codec.encode(Tensor::from_data(data, &self.device)));
        let whole = decoded.dims()[2];
        let kept = length.min(whole);
        Ok(values(decoded)?.chunks_exact(whole).map(|sound| sound[..kept].to_vec()).collect())
    }

    /// Spectrograms of clips; those that the codec has cut get their last sample again.
    fn spectrograms(&self, sounds: &[Vec<f32>]) -> Tensor<4> {
        let longest = sounds.iter().map(Vec::len).max().unwrap_or(0);
        let whole = |sound: &Vec<f32>| {
            let mut sound = sound.clone();
            sound.resize(longest, sound.last().copied().unwrap_or(0.0));
            self.mel.log_mel(&sound)
        };
        let values: Vec<f32> = sounds.iter().flat_map(whole).collect();
        let shape = [sounds.len(), 1, self.config.mel.n_mels, self.config.mel.frames(longest)];
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    fn batch_of(&self, heard: &Heard, coded: impl Fn(usize) -> bool) -> Result<TagBatch> {
        let mut sounds = heard.sounds.clone();
        let through: Vec<usize> = (0..sounds.len()).filter(|&index| coded(index)).collect();
        let before: Vec<Vec<f32>> = through.iter().map(|&index| sounds[index].clone()).collect();
        for (index, sound) in through.into_iter().zip(self.coded(&before)?) {
            sounds[index] = sound;
        }
        let classes = self.config.num_classes;
        let mut tags = vec![0.0f32; heard.truths.len() * classes];
        for (row, [instrument, genre]) in tags.chunks_exact_mut(classes).zip(&heard.truths) {
            for &class in self.instruments[*instrument].iter().chain(&self.genres[*genre]) {
                row[class] = 1.0;
            }
        }
        let tags = Tensor::from_data(TensorData::new(tags, [heard.truths.len(), classes]), &self.device);
        Ok(TagBatch { mel: self.spectrograms(&sounds), tags })
    }

    /// Shares of clips whose instrument and whose genre are the likeliest of all.
    fn accuracies(&self, tagger: &Vit, heard: &Heard, coded: bool) -> Result<[f64; 2]> {
        let mut right = [0usize; 2];
        for first in (0..heard.truths.len()).step_by(LOOKED_AT_ONCE) {
            let part = first..(first + LOOKED_AT_ONCE).min(heard.truths.len());
            let part = Heard { sounds: heard.sounds[part.clone()].to_vec(), truths: heard.truths[part].to_vec() };
            let mel = self.batch_of(&part, |_| coded)?.mel;
            let logits = values(tagger.forward(&mut Hooks::none(), mel).logits.unsqueeze())?;
            for (logits, truth) in logits.chunks_exact(self.config.num_classes).zip(&part.truths) {
                for (at, groups) in [&self.instruments, &self.genres].into_iter().enumerate() {
                    right[at] += usize::from(likeliest(logits, groups) == truth[at]);
                }
            }
        }
        Ok(right.map(|count| count as f64 / heard.truths.len() as f64))
    }
}

impl Study for TaggerStudy {
    type Task = TagTask;

    fn task(&self) -> TagTask {
        let taught: BTreeSet<usize> = self.instruments.iter().chain(&self.genres).flatten().copied().collect();
        TagTask::new(self.config.clone(), taught.len())
    }

    fn batch(&self, key: StepKey) -> Result<TagBatch> {
        let count = self.settings.batch;
        self.batch_of(&self.heard(Split::Training, key.step * count, count), |index| index % 2 == 1)
    }

    fn held_out(&self) -> Result<TagBatch> {
        self.batch_of(&self.heard(Split::Validation, 0, self.settings.held_out), |index| index % 2 == 1)
    }

    fn listen(&self, trainer: &Trainer<TagTask>) -> Result<Look> {
        let tagger = Vit::load(&self.config, &trainer.weights())?;
        let heard = self.heard(Split::Validation, 0, self.settings.held_out);
        let mut look = Look::default();
        let kinds = if self.codec.is_some() { &[("", false), ("_coded", true)][..] } else { &[("", false)] };
        for &(kind, coded) in kinds {
            let [instruments, genres] = self.accuracies(&tagger, &heard, coded)?;
            look.numbers.insert(format!("instruments_right{kind}"), instruments);
            look.numbers.insert(format!("genres_right{kind}"), genres);
        }
        Ok(look)
    }

    fn files(&self, tensors: Vec<NamedTensor>) -> Result<Vec<ModelFile>> {
        let mut config = serde_json::to_value(&self.config)?;
        config["model_type"] = "passt".into();
        Ok(vec![ModelFile::json("config.json", &config)?, ModelFile::tensors("model.safetensors", tensors)])
    }
}

/// The classes of AudioSet that mean `word`: those that are relevant for the concept, or the class of this name.
fn classes(word: &str, labels: &Labels) -> Result<Vec<usize>> {
    if let Ok(concept) = ConceptSet::ismir().concept(word) {
        let relevant = concept.relevant(labels)?;
        return Ok((0..labels.len()).filter(|&class| relevant[class]).collect());
    }
    let mut letters = word.chars();
    let name: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    Ok(vec![labels.index_of(&name)?])
}

/// The group of classes whose mean logit is highest; the first of equal ones.
fn likeliest(logits: &[f32], groups: &[Vec<usize>]) -> usize {
    let mean = |group: &Vec<usize>| group.iter().map(|&class| logits[class]).sum::<f32>() / group.len() as f32;
    let means: Vec<f32> = groups.iter().map(mean).collect();
    (0..means.len()).rev().max_by(|&one, &other| means[one].total_cmp(&means[other])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_corpus_has_classes_of_its_own() {
        let labels = Labels::audioset();
        let words = Instrument::ALL.iter().map(|word| word.name()).chain(Genre::ALL.iter().map(|word| word.name()));
        let groups: Vec<Vec<usize>> = words.map(|word| classes(word, labels).unwrap()).collect();
        let all: BTreeSet<usize> = groups.iter().flatten().copied().collect();
        assert_eq!(all.len(), groups.iter().map(Vec::len).sum::<usize>());
        assert_eq!(classes("flute", labels).unwrap(), [labels.index_of("Flute").unwrap()]);
    }

    #[test]
    fn the_likeliest_group_has_the_highest_mean() {
        let groups = [vec![0, 1], vec![2], vec![3]];
        assert_eq!(likeliest(&[9.0, -9.0, 1.0, 2.0], &groups), 2);
        assert_eq!(likeliest(&[9.0, 1.0, 5.0, 2.0], &groups), 0, "the first of equal ones");
    }
}
