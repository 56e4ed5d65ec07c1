//! How the sequences of a batch share what is the same for several of them.
//!
//! A batch of experiments holds many copies of one prompt that differ from some layer on: they stop at different depths
//! (`DecoderLens`), or are changed in different layers while they see the same tokens (interventions). [`Layout`] says which
//! rows every layer computes, so that what is the same is computed once.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

/// One sequence of a batch, and what it shares with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSharing {
    /// Index of its text among those of the batch.
    pub text: usize,
    /// Layers that run; norm and heads read the residual stream after the last of them.
    pub depth: usize,
    /// Which sequence supplies the tokens for its conditional and its unconditional row. Its own index means free-running.
    pub tokens_from: [usize; 2],
    /// First layer in which its conditional and its unconditional row differ from those of the sequence that supplies their
    /// tokens; below, that sequence's row stands for both. 0: nothing is shared; at `depth` or above: everything is.
    pub diverges_at: [usize; 2],
}

/// [`RowSharing`] by its former name.
pub type Lane = RowSharing;

impl RowSharing {
    /// Sequence `index` with the text of that index: all `layers` run, on tokens of its own.
    pub fn alone(index: usize, layers: usize) -> Self {
        Self { text: index, depth: layers, tokens_from: [index; 2], diverges_at: [0; 2] }
    }
}

/// Rows of a batch, layer by layer.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Branch and sequence of every row: the conditional rows, then the unconditional ones.
    rows: Vec<(usize, usize)>,
    /// Whether the rows are all sequences in all branches, each in all layers.
    even: bool,
    /// Before layer `index`, and after the last.
    boundaries: Vec<Boundary>,
    /// Puts the rows, in the order in which they leave, into the order of `rows`; `None`: they are in it.
    order: Option<Tensor<1, Int>>,
    /// For each branch, the row that stands for each sequence; `None`: row `branch · sequences + sequence`.
    read: Option<Vec<Tensor<1, Int>>>,
    sequences: usize,
}

/// What happens to the rows before a layer.
#[derive(Debug, Clone)]
struct Boundary {
    /// Rows, by position, that leave for the heads.
    leave: Pick,
    /// Rows, by position, that the layer computes: those that stay, and copies of those that others part from.
    stay: Pick,
    /// Rows that the layer computes, by their index among all.
    active: Vec<usize>,
    /// Their branches and sequences.
    named: Arc<[(usize, usize)]>,
}

/// Some of the rows at hand.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there are a few per layer")]
enum Pick {
    All,
    None,
    Some(Tensor<1, Int>),
}

impl Pick {
    fn new(positions: &[usize], len: usize, device: &Device) -> Self {
        if positions.is_empty() {
            Self::None
        } else if positions.iter().copied().eq(0..len) {
            Self::All
        } else {
            Self::Some(indices(positions, device))
        }
    }

    fn of(&self, x: &Tensor<3>) -> Option<Tensor<3>> {
        match self {
            Self::All => Some(x.clone()),
            Self::None => None,
            Self::Some(positions) => Some(x.clone().select(0, positions.clone())),
        }
    }
}

pub(super) fn indices(positions: &[usize], device: &Device) -> Tensor<1, Int> {
    let positions: Vec<i64> = positions.iter().map(|&position| position as i64).collect();
    Tensor::from_data(positions.as_slice(), device)
}

/// [`Layout`] without a device.
struct Plan {
    rows: Vec<(usize, usize)>,
    /// For each layer, and after the last: positions that leave, positions that stay, rows that are computed.
    boundaries: Vec<[Vec<usize>; 3]>,
    /// Rows in the order in which they leave.
    left: Vec<usize>,
    /// For each branch, the row that stands for each sequence.
    read: Vec<Vec<usize>>,
}

