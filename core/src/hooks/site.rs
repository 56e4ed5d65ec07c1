//! What passes hook points: kinds of tensors with the meaning of their axes, and the networks that they lie in.
//!
//! Both are constants, so that a model of one's own declares its own beside these:
//!
//! ```
//! use tonoscope_core::hooks::{Component, Dim, HookPoint, Network, Site, Tensors, Time};
//!
//! const GATE: Site = Site::new(&Tensors::layered("gate", &[Dim::Time, Dim::Feature], "gate of the MLP"));
//! const SITES: &[Site] = &[Site::EMBED, GATE, Site::RESID_POST, Site::LOGITS];
//! const TOY: Component = Component::new(&Network::new("toy", Time::Steps, SITES));
//!
//! let points = HookPoint::all(TOY, 2);
//! assert_eq!(points[1].to_string(), "toy.0.gate");
//! assert_eq!(points[1].axes(), ["branch", "prompt", "step", "feature"]);
//! ```

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use super::point::{HookPoint, PointError};

/// What an axis of a tensor counts, its first apart, which counts rows: every prompt in every guidance branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// What the network's [`Time`] says: steps or positions.
    Time,
    /// Positions of another sequence, such as tokens of the text.
    Position,
    /// Heads; codebooks of logits.
    Head,
    /// Width of the stream, of a head, of the MLP; tokens of logits.
    Feature,
    /// Keys of an attention pattern, whose time axis counts queries.
    Key,
    /// Keys of a pattern over the past: one more at each step of a network that goes step by step.
    PastKey,
}

/// How a network meets a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// Step by step: the time axis counts generation steps.
    Steps,
    /// Once, as a whole: the time axis counts positions, and there are no steps.
    Once,
    /// As a whole at every denoising step: the time axis counts positions.
    Denoising,
}

