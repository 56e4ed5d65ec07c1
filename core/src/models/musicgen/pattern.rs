//! The delay pattern: codebook `k` runs `k` columns behind.

/// Layout of `frames` frames in delayed columns. Column 0 is the beginning, and holds padding alone.
///
/// In stereo, left and right alternate and share a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayPattern {
    /// Codebooks of all channels.
    pub codebooks: usize,
    /// 1 or 2.
    pub channels: usize,
    /// Frames of the undelayed codes.
    pub frames: usize,
}

impl DelayPattern {
    /// Columns, the first one included.
    pub fn columns(&self) -> usize {
        self.frames + self.codebooks / self.channels
    }

    /// The frame of `codebook` that stands in `column`; `None` where the pattern has padding.
    pub fn frame(&self, codebook: usize, column: usize) -> Option<usize> {
        let frame = column.checked_sub(codebook / self.channels + 1)?;
        (frame < self.frames).then_some(frame)
    }

    /// One column of `codes` (`[codebook][frame]`), padding included.
    pub fn column(&self, codes: &[Vec<u32>], column: usize, pad: u32) -> Vec<u32> {
        let token = |codebook: usize| self.frame(codebook, column).map_or(pad, |frame| codes[codebook][frame]);
        (0..self.codebooks).map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mono_is_the_published_pattern() {
        // transformers' doc of `build_delay_pattern_mask`, for 4 codebooks and 8 columns.
        let pattern = DelayPattern { codebooks: 4, channels: 1, frames: 4 };
        assert_eq!(pattern.columns(), 8);
        let shown: Vec<String> = (0..4)
            .map(|codebook| {
                (0..8).map(|column| if pattern.frame(codebook, column).is_some() { '-' } else { 'P' }).collect()
            })
            .collect();
        assert_eq!(shown, ["P----PPP", "PP----PP", "PPP----P", "PPPP----"]);
    }

    proptest! {
        #[test]
        fn delay_and_undelay_is_identity(frames in 1usize..40, per_channel in 1usize..6, channels in 1usize..3) {
            let pattern = DelayPattern { codebooks: per_channel * channels, channels, frames };
            let mut seen = vec![vec![0; frames]; pattern.codebooks];
            for column in 0..pattern.columns() {
                for (codebook, row) in seen.iter_mut().enumerate() {
                    if let Some(frame) = pattern.frame(codebook, column) {
                        row[frame] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().flatten().all(|&times| times == 1));
        }
    }
}
