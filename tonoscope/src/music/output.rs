//! What a MusicGen has made.

use std::ops::Deref;

use tonoscope_core::models::musicgen::{Generate, Tie};

use crate::{Audio, outcome::one_piece};

/// A piece of music: its [`Audio`], and the codes that it was decoded from.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let model = MusicGen::from_pretrained("musicgen-nano")?;
/// let music = model.generate("a slow piano melody").seconds(0.2).run()?;
/// assert_eq!(music.prompt(), "a slow piano melody");
/// assert_eq!(music.codes()[0].len(), 10); // 50 frames per second
/// assert_eq!(music.samples().len(), 6_400);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Music {
    pub(super) audio: Audio,
    pub(super) codes: Vec<Vec<u32>>,
    pub(super) prompt: String,
    pub(super) tie: Option<Tie>,
    /// How it was made.
    pub(crate) options: Generate,
    /// Which piece of its prompt it is.
    pub(crate) sample: u64,
}

one_piece!(Music);

impl Music {
    /// The sound; [`Music`] stands for it.
    pub fn audio(&self) -> &Audio {
        &self.audio
    }

    /// `[codebook][frame]`, the delay pattern undone.
    pub fn codes(&self) -> &[Vec<u32>] {
        &self.codes
    }

    /// What it was made for.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }

    /// The first choice between tokens so close that another device may choose otherwise.
    pub fn first_tie(&self) -> Option<Tie> {
        self.tie
    }

    /// How it was made: frames, guidance, sampling.
    pub fn options(&self) -> &Generate {
        &self.options
    }
}

impl Deref for Music {
    type Target = Audio;

    fn deref(&self) -> &Audio {
        &self.audio
    }
}

impl AsRef<Audio> for Music {
    fn as_ref(&self) -> &Audio {
        &self.audio
    }
}