/// A kind of tensor in a network. Names are those of TransformerLens.
#[derive(Clone, Copy)]
pub struct Site(&'static Tensors);

/// What a [`Site`] is: its name, whether every layer has one, and its axes.
#[derive(Debug)]
pub struct Tensors {
    name: &'static str,
    layered: bool,
    axes: &'static [Dim],
    meaning: &'static str,
}

/// A network of a model.
#[derive(Clone, Copy)]
pub struct Component(&'static Network);

/// What a [`Component`] is: its name, how it meets a sequence, and its sites in the order of the computation.
#[derive(Debug)]
pub struct Network {
    name: &'static str,
    time: Time,
    sites: &'static [Site],
}

/// Axes of a residual stream.
const STREAM: &[Dim] = &[Dim::Time, Dim::Feature];
/// Axes of queries, and of keys and values of the sequence itself.
const BY_HEAD: &[Dim] = &[Dim::Time, Dim::Head, Dim::Feature];
/// Axes of keys and values of another sequence.
const OF_OTHER: &[Dim] = &[Dim::Position, Dim::Head, Dim::Feature];

impl Tensors {
    /// A site of every layer; `axes` are those behind the rows, outermost first.
    pub const fn layered(name: &'static str, axes: &'static [Dim], meaning: &'static str) -> Self {
        Self { name, layered: true, axes, meaning }
    }

    /// A site that exists once; `axes` are those behind the rows, outermost first.
    pub const fn single(name: &'static str, axes: &'static [Dim], meaning: &'static str) -> Self {
        Self { name, layered: false, axes, meaning }
    }
}

/// A site of every layer.
macro_rules! layered {
    ($name:literal, $axes:expr, $meaning:literal $(,)?) => {
        Self::new(&Tensors::layered($name, $axes, $meaning))
    };
}

/// A site that exists once.
macro_rules! single {
    ($name:literal, $axes:expr, $meaning:literal $(,)?) => {
        Self::new(&Tensors::single($name, $axes, $meaning))
    };
}

impl Site {
    /// The kind of tensor that `tensors` describes.
    pub const fn new(tensors: &'static Tensors) -> Self {
        Self(tensors)
    }

    /// Input of the first layer.
    pub const EMBED: Self = single!("embed", STREAM, "input of the first layer");
    /// Residual stream before a layer.
    pub const RESID_PRE: Self = layered!("resid_pre", STREAM, "residual stream before the layer");
    /// What the self-attention adds to the residual stream.
    pub const SELF_ATTN_OUT: Self =
        layered!("self_attn_out", STREAM, "what the self-attention adds to the residual stream");
    /// Residual stream after the self-attention.
    pub const RESID_MID: Self = layered!("resid_mid", STREAM, "residual stream after the self-attention");
    /// What the cross-attention adds to the residual stream.
    pub const CROSS_ATTN_OUT: Self =
        layered!("cross_attn_out", STREAM, "what the cross-attention adds to the residual stream");
    /// Residual stream as the MLP takes it, before its norm; changing it changes the MLP alone.
    pub const MLP_IN: Self = layered!("mlp_in", STREAM, "residual stream as the MLP takes it, before its norm");
    /// Hidden units of the MLP after the activation.
    pub const MLP_POST: Self = layered!("mlp_post", STREAM, "hidden units of the MLP after the activation");
    /// What the MLP adds to the residual stream.
    pub const MLP_OUT: Self = layered!("mlp_out", STREAM, "what the MLP adds to the residual stream");
    /// Residual stream after a layer.
    pub const RESID_POST: Self = layered!("resid_post", STREAM, "residual stream after the layer");
    /// Output of the norm after the last layer.
    pub const FINAL_NORM: Self = single!("final_norm", STREAM, "output of the norm after the last layer");
    /// Scores of the tokens before guidance; its heads are the codebooks.
    pub const LOGITS: Self =
        single!("logits", &[Dim::Head, Dim::Time, Dim::Feature], "scores of the tokens, before guidance");
    /// Estimate of the clean latents after guidance, which the sampler goes on with: one row per sequence.
    pub const X0: Self = single!("x0", STREAM, "estimate of the clean latents, after guidance");
    /// Queries of the self-attention before any scaling.
    pub const SELF_ATTN_Q: Self = layered!("self_attn.q", BY_HEAD, "queries of the self-attention");
    /// Keys of the self-attention.
    pub const SELF_ATTN_K: Self = layered!("self_attn.k", BY_HEAD, "keys of the self-attention");
    /// Values of the self-attention.
    pub const SELF_ATTN_V: Self = layered!("self_attn.v", BY_HEAD, "values of the self-attention");
    /// Weights of the self-attention after the softmax.
    pub const SELF_ATTN_PATTERN: Self = layered!(
        "self_attn.pattern",
        &[Dim::Head, Dim::Time, Dim::PastKey],
        "weights of the self-attention, after the softmax",
    );
    /// Weighted values of the self-attention, before the output projection.
    pub const SELF_ATTN_Z: Self = layered!("self_attn.z", BY_HEAD, "weighted values of the self-attention");
    /// Queries of the cross-attention before any scaling.
    pub const CROSS_ATTN_Q: Self = layered!("cross_attn.q", BY_HEAD, "queries of the cross-attention");
    /// Keys of the cross-attention, of the text.
    pub const CROSS_ATTN_K: Self = layered!("cross_attn.k", OF_OTHER, "keys of the cross-attention");
    /// Values of the cross-attention, of the text.
    pub const CROSS_ATTN_V: Self = layered!("cross_attn.v", OF_OTHER, "values of the cross-attention");
    /// Weights of the cross-attention after the softmax.
    pub const CROSS_ATTN_PATTERN: Self = layered!(
        "cross_attn.pattern",
        &[Dim::Head, Dim::Time, Dim::Key],
        "weights of the cross-attention, after the softmax",
    );
    /// Weighted values of the cross-attention, before the output projection.
    pub const CROSS_ATTN_Z: Self = layered!("cross_attn.z", BY_HEAD, "weighted values of the cross-attention");

    /// As it is written in the names of its points.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What the tensor is, in a few words.
    pub fn meaning(self) -> &'static str {
        self.0.meaning
    }

    /// Whether the site exists once per layer.
    pub fn is_layered(self) -> bool {
        self.0.layered
    }

    /// The axes behind the rows, outermost first.
    pub fn dims(self) -> &'static [Dim] {
        self.0.axes
    }

    /// Index of the time axis of the site's tensor; for attention patterns that of the queries.
    pub fn time_axis(self) -> usize {
        self.axis(|dim| matches!(dim, Dim::Time | Dim::Position)).unwrap_or(1)
    }

    /// Index of the axis of heads, if the site's tensor has one.
    pub fn head_axis(self) -> Option<usize> {
        self.axis(|dim| dim == Dim::Head)
    }

    /// Whether the tensor is an attention pattern: its last axis counts keys, its time axis queries.
    pub fn is_pattern(self) -> bool {
        self.0.axes.iter().any(|dim| matches!(dim, Dim::Key | Dim::PastKey))
    }

    /// Whether the tensor is of another sequence than the network's own, such as keys of a text.
    pub fn is_of_other_sequence(self) -> bool {
        self.0.axes.contains(&Dim::Position)
    }

    /// Whether the last axis grows from step to step, where there are steps.
    pub fn grows(self) -> bool {
        self.0.axes.contains(&Dim::PastKey)
    }

    fn axis(self, is: impl Fn(Dim) -> bool) -> Option<usize> {
        self.0.axes.iter().position(|&dim| is(dim)).map(|index| index + 1)
    }
}

