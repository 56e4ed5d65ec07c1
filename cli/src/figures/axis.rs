//! From values to places: ranges, and ticks at round numbers.

use super::scene::text_width;

/// A range of values and where its ticks are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
    step: f64,
}

/// Beyond this, differences of values overflow.
const LARGEST: f64 = 1e300;

/// Least room between labels, over their size.
const ROOM: f64 = 0.7;

impl Axis {
    /// An axis over all finite `values` that ends at ticks, of which there are about `wanted`; `None` if no value is finite.
    pub(super) fn rounded(values: impl IntoIterator<Item = f64>, wanted: usize) -> Option<Self> {
        let (low, high) = range(values)?;
        let step = nearest_step((high - low) / wanted.max(1) as f64);
        let (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        Some(Self::ticked(low, high, step))
    }

    /// An axis from the least to the largest of `values`, with whole ticks if all are whole, and only as many as fit into
    /// `length` points beside each other; `None` if no value is finite.
    pub(super) fn exact(values: &[f64], length: f64, size: f64) -> Option<Self> {
        let whole = values.iter().filter(|value| value.is_finite()).all(|value| value.fract() == 0.0);
        let (low, high) = range(values.iter().copied())?;
        let mut best = None;
        for wanted in 1..=8 {
            let step = round_step((high - low) / f64::from(wanted));
            let axis = Self::ticked(low, high, if whole { step.max(1.0).round() } else { step });
            let widest = axis.widest(size);
            if best.is_some() && axis.gap(length) < widest + size * ROOM {
                break;
            }
            best = Some(axis);
        }
        best
    }

    /// As [`Self::rounded`], with only as many ticks as fit into `length` points beside each other.
    pub(super) fn rounded_within(values: impl IntoIterator<Item = f64>, length: f64, size: f64) -> Option<Self> {
        let (low, high) = range(values)?;
        let axes = (1..=6).rev().filter_map(|wanted| Self::rounded([low, high], wanted));
        axes.reduce(|more, fewer| if more.gap(length) < more.widest(size) + size * ROOM { fewer } else { more })
    }

    /// The widest label, points.
    pub(super) fn widest(&self, size: f64) -> f64 {
        self.ticks.iter().map(|tick| text_width(&self.label(*tick), size)).fold(0.0, f64::max)
    }

    /// An axis from `low` to `high` with three ticks or a few more; `None` if they are not finite.
    pub(super) fn between(low: f64, high: f64) -> Option<Self> {
        let (low, high) = range([low, high])?;
        let axes = (3..12).map(|wanted| Self::ticked(low, high, nearest_step((high - low) / f64::from(wanted))));
        axes.into_iter().find(|axis| axis.ticks.len() >= 3)
    }

    fn ticked(low: f64, high: f64, step: f64) -> Self {
        let first = (low / step - 1e-9).ceil();
        let ticks = (0..32).map(|i| (first + f64::from(i)) * step).take_while(|tick| *tick <= high + step * 1e-6);
        Self { low, high, ticks: ticks.collect(), step }
    }

    fn gap(&self, length: f64) -> f64 {
        length * self.step / (self.high - self.low)
    }

    /// How far `value` is along the axis, 0 to 1.
    pub(super) fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// A tick as text, with as many decimals as the steps need.
    pub(super) fn label(&self, tick: f64) -> String {
        let tick = if tick.abs() < self.step * 1e-6 { 0.0 } else { tick };
        let largest = self.low.abs().max(self.high.abs());
        let text = if largest >= 1e6 || (largest > 0.0 && self.step < 1e-5) {
            let digits = (largest / self.step).log10().ceil().clamp(0.0, 6.0);
            #[expect(clippy::cast_sign_loss, reason = "clamped")]
            let digits = digits as usize;
            let text = format!("{tick:.digits$e}");
            // 2.00e6 is 2e6.
            match text.split_once('e') {
                Some((number, power)) if number.contains('.') => {
                    format!("{}e{power}", number.trim_end_matches('0').trim_end_matches('.'))
                }
                _ => text,
            }
        } else {
            #[expect(clippy::cast_sign_loss, reason = "clamped")]
            let decimals = (-self.step.log10() - 1e-9).ceil().clamp(0.0, 8.0) as usize;
            format!("{tick:.decimals$}")
        };
        if tick == 0.0 { "0".to_owned() } else { text.replace('-', "−") }
    }
}

/// Least and largest finite value, made a little apart if they are equal.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite()).map(|value| value.clamp(-LARGEST, LARGEST));
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return None;
    }
    // Nearer than ticks can tell apart.
    let least = (low.abs().max(high.abs()) * 1e-9).max(1e-290);
    if high - low < least {
        let apart = if low == 0.0 { 1.0 } else { low.abs() * 0.5 };
        // Whole numbers stay whole numbers.
        let apart = if low.fract() == 0.0 && apart.is_finite() { apart.max(1.0).ceil() } else { apart };
        return Some((low - apart, high + apart));
    }
    Some((low, high))
}

