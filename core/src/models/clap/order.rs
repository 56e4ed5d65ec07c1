//! In which order the audio tower keeps its tokens.
//!
//! The reference keeps them by row and column, and cuts them into windows and puts them together again in every block. Here
//! they stay in the order of the windows: only blocks whose windows are shifted, and the steps between stages, move any.

/// What separates what must not see each other, as in the reference; not the least number there is.
const APART: f32 = -100.0;

/// The square of tokens of a stage, cut into square windows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) window: usize,
}

impl Grid {
    /// Tokens.
    pub(super) fn len(self) -> usize {
        self.height * self.width
    }

    /// Windows.
    pub(super) fn windows(self) -> usize {
        self.len() / (self.window * self.window)
    }

    /// How far windows can be shifted: not at all where there is one along an axis.
    pub(super) fn shift(self) -> usize {
        if self.height.min(self.width) <= self.window { 0 } else { self.window / 2 }
    }

    /// Row and column in the picture of every token, window by window, when the windows are shifted by `shift`.
    fn places(self, shift: usize) -> impl Iterator<Item = [usize; 2]> {
        let Self { height, width, window } = self;
        (0..self.len()).map(move |at| {
            let (inside, at) = (at % (window * window), at / (window * window));
            let y = at / (width / window) * window + inside / window;
            let x = at % (width / window) * window + inside % window;
            [(y + shift) % height, (x + shift) % width]
        })
    }

    /// For every token window by window, its index row by row.
    pub(super) fn order(self, shift: usize) -> Vec<usize> {
        self.places(shift).map(|[y, x]| y * self.width + x).collect()
    }

    /// Which token in the order of unshifted windows comes when, in the order of shifted ones; and the way back.
    pub(super) fn to_shifted_and_back(self, shift: usize) -> [Vec<usize>; 2] {
        let (plain, shifted) = (self.order(0), self.order(shift));
        let (of_plain, of_shifted) = (inverse(&plain), inverse(&shifted));
        [shifted.iter().map(|&at| of_plain[at]).collect(), plain.iter().map(|&at| of_shifted[at]).collect()]
    }

    /// For every token of the next stage, which has half as many rows and columns, the four that it is made of: by column,
    /// then by row.
    pub(super) fn merged(self, next: Self) -> Vec<usize> {
        let place = inverse(&self.order(0));
        let four =
            |[y, x]: [usize; 2]| [[0, 0], [1, 0], [0, 1], [1, 1]].map(|[row, column]| [2 * y + row, 2 * x + column]);
        next.places(0).flat_map(four).map(|[y, x]| place[y * self.width + x]).collect()
    }

    /// For every query and key of a window, row by row, which row of a table `[(2 window − 1)², heads]` is added to the score.
    pub(super) fn pairs(self) -> Vec<usize> {
        let window = self.window;
        let (reach, across) = (window - 1, 2 * window - 1);
        let tokens = 0..window * window;
        let row = |query: usize, key: usize| {
            let y = query / window + reach - key / window;
            let x = query % window + reach - key % window;
            y * across + x
        };
        tokens.clone().flat_map(|query| tokens.clone().map(move |key| row(query, key))).collect()
    }

    /// What is added to the scores as well where windows are shifted by `shift`, since they then hold strips that lie far
    /// apart and do not see each other: `[window, query, key]`, row-major.
    pub(super) fn apart(self, shift: usize) -> Vec<f32> {
        let size = self.window * self.window;
        let region = |at: usize, len: usize| usize::from(at >= len - self.window) + usize::from(at >= len - shift);
        let regions: Vec<usize> =
            self.places(0).map(|[y, x]| region(y, self.height) * 3 + region(x, self.width)).collect();
        let pair = |one: usize, other: usize| if one == other { 0.0 } else { APART };
        let window = |regions: &[usize]| -> Vec<f32> {
            regions.iter().flat_map(|query| regions.iter().map(|key| pair(*query, *key))).collect()
        };
        regions.chunks_exact(size).flat_map(window).collect()
    }
}

fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (place, &at) in order.iter().enumerate() {
        inverse[at] = place;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { height: 4, width: 4, window: 2 };

    #[test]
    fn windows_come_one_after_another() {
        assert_eq!(GRID.order(0), [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
        assert_eq!(GRID.order(1)[..8], [5, 6, 9, 10, 7, 4, 11, 8]);
        assert_eq!((GRID.windows(), GRID.shift()), (4, 1));
        assert_eq!(Grid { height: 2, ..GRID }.shift(), 0);
    }

    #[test]
    fn the_way_back_is_the_way_back() {
        let [there, back] = GRID.to_shifted_and_back(1);
        assert!((0..16).all(|at| there[back[at]] == at));
        // The first token of the first shifted window is that of row 1 and column 1, the fourth of the first window.
        assert_eq!(there[0], 3);
    }

    #[test]
    fn four_tokens_become_one() {
        let next = Grid { height: 2, width: 2, window: 2 };
        // Tokens 0, 4, 1, 5 row by row; in the order of windows 0, 2, 1, 3.
        assert_eq!(GRID.merged(next)[..4], [0, 2, 1, 3]);
    }

    #[test]
    fn pairs_are_told_apart_by_how_far_they_are() {
        let pairs = GRID.pairs();
        // Of oneself, of what lies right of one, and of what lies below.
        assert_eq!((pairs.len(), &pairs[..3]), (16, &[4, 3, 1][..]));
    }

    #[test]
    fn strips_that_lie_apart_do_not_see_each_other() {
        let apart = GRID.apart(1);
        assert_eq!(apart.len(), 64);
        assert!(apart[..16].iter().all(|&value| value == 0.0), "the first window holds neighbours");
        // The second window holds column 3 and column 0.
        assert_eq!(apart[16..20], [0.0, -100.0, 0.0, -100.0]);
    }
}
