//! What can be wrong with the settings of a generation, before anything is read.

use super::{Generate, Sampling, Window};

/// Longest music that is made in one run, in seconds.
pub const MAX_SECONDS: f64 = 3600.0;

/// A setting outside its range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// No music, or too much.
    #[error("a duration of {0} s, expected more than 0 and at most {MAX_SECONDS} s")]
    Duration(f64),
    /// Logits cannot be divided by it.
    #[error("a temperature of {0}, expected a positive number")]
    Temperature(f64),
    /// Not a share of the probability.
    #[error("a top-p of {0}, expected 0 to 1")]
    TopP(f64),
    /// NaN or infinite.
    #[error("a guidance that is not a number")]
    Guidance,
    /// Shorter than one frame of codes.
    #[error("{seconds} s is less than one frame of {frame} s")]
    Frame {
        /// Seconds asked for.
        seconds: f64,
        /// Length of a frame in seconds.
        frame: f64,
    },
}

impl Sampling {
    /// Checks temperature and top-p.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn check(&self) -> Result<(), SettingError> {
        let Self::Random { temperature, top_p, .. } = *self else { return Ok(()) };
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(SettingError::Temperature(temperature));
        }
        if !(0.0..=1.0).contains(&top_p) {
            return Err(SettingError::TopP(top_p));
        }
        Ok(())
    }
}

impl Generate {
    /// `seconds` of music from a model of `frame_rate` frames per second, in published windows.
    ///
    /// # Errors
    /// [`SettingError`] if a setting is outside its range.
    pub fn new(seconds: f64, guidance: f64, sampling: Sampling, frame_rate: usize) -> Result<Self, SettingError> {
        Self::check(seconds, Some(guidance), &sampling)?;
        let frames = (seconds * frame_rate as f64).round() as usize;
        if frames == 0 {
            return Err(SettingError::Frame { seconds, frame: 1.0 / frame_rate as f64 });
        }
        Ok(Self { frames, guidance, sampling, window: Window::published(frame_rate) })
    }

    /// What can be said of the settings while the model is not known; a guidance of `None` is that of its checkpoint.
    ///
    /// # Errors
    /// [`SettingError`] if a setting is outside its range.
    pub fn check(seconds: f64, guidance: Option<f64>, sampling: &Sampling) -> Result<(), SettingError> {
        if !(seconds > 0.0 && seconds <= MAX_SECONDS) {
            return Err(SettingError::Duration(seconds));
        }
        sampling.check()?;
        if guidance.is_some_and(|guidance| !guidance.is_finite()) {
            return Err(SettingError::Guidance);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_outside_their_range_are_named() {
        let random = |temperature, top_p| Sampling::Random { temperature, top_k: 0, top_p, seed: 0 };
        let new = |seconds, guidance, sampling| Generate::new(seconds, guidance, sampling, 50).map(|how| how.frames);
        assert_eq!(new(0.5, 3.0, random(1.0, 0.0)), Ok(25));
        assert_eq!(
            new(f64::NAN, 3.0, Sampling::Greedy).map_err(|error| matches!(error, SettingError::Duration(_))),
            Err(true)
        );
        assert_eq!(new(3601.0, 3.0, Sampling::Greedy), Err(SettingError::Duration(3601.0)));
        assert_eq!(new(0.001, 3.0, Sampling::Greedy), Err(SettingError::Frame { seconds: 0.001, frame: 0.02 }));
        assert_eq!(new(1.0, f64::INFINITY, Sampling::Greedy), Err(SettingError::Guidance));
        assert_eq!(new(1.0, 3.0, random(0.0, 0.0)), Err(SettingError::Temperature(0.0)));
        assert_eq!(new(1.0, 3.0, random(1.0, 1.5)), Err(SettingError::TopP(1.5)));
    }
}