/// Sites of a transformer's layer without cross-attention, between its input and what follows the last layer.
macro_rules! sites {
    ([$($cross:expr),*], [$($last:expr),*]) => {
        &[
            Site::EMBED, Site::RESID_PRE,
            Site::SELF_ATTN_Q, Site::SELF_ATTN_K, Site::SELF_ATTN_V, Site::SELF_ATTN_PATTERN, Site::SELF_ATTN_Z,
            Site::SELF_ATTN_OUT, Site::RESID_MID,
            $($cross,)*
            Site::MLP_IN, Site::MLP_POST, Site::MLP_OUT, Site::RESID_POST,
            $($last,)*
        ]
    };
    (cross $last:tt) => {
        sites!(
            [
                Site::CROSS_ATTN_Q, Site::CROSS_ATTN_K, Site::CROSS_ATTN_V, Site::CROSS_ATTN_PATTERN,
                Site::CROSS_ATTN_Z, Site::CROSS_ATTN_OUT
            ],
            $last
        )
    };
}

impl Network {
    /// A network of this name; `sites` are in the order of the computation, the first being the input of the first layer.
    pub const fn new(name: &'static str, time: Time, sites: &'static [Site]) -> Self {
        Self { name, time, sites }
    }
}

impl Component {
    /// The network that `network` describes.
    pub const fn new(network: &'static Network) -> Self {
        Self(network)
    }

    /// An encoder of text or sound, which sees a whole sequence once.
    pub const ENCODER: Self = Self::new(&Network::new("encoder", Time::Once, sites!([], [Site::FINAL_NORM])));
    /// The network that generates, step by step.
    pub const DECODER: Self =
        Self::new(&Network::new("decoder", Time::Steps, sites!(cross [Site::FINAL_NORM, Site::LOGITS])));
    /// The diffusion transformer: at every denoising step it sees a whole sequence, whose first position is the prepended
    /// global token.
    pub const DIT: Self = Self::new(&Network::new("dit", Time::Denoising, sites!(cross[Site::X0])));
    /// The networks of the models of this library.
    pub const ALL: [Self; 3] = [Self::ENCODER, Self::DECODER, Self::DIT];

    /// As it is written in the names of its points.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// How it meets a sequence.
    pub fn time(self) -> Time {
        self.0.time
    }

    /// Its sites, in the order of the computation.
    pub fn sites(self) -> &'static [Site] {
        self.0.sites
    }

    /// The network of this library that has this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.name() == name)
    }
}

