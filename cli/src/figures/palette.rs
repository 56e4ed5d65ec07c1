//! Colours that readers with any colour vision tell apart, and markers and dashes for those who print in grey.

/// A colour with its opacity, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ink {
    pub(super) rgb: [u8; 3],
    pub(super) opacity: f64,
}

impl Ink {
    pub(super) const BLACK: Self = Self::solid([0, 0, 0]);
    /// Axes and text that is not the message.
    pub(super) const DARK: Self = Self::solid([64, 64, 64]);
    /// Reference lines.
    pub(super) const GREY: Self = Self::solid([120, 120, 120]);
    /// Behind the hatching of what has no value.
    pub(super) const PALE: Self = Self::solid([222, 222, 222]);
    pub(super) const GRID: Self = Self::solid([228, 228, 228]);
    pub(super) const WHITE: Self = Self::solid([255, 255, 255]);

    pub(super) const fn solid(rgb: [u8; 3]) -> Self {
        Self { rgb, opacity: 1.0 }
    }

    pub(super) const fn faint(self, opacity: f64) -> Self {
        Self { opacity, ..self }
    }
}

/// Okabe and Ito, "Color Universal Design", 2008, without its yellow, which is too faint for a line on white.
const SERIES: [[u8; 3]; 7] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233], [0, 0, 0]];

/// Points of a line or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    TriangleDown,
    Plus,
    Star,
}

const MARKERS: [Marker; 8] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Cross,
    Marker::TriangleDown,
    Marker::Plus,
    Marker::Star,
];

/// Lengths of dashes and gaps in turn, points; none for an unbroken line.
const DASHES: [&[f64]; 4] = [&[], &[6.0, 2.5], &[1.8, 1.8], &[7.0, 2.0, 1.8, 2.0]];

/// Dashes of reference lines.
pub(super) const REFERENCE_DASHES: [&[f64]; 3] = [&[3.0, 3.0], &[8.0, 4.0], &[1.2, 2.4]];

/// Colour of the series `index`.
pub(super) fn ink(index: usize) -> Ink {
    Ink::solid(SERIES[index % SERIES.len()])
}

/// Marker of the series or group `index`.
pub(super) fn marker(index: usize) -> Marker {
    MARKERS[index % MARKERS.len()]
}

/// Dashes of the series `index`; with the colours, 28 series look different.
pub(super) fn dashes(index: usize) -> &'static [f64] {
    DASHES[index % DASHES.len()]
}

/// Anchors of matplotlib's viridis (CC0), dark to light.
const SEQUENTIAL: [[u8; 3]; 9] = [
    [68, 1, 84],
    [71, 44, 122],
    [59, 81, 139],
    [44, 113, 142],
    [33, 144, 141],
    [39, 173, 129],
    [92, 200, 99],
    [170, 220, 50],
    [253, 231, 37],
];

/// Blue below, near white in the middle, orange above, as dark at one end as at the other.
const DIVERGING: [[u8; 3]; 7] =
    [[5, 66, 124], [56, 134, 192], [155, 200, 226], [246, 246, 246], [250, 190, 132], [224, 116, 28], [146, 58, 4]];

/// The colour at `share` of the way, 0 to 1, along viridis.
pub(super) fn sequential(share: f64) -> Ink {
    between(&SEQUENTIAL, share)
}

/// The colour at `share` of the way, 0 to 1, from blue to orange; 0.5 is the neutral middle.
pub(super) fn diverging(share: f64) -> Ink {
    between(&DIVERGING, share)
}

fn between(anchors: &[[u8; 3]], share: f64) -> Ink {
    let position = share.clamp(0.0, 1.0) * (anchors.len() - 1) as f64;
    #[expect(clippy::cast_sign_loss, reason = "the share was clamped")]
    let below = (position as usize).min(anchors.len() - 2);
    let weight = position - below as f64;
    #[expect(clippy::cast_sign_loss, reason = "between two bytes")]
    let mix = |channel: usize| {
        let (from, to) = (f64::from(anchors[below][channel]), f64::from(anchors[below + 1][channel]));
        (from + (to - from) * weight).round() as u8
    };
    Ink::solid([mix(0), mix(1), mix(2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_begin_and_end_where_they_should() {
        assert_eq!(sequential(-3.0).rgb, SEQUENTIAL[0]);
        assert_eq!(sequential(1.0).rgb, SEQUENTIAL[8]);
        assert_eq!(diverging(0.5).rgb, [246, 246, 246]);
        assert_eq!(sequential(f64::NAN).rgb.len(), 3);
    }

    #[test]
    fn the_ends_of_the_diverging_scale_are_equally_dark() {
        let luma =
            |ink: Ink| 0.2126 * f64::from(ink.rgb[0]) + 0.7152 * f64::from(ink.rgb[1]) + 0.0722 * f64::from(ink.rgb[2]);
        assert!((luma(diverging(0.0)) - luma(diverging(1.0))).abs() < 16.0);
    }

    #[test]
    fn many_series_look_different() {
        let looks: Vec<_> = (0..28).map(|index| (ink(index).rgb, dashes(index))).collect();
        assert!((0..28).all(|index| !looks[..index].contains(&looks[index])));
    }
}
