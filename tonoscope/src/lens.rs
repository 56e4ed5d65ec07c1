//! The logit lens of a piece of music.

use tonoscope_core::{
    hooks::Hooks,
    lens::{LayerReading, ResidualStreams},
    models::musicgen::SequenceKey,
};

use crate::{Music, MusicGen, Result};

/// Likeliest codes that are kept of each reading.
const TOP: usize = 5;

impl MusicGen {
    /// Logit lens: what each layer says about every code of `music`, which this model has made without edits. The residual
    /// stream after each layer goes through the final norm and the heads, along the codes of the whole model.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// let music = model.generate("a slow piano melody").seconds(0.2).run()?;
    /// let readings = model.logit_lens(&music)?;
    /// assert_eq!(readings.len(), model.layers());
    /// assert_eq!(readings.last().unwrap().codes, music.codes(), "the last layer is the whole model");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Lens`](crate::Error::Lens) if the music is longer than the model sees at once, or the device fails.
    pub fn logit_lens(&self, music: &Music) -> Result<Vec<LayerReading>> {
        pollster::block_on(self.logit_lens_async(music))
    }

    /// [`Self::logit_lens`], without blocking.
    ///
    /// # Errors
    /// As [`Self::logit_lens`].
    pub async fn logit_lens_async(&self, music: &Music) -> Result<Vec<LayerReading>> {
        self.check_codes(music.codes())?;
        let prompt = self.prompt(music.prompt(), music.sample)?;
        let text = self.core().encode_text(&mut Hooks::none(), &[prompt.ids]);
        let streams = ResidualStreams::of(self.core(), &text, music.codes(), &music.options)?;
        let layers: Vec<usize> = (1..=self.layers()).collect();
        let key = SequenceKey::new(music.prompt(), music.sample);
        Ok(streams.readings(&key, &layers, None, TOP).await?)
    }
}