/// The least of 1, 2, 5, 10, 20, … that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

/// The round step that is nearest to `wanted`.
fn nearest_step(wanted: f64) -> f64 {
    let power = 10f64.powf(wanted.log10().floor());
    let limits = [(1.5, 1.0), (3.2, 2.0), (7.1, 5.0)];
    limits.into_iter().find(|(limit, _)| wanted <= limit * power).map_or(10.0, |(_, factor)| factor) * power
}

/// Every how many-th of `labels` to write so that they do not touch: `gap` points from one to the next, each `extent` long.
pub(super) fn every(gap: f64, extent: f64) -> usize {
    // Steps that readers count in.
    const STEPS: [usize; 12] = [1, 2, 4, 5, 8, 10, 20, 25, 50, 100, 200, 500];
    STEPS.into_iter().find(|step| *step as f64 * gap >= extent).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let axis = Axis::rounded([0.13, 0.47], 4).unwrap();
        assert_eq!(labels(&axis), ["0.1", "0.2", "0.3", "0.4", "0.5"]);
        let axis = Axis::rounded([-3.0, 0.0, 2.0], 5).unwrap();
        assert_eq!(labels(&axis), ["−3", "−2", "−1", "0", "1", "2"]);
        let axis = Axis::rounded([0.0, 4e7], 4).unwrap();
        assert_eq!(labels(&axis), ["0", "1e7", "2e7", "3e7", "4e7"]);
    }

    #[test]
    fn layers_get_whole_ticks_that_fit() {
        let layers: Vec<f64> = (1..=24).map(f64::from).collect();
        assert_eq!(labels(&Axis::exact(&layers, 300.0, 12.0).unwrap()), ["5", "10", "15", "20"]);
        assert_eq!(labels(&Axis::exact(&[0.0, 1.0, 2.0], 300.0, 12.0).unwrap()), ["0", "1", "2"]);
        assert_eq!(labels(&Axis::exact(&layers, 60.0, 12.0).unwrap()), ["10", "20"]);
        assert_eq!(labels(&Axis::exact(&[12.0], 300.0, 12.0).unwrap()).len(), 7);
    }

    #[test]
    fn strange_values_make_no_strange_axis() {
        assert_eq!(Axis::rounded([f64::NAN, f64::INFINITY], 4), None);
        for values in [[0.0, 0.0], [-1e308, 1e308], [1e-300, 2e-300], [5.0, 5.0], [1e9, 1e9 + 1e-7], [f64::NAN, -2.0]] {
            let axis = Axis::rounded(values, 4).unwrap();
            assert!(axis.low < axis.high && (2..32).contains(&axis.ticks.len()), "{values:?}: {axis:?}");
            assert!(labels(&axis).iter().all(|label| label.len() < 24), "{values:?}: {:?}", labels(&axis));
            let axis = Axis::exact(&values, 200.0, 12.0).unwrap();
            assert!(axis.low < axis.high && axis.ticks.len() < 32, "{values:?}: {axis:?}");
        }
    }

    #[test]
    fn a_colour_bar_has_three_ticks_or_more() {
        assert_eq!(labels(&Axis::between(-1.97, 1.97).unwrap()), ["−1", "0", "1"]);
        for (low, high) in [(0.0, 0.013), (-1e-9, 1e-9), (-1e300, 1e300), (17.2, 23.9), (5.0, 5.0)] {
            let axis = Axis::between(low, high).unwrap();
            assert!((3..9).contains(&axis.ticks.len()), "{low} to {high}: {axis:?}");
        }
    }

    #[test]
    fn labels_are_thinned_to_what_fits() {
        assert_eq!(every(20.0, 16.0), 1);
        assert_eq!(every(5.0, 16.0), 4);
        assert_eq!(every(0.001, 1e9), 1000);
    }
}
