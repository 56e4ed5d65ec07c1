//! The numbers that are reported, in 64 bit on the host.
//!
//! Slices of different lengths are a bug of the caller and panic. A number that is not defined for its input, such as the
//! area under a curve of one class, is `None`.

mod classification;
mod decisions;
mod interval;
mod odds;
mod ranking;

pub use classification::{Baseline, accuracy, auroc, auroc_one_vs_rest, balanced_accuracy, majority_baseline};
pub use decisions::{BinaryScores, Decisions};
pub use interval::{Interval, cluster_intervals, mean_interval, quantile};
pub use odds::{Effect, kl_divergence, kl_elementwise, log_odds_effect, log_softmax, sigmoid, softmax};
pub use ranking::ndcg;