impl Plan {
    fn new(lanes: &[RowSharing], branches: usize, layers: usize) -> Self {
        for lane in lanes {
            for branch in (0..branches).filter(|&branch| lane.diverges_at[branch] > 0) {
                let other = &lanes[lane.tokens_from[branch]];
                let whole = other.diverges_at[branch] == 0 && other.depth >= lane.depth && other.text == lane.text;
                assert!(whole, "{lane:?} shares branch {branch} with {other:?}, which is not computed alone");
            }
        }
        let depth = |sequence: usize| lanes[sequence].depth.min(layers);
        let diverges_at = |(branch, sequence): (usize, usize)| lanes[sequence].diverges_at[branch];
        let all = (0..branches).flat_map(|branch| (0..lanes.len()).map(move |sequence| (branch, sequence)));
        let rows: Vec<_> = all.filter(|&row| diverges_at(row) < depth(row.1).max(1)).collect();
        let row_of = |branch: usize, sequence: usize| {
            let own = rows.iter().position(|&row| row == (branch, sequence));
            own.or_else(|| rows.iter().position(|&row| row == (branch, lanes[sequence].tokens_from[branch])))
        };
        let (mut boundaries, mut left) = (vec![], vec![]);
        let mut before: Vec<usize> = (0..rows.len()).filter(|&row| diverges_at(rows[row]) == 0).collect();
        for layer in 0..=layers {
            let position = |row: Option<usize>| before.iter().position(|&other| Some(other) == row);
            let leave: Vec<usize> = (0..before.len()).filter(|&at| depth(rows[before[at]].1) == layer).collect();
            left.extend(leave.iter().map(|&at| before[at]));
            let (mut stay, mut active) = (vec![], vec![]);
            for (row, &(branch, sequence)) in rows.iter().enumerate() {
                let diverges_at = lanes[sequence].diverges_at[branch];
                if depth(sequence) <= layer || diverges_at > layer {
                    continue;
                }
                let parts = diverges_at == layer && layer > 0;
                let from = if parts { row_of(branch, lanes[sequence].tokens_from[branch]) } else { Some(row) };
                stay.push(position(from).expect("a row parts from one that is computed"));
                active.push(row);
            }
            boundaries.push([leave, stay, active.clone()]);
            before = active;
        }
        let stand_for = |branch| (0..lanes.len()).filter_map(|sequence| row_of(branch, sequence)).collect();
        let read = (0..branches).map(stand_for).collect();
        Self { rows, boundaries, left, read }
    }
}

impl Layout {
    /// # Panics
    /// If a sequence shares with one that itself shares, or that has another text or fewer layers: a bug of the caller.
    pub(super) fn new(lanes: &[RowSharing], branches: usize, layers: usize, device: &Device) -> Self {
        let Plan { rows, boundaries, left, read } = Plan::new(lanes, branches, layers);
        let whole = |[_, _, active]: &[Vec<usize>; 3]| active.is_empty() || active.len() == rows.len();
        let even = rows.len() == branches * lanes.len() && boundaries.iter().all(whole);
        let order: Vec<usize> = (0..rows.len()).filter_map(|row| left.iter().position(|&other| other == row)).collect();
        let plain = read.iter().flatten().copied().eq(0..branches * lanes.len());
        let mut at_hand = boundaries[0][0].len() + boundaries[0][1].len();
        let boundaries = boundaries
            .into_iter()
            .map(|[leave, stay, active]| {
                let before = std::mem::replace(&mut at_hand, active.len());
                Boundary {
                    leave: Pick::new(&leave, before, device),
                    stay: Pick::new(&stay, before, device),
                    named: active.iter().map(|&row| rows[row]).collect(),
                    active,
                }
            })
            .collect();
        Self {
            even,
            boundaries,
            order: if order.iter().copied().eq(0..rows.len()) { None } else { Some(indices(&order, device)) },
            read: if plain { None } else { Some(read.iter().map(|rows| indices(rows, device)).collect()) },
            sequences: lanes.len(),
            rows,
        }
    }

