//! Whether a tower tells anything apart.
//!
//! There are published checkpoints one tower of which was never trained, or is not that of the other: they load, and give
//! embeddings that mean nothing. The least that a trained tower does is to tell a tone from noise, and a dog from a piano.

use std::{f64::consts::TAU, fmt};

use super::{Clap, ClapError};
use crate::models::t5::TokenIds;

/// Cosine from which on inputs that have nothing in common are embedded alike. Measured on `larger_clap_general`'s shape as
/// transformers initialises it: 0.96 between a tone and noise, 0.999 between texts.
const ALIKE: f64 = 0.95;

/// Texts about different things, for [`Clap::check_text`].
pub const CHECKED_TEXTS: [&str; 3] = ["a dog barking", "a slow piano melody", "heavy rain and thunder"];

/// One of the two towers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tower {
    /// That of audio.
    Audio,
    /// That of text.
    Text,
}

impl fmt::Display for Tower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audio => "audio",
            Self::Text => "text",
        })
    }
}

impl Clap {
    /// Listens to a tone and to noise.
    ///
    /// # Errors
    /// [`ClapError::Degenerate`] if their embeddings are nearly the same, not finite, or zero; [`ClapError::Device`].
    pub async fn check_audio(&self) -> Result<(), ClapError> {
        let config = self.front_end().config();
        let tone = (0..config.samples()).map(|at| 0.5 * (TAU * 440.0 * at as f64 / config.sampling_rate as f64).sin());
        // A generator of its own: a check that draws would differ from run to run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let noise = (0..config.samples()).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            0.3 * ((state >> 40) as f64 / f64::from(1 << 23) - 1.0)
        });
        let tone: Vec<f32> = tone.map(|value| value as f32).collect();
        let noise: Vec<f32> = noise.map(|value| value as f32).collect();
        let embeddings = self.audio_vectors(&[&tone, &noise]).await?;
        judged(Tower::Audio, &embeddings)
    }

    /// Reads texts that are about different things: the ids of [`CHECKED_TEXTS`].
    ///
    /// # Errors
    /// As [`Self::check_audio`].
    pub async fn check_text(&self, texts: &[TokenIds]) -> Result<(), ClapError> {
        judged(Tower::Text, &self.text_vectors(texts).await?)
    }
}

fn judged(tower: Tower, embeddings: &[Vec<f32>]) -> Result<(), ClapError> {
    let degenerate = |reason: String| Err(ClapError::Degenerate { tower, reason });
    if embeddings.iter().flatten().any(|value| !value.is_finite()) {
        return degenerate("its embeddings are not finite".to_owned());
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    if embeddings.iter().any(|row| dot(row, row) < 0.5) {
        return degenerate("its embeddings are zero".to_owned());
    }
    let pairs = embeddings.iter().enumerate().flat_map(|(at, a)| embeddings[at + 1..].iter().map(move |b| dot(a, b)));
    let farthest = pairs.fold(f64::INFINITY, f64::min);
    if farthest.is_finite() && farthest > ALIKE {
        return degenerate(format!("inputs that have nothing in common have a cosine of {farthest:.4} or more"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_that_tell_nothing_apart_are_found() {
        let reason = |rows: &[[f32; 2]]| {
            let rows: Vec<Vec<f32>> = rows.iter().map(|row| row.to_vec()).collect();
            match judged(Tower::Text, &rows) {
                Err(ClapError::Degenerate { tower: Tower::Text, reason }) => reason,
                other => format!("{other:?}"),
            }
        };
        assert_eq!(reason(&[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), "Ok(())");
        assert!(reason(&[[1.0, 0.0], [0.9999, 0.01]]).contains("0.9999"));
        assert!(reason(&[[1.0, 0.0], [f32::NAN, 0.0]]).contains("finite"));
        assert!(reason(&[[0.0, 0.0], [1.0, 0.0]]).contains("zero"));
    }
}