/// Names tell sites, and networks, apart.
macro_rules! by_name {
    ($type:ty) => {
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                std::ptr::eq(self.0, other.0) || self.0.name == other.0.name
            }
        }

        impl Eq for $type {}

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.name.cmp(other.0.name)
            }
        }

        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.name.hash(state);
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.name)
            }
        }
    };
}

by_name!(Site);
by_name!(Component);

impl FromStr for Site {
    type Err = PointError;

    /// A site of the models of this library.
    fn from_str(text: &str) -> Result<Self, PointError> {
        let known = || Component::ALL.into_iter().flat_map(Component::sites);
        let site = known().find(|site| site.name() == text).copied();
        site.ok_or_else(|| PointError::new(text, known().map(ToString::to_string)))
    }
}

/// A tensor inside an attention layer. Names and meaning are those of TransformerLens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttnSite {
    /// Queries before any scaling.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention weights after the softmax.
    Pattern,
    /// Weighted values, before the output projection.
    Z,
}

impl AttnSite {
    /// All of them, in the order of the computation.
    pub const ALL: [Self; 5] = [Self::Q, Self::K, Self::V, Self::Pattern, Self::Z];
}

impl Site {
    /// The site of this kind inside the self-attention.
    pub const fn self_attn(kind: AttnSite) -> Self {
        match kind {
            AttnSite::Q => Self::SELF_ATTN_Q,
            AttnSite::K => Self::SELF_ATTN_K,
            AttnSite::V => Self::SELF_ATTN_V,
            AttnSite::Pattern => Self::SELF_ATTN_PATTERN,
            AttnSite::Z => Self::SELF_ATTN_Z,
        }
    }

    /// The site of this kind inside the cross-attention.
    pub const fn cross_attn(kind: AttnSite) -> Self {
        match kind {
            AttnSite::Q => Self::CROSS_ATTN_Q,
            AttnSite::K => Self::CROSS_ATTN_K,
            AttnSite::V => Self::CROSS_ATTN_V,
            AttnSite::Pattern => Self::CROSS_ATTN_PATTERN,
            AttnSite::Z => Self::CROSS_ATTN_Z,
        }
    }

    /// This site in layer `layer` of the generating network.
    pub fn of(self, layer: usize) -> HookPoint {
        HookPoint::decoder(layer, self)
    }
}

/// Names from before sites and networks were constants.
mod former {
    use super::{AttnSite, Component, Site};

    /// [`Component`] by its former name.
    pub type Part = Component;
    /// [`AttnSite`] by its former name.
    pub type Inner = AttnSite;

    #[expect(missing_docs, reason = "each is the constant of the same words")]
    #[expect(non_upper_case_globals, non_snake_case, reason = "they were variants of an enum")]
    impl Site {
        pub const Embed: Self = Self::EMBED;
        pub const ResidPre: Self = Self::RESID_PRE;
        pub const SelfAttnOut: Self = Self::SELF_ATTN_OUT;
        pub const ResidMid: Self = Self::RESID_MID;
        pub const CrossAttnOut: Self = Self::CROSS_ATTN_OUT;
        pub const MlpIn: Self = Self::MLP_IN;
        pub const MlpPost: Self = Self::MLP_POST;
        pub const MlpOut: Self = Self::MLP_OUT;
        pub const ResidPost: Self = Self::RESID_POST;
        pub const FinalNorm: Self = Self::FINAL_NORM;
        pub const Logits: Self = Self::LOGITS;

        pub const fn SelfAttn(kind: AttnSite) -> Self {
            Self::self_attn(kind)
        }

        pub const fn CrossAttn(kind: AttnSite) -> Self {
            Self::cross_attn(kind)
        }
    }

    #[expect(missing_docs, reason = "each is the constant of the same word")]
    #[expect(non_upper_case_globals, reason = "they were variants of an enum")]
    impl Component {
        pub const Encoder: Self = Self::ENCODER;
        pub const Decoder: Self = Self::DECODER;
        pub const Dit: Self = Self::DIT;
    }
}

pub use former::{Inner, Part};
