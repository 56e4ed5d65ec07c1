//! Where the music comes from.

use std::cell::RefCell;

use anyhow::{Context, Result};
use tonoscope_core::{
    corpus::{CAPTION_VARIANTS, Instrument, Phrase, Split, Wanted, caption, phrase},
    training::{Clip, harmonics},
};

use super::settings::{Music, Settings};
use crate::commands::data::{BUILT_IN, Renderer};

/// A kind of music, ready to be heard.
pub(super) struct Source {
    music: Music,
    seed: u64,
    sample_rate: u32,
    /// Share of phrases that are a melody alone.
    solos: f64,
    /// Plays the corpus; none for music that needs no soundfont.
    renderer: Option<RefCell<Renderer>>,
}

/// Which clip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which {
    /// Learnt from, or not.
    pub(super) split: Split,
    /// Its number.
    pub(super) index: usize,
}

impl Source {
    pub(super) fn open(settings: &Settings, sample_rate: u32) -> Result<Self> {
        let renderer = match settings.music {
            Music::Harmonics => None,
            Music::Soundfont => {
                Some(RefCell::new(Renderer::open(BUILT_IN, sample_rate).context("the soundfont inside the program")?))
            }
        };
        Ok(Self { music: settings.music, seed: settings.seed, sample_rate, solos: settings.solos, renderer })
    }

    /// A clip from the beginning of its phrase, mono.
    pub(super) fn clip(&self, which: Which, samples: usize) -> Clip {
        let Some(renderer) = &self.renderer else { return self.harmonics(which, samples) };
        let phrase = self.phrase(which, samples);
        Clip { samples: cut(renderer.borrow_mut().render(&phrase), 0, samples), caption: described(&phrase) }
    }

    /// A clip from anywhere in the first twice as many samples of a phrase, mono: what begins in silence is only a part of
    /// what there is to hear.
    pub(super) fn passage(&self, which: Which, samples: usize) -> Vec<f32> {
        let Some(renderer) = &self.renderer else { return self.harmonics(which, samples).samples };
        let phrase = self.phrase(which, 2 * samples);
        // The lowest bits of a seed say nothing else.
        let from = (phrase.seed % 1024) as usize * samples / 1024;
        cut(renderer.borrow_mut().render(&phrase), from, samples)
    }

    /// What a clip is called, which does not depend on its length, and what it is.
    fn caption(&self, which: Which) -> String {
        match self.music {
            Music::Harmonics => self.harmonics(which, 1).caption,
            Music::Soundfont => described(&self.phrase(which, self.sample_rate as usize)),
        }
    }

    /// The captions of the first `count` clips.
    pub(super) fn captions(&self, split: Split, count: usize) -> Vec<String> {
        (0..count).map(|index| self.caption(Which { split, index })).collect()
    }

    /// Who plays a melody that is alone; none where it is not, or nothing is known.
    pub(super) fn alone(&self, which: Which) -> Option<Instrument> {
        let known = (self.music == Music::Soundfont).then(|| self.phrase(which, self.sample_rate as usize))?;
        known.solo.then_some(known.instrument)
    }

    /// What is known of a clip of the corpus.
    pub(super) fn phrase(&self, which: Which, samples: usize) -> Phrase {
        let seconds = samples as f64 / f64::from(self.sample_rate);
        let seed = which.split.seed(self.seed, which.index as u64);
        // Bits that say nothing else.
        let solo = f64::from((seed >> 32) as u16) < self.solos * f64::from(1u32 << 16);
        phrase(seed, &Wanted { solo, ..Wanted::default() }, seconds)
    }

    fn harmonics(&self, which: Which, samples: usize) -> Clip {
        harmonics(which.split.seed(self.seed, which.index as u64), 0, samples, self.sample_rate)
    }
}

/// The template's sentence for every other phrase, one of its paraphrases for the rest.
fn described(phrase: &Phrase) -> String {
    let variant = (phrase.seed / 1024) % (2 * CAPTION_VARIANTS);
    caption(phrase, variant.saturating_sub(CAPTION_VARIANTS))
}

/// Exactly `samples` samples: a phrase's length in seconds may round to one more or less.
fn cut(mut sound: Vec<f32>, from: usize, samples: usize) -> Vec<f32> {
    sound.drain(..from.min(sound.len()));
    sound.resize(samples, 0.0);
    sound
}