    /// Branch and sequence of every row.
    pub(super) fn rows(&self) -> &[(usize, usize)] {
        &self.rows
    }

    /// Rows whose codes the first layer takes, by branch and sequence.
    pub(super) fn entering(&self) -> &[(usize, usize)] {
        &self.boundaries[0].named
    }

    /// Rows that layer `layer` computes, by their index among all.
    pub(super) fn active(&self, layer: usize) -> &[usize] {
        &self.boundaries[layer].active
    }

    /// Branch and sequence of the rows that layer `layer` computes; `None` if they are all sequences in all branches.
    pub(super) fn listed(&self, layer: usize) -> Option<&Arc<[(usize, usize)]>> {
        if self.even { None } else { Some(&self.boundaries[layer].named) }
    }

    /// Branch and sequence of all rows; `None` if they are all sequences in all branches.
    pub(super) fn listed_all(&self) -> Option<Arc<[(usize, usize)]>> {
        if self.even { None } else { Some(self.rows.clone().into()) }
    }

    /// Of the residual stream `x` before layer `layer`, the rows that leave and those that the layer computes.
    #[expect(clippy::needless_pass_by_value, reason = "let go on return, so that what stays is shared with nobody")]
    pub(super) fn cross(&self, layer: usize, x: Tensor<3>) -> (Option<Tensor<3>>, Option<Tensor<3>>) {
        let boundary = &self.boundaries[layer];
        (boundary.leave.of(&x), boundary.stay.of(&x))
    }

    /// Rows that have left, in the order in which they did, in the order of [`Self::rows`].
    pub(super) fn ordered(&self, left: Vec<Tensor<3>>) -> Tensor<3> {
        let mut left = left;
        let joined = if left.len() == 1 { left.remove(0) } else { Tensor::cat(left, 0) };
        match &self.order {
            Some(order) => joined.select(0, order.clone()),
            None => joined,
        }
    }

    /// Of one tensor per row, one per sequence for each branch.
    pub(super) fn branches(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        match &self.read {
            Some(read) => read.iter().map(|rows| x.clone().select(0, rows.clone())).collect(),
            None => x.split(self.sequences, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(lanes: &[RowSharing], layers: usize) -> Vec<Vec<(usize, usize)>> {
        let plan = Plan::new(lanes, 2, layers);
        let named = |[_, _, active]: &[Vec<usize>; 3]| active.iter().map(|&row| plan.rows[row]).collect();
        plan.boundaries[..layers].iter().map(named).collect()
    }

    #[test]
    fn what_is_alone_is_in_every_layer() {
        let lanes = [RowSharing::alone(0, 2), RowSharing::alone(1, 2)];
        let all = vec![(0, 0), (0, 1), (1, 0), (1, 1)];
        assert_eq!(active(&lanes, 2), vec![all.clone(), all]);
    }

    #[test]
    fn shallow_sequences_leave_and_sharing_ones_part_from_theirs() {
        let clean = RowSharing::alone(0, 3);
        let shallow = RowSharing { depth: 1, tokens_from: [1, 1], ..clean.clone() };
        let changed = RowSharing { tokens_from: [0, 0], diverges_at: [2, 3], ..clean.clone() };
        let lanes = [clean, shallow, changed];
        assert_eq!(
            active(&lanes, 3),
            [vec![(0, 0), (0, 1), (1, 0), (1, 1)], vec![(0, 0), (1, 0)], vec![(0, 0), (0, 2), (1, 0)],]
        );
        let plan = Plan::new(&lanes, 2, 3);
        // Rows: (0, 0), (0, 1), (0, 2), (1, 0), (1, 1).
        assert_eq!(plan.read, [[0, 1, 2], [3, 4, 3]]);
        assert_eq!(plan.left, [1, 4, 0, 2, 3]);
        // Before the last layer the third sequence takes a copy of the first one's stream.
        assert_eq!(plan.boundaries[2], [vec![], vec![0, 0, 1], vec![0, 2, 3]]);
    }
}
