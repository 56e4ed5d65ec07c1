//! Edits in one line: `Edit::zero("decoder.3.self_attn.z").heads([1])`.

use std::ops::Range;

use burn::tensor::Tensor;

use super::spec::{Axis, Branch, Change, Edit, Scope, Selector, Value};

impl Edit {
    /// `change` at `points`, everywhere.
    pub fn new(points: impl Into<Selector>, change: Change) -> Self {
        Self { points: points.into(), scope: Scope::default(), change }
    }

    /// Ablation: zero in place of the tensor.
    ///
    /// ```
    /// use tonoscope_core::hooks::{Branch, Edit};
    ///
    /// let edit = Edit::zero("decoder.3.self_attn.z").heads([1]).steps(50..100).branch(Branch::Cond);
    /// assert_eq!(edit.points.to_string(), "decoder.3.self_attn.z");
    /// ```
    ///
    /// A name that no hook point has is kept, and is an error of the run.
    pub fn zero(points: impl Into<Selector>) -> Self {
        Self::new(points, Change::Zero)
    }

    /// The tensor times `factor`.
    pub fn scale(points: impl Into<Selector>, factor: f64) -> Self {
        Self::new(points, Change::Scale { factor })
    }

    /// Steering: adds `value`, a tensor by name; [`Self::strength`] says how much of it.
    ///
    /// ```
    /// use tonoscope_core::hooks::{Axis, Edit, Value};
    ///
    /// let plain = Edit::add("decoder.12..24.mlp_out", "guitar").strength(1.5);
    /// let per_prompt = Edit::add("decoder.12..24.mlp_out", Value::new("guitar", [Axis::Prompt, Axis::Feature]));
    /// # assert_ne!(plain, per_prompt);
    /// ```
    pub fn add(points: impl Into<Selector>, value: impl Into<Value>) -> Self {
        Self::new(points, Change::Add { value: value.into(), scale: 1.0 })
    }

    /// Activation patching: `value`, a tensor by name, in place of the tensor.
    pub fn replace(points: impl Into<Selector>, value: impl Into<Value>) -> Self {
        Self::new(points, Change::Replace { value: value.into() })
    }

    /// Directional ablation: takes the part along the direction `value`, a tensor by name, out of the tensor.
    pub fn project_out(points: impl Into<Selector>, value: impl Into<Value>) -> Self {
        Self::new(points, Change::ProjectOut { value: value.into() })
    }

    /// How much of its value an edit adds; the factor of one that scales. Other edits have no strength.
    #[must_use]
    pub fn strength(mut self, strength: f64) -> Self {
        match &mut self.change {
            Change::Add { scale, .. } => *scale = strength,
            Change::Scale { factor } => *factor = strength,
            Change::Zero | Change::Replace { .. } | Change::ProjectOut { .. } => {}
        }
        self
    }

    /// In these prompts of the run alone, from 0.
    #[must_use]
    pub fn prompts(mut self, prompts: impl IntoIterator<Item = usize>) -> Self {
        self.scope.prompts = Some(prompts.into_iter().collect());
        self
    }

    /// In these generation or denoising steps alone.
    #[must_use]
    pub fn steps(mut self, steps: Range<usize>) -> Self {
        self.scope.steps = Some(steps);
        self
    }

    /// In one half of the guidance batch alone.
    #[must_use]
    pub fn branch(mut self, branch: Branch) -> Self {
        self.scope.branch = Some(branch);
        self
    }

    /// In these heads alone, at sites that have heads.
    #[must_use]
    pub fn heads(mut self, heads: impl IntoIterator<Item = usize>) -> Self {
        self.scope.heads = Some(heads.into_iter().collect());
        self
    }

    /// At these positions alone, in networks that see a whole sequence at once.
    #[must_use]
    pub fn positions(mut self, positions: Range<usize>) -> Self {
        self.scope.positions = Some(positions);
        self
    }
}

impl Value {
    /// The tensor `tensor`, whose axes are these, outermost first.
    pub fn new(tensor: impl Into<String>, axes: impl IntoIterator<Item = Axis>) -> Self {
        Self { tensor: tensor.into(), axes: axes.into_iter().collect() }
    }
}

impl From<&str> for Value {
    /// A direction: the same features everywhere.
    fn from(tensor: &str) -> Self {
        Self::new(tensor, [Axis::Feature])
    }
}

/// A tensor of an edit, of any rank up to five, as [`EditTensors`](super::EditTensors) keeps it.
///
/// # Panics
/// If `tensor` has more axes than five.
pub fn edit_tensor<const D: usize>(tensor: Tensor<D>) -> Tensor<5> {
    assert!(D <= 5, "a tensor of an edit has up to five axes, not {D}");
    tensor.unsqueeze()
}
