//! Interchange interventions: what becomes of the music when one concept's mean activations stand in for another's.
//!
//! [`MeanActivations`] are recorded over the prompts of a concept; an [`Experiment`] puts those of a desired concept in place of an
//! original one's, or adds the difference, at one site and layer per row of a batch, so that many interventions share one
//! pass over the weights.
//!
//! Source: Vélez Vásquez et al., "Exploring the Inner Mechanisms of Large Generative Music Models", ISMIR 2024, section 4.

mod control;
mod experiment;
mod means;

pub use control::{random_direction, self_patch};
pub use experiment::{Experiment, Feed, InterventionError, PUBLISHED_ROWS, Place, Rows, Technique, places};
/// [`MeanActivations`] by its former name.
pub use means::MeanActivations as Means;
pub use means::{MeanActivations, MeansError, difference};
