//! Names of the places in a model that can be looked at and changed.

use std::{fmt, str::FromStr};

/// Which network of a model a point lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The text encoder.
    Encoder,
    /// The network that generates.
    Decoder,
    /// The diffusion transformer. It sees a whole sequence at every step: its steps are those of the denoising, and the
    /// time axis of its tensors counts positions, the first of which is the prepended global token.
    Dit,
}

impl Part {
    /// All networks.
    pub const ALL: [Self; 3] = [Self::Encoder, Self::Decoder, Self::Dit];

    /// As it is written in the names of its points.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Dit => "dit",
        }
    }

    /// The network of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// A tensor inside an attention layer. Names and meaning are those of TransformerLens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inner {
    /// Queries before any scaling: `[row, time, head, d_head]`.
    Q,
    /// Keys: `[row, time, head, d_head]`.
    K,
    /// Values: `[row, time, head, d_head]`.
    V,
    /// Attention weights after the softmax: `[row, head, query, key]`.
    Pattern,
    /// Weighted values, before the output projection: `[row, time, head, d_head]`.
    Z,
}

/// A kind of place; most exist once per layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Input of the first layer: `[row, time, width]`. Not in a layer.
    Embed,
    /// Residual stream before a layer: `[row, time, width]`.
    ResidPre,
    /// Inside the self-attention.
    SelfAttn(Inner),
    /// What the self-attention adds to the residual stream: `[row, time, width]`.
    SelfAttnOut,
    /// Residual stream after the self-attention: `[row, time, width]`.
    ResidMid,
    /// Inside the cross-attention.
    CrossAttn(Inner),
    /// What the cross-attention adds to the residual stream: `[row, time, width]`.
    CrossAttnOut,
    /// Residual stream as the MLP takes it, before its norm; changing it changes the MLP alone: `[row, time, width]`.
    MlpIn,
    /// Hidden units of the MLP after the activation: `[row, time, d_mlp]`.
    MlpPost,
    /// What the MLP adds to the residual stream: `[row, time, width]`.
    MlpOut,
    /// Residual stream after a layer: `[row, time, width]`.
    ResidPost,
    /// Output of the norm after the last layer: `[row, time, width]`. Not in a layer.
    FinalNorm,
    /// Scores of the tokens before guidance: `[row, codebook, time, vocabulary]`. Not in a layer.
    Logits,
    /// Estimate of the clean latents after guidance, which the sampler goes on with: `[row, time, channel]`, one row per
    /// sequence, the time axis counting latents. Not in a layer.
    X0,
}

const INNER: [(Inner, &str); 5] =
    [(Inner::Q, "q"), (Inner::K, "k"), (Inner::V, "v"), (Inner::Pattern, "pattern"), (Inner::Z, "z")];

const SITES: [(Site, &str); 12] = [
    (Site::Embed, "embed"),
    (Site::ResidPre, "resid_pre"),
    (Site::SelfAttnOut, "self_attn_out"),
    (Site::ResidMid, "resid_mid"),
    (Site::CrossAttnOut, "cross_attn_out"),
    (Site::MlpIn, "mlp_in"),
    (Site::MlpPost, "mlp_post"),
    (Site::MlpOut, "mlp_out"),
    (Site::ResidPost, "resid_post"),
    (Site::FinalNorm, "final_norm"),
    (Site::Logits, "logits"),
    (Site::X0, "x0"),
];

impl Site {
    /// This site in layer `layer` of the generating network.
    pub fn of(self, layer: usize) -> HookPoint {
        HookPoint { part: Part::Decoder, layer: Some(layer), site: self }
    }

    /// Whether the site exists once per layer.
    pub fn is_layered(self) -> bool {
        !matches!(self, Self::Embed | Self::FinalNorm | Self::Logits | Self::X0)
    }

    /// Index of the time axis of the site's tensor; for attention patterns that of the queries.
    pub fn time_axis(self) -> usize {
        match self {
            Self::Logits | Self::SelfAttn(Inner::Pattern) | Self::CrossAttn(Inner::Pattern) => 2,
            _ => 1,
        }
    }

    /// Index of the axis of heads, if the site's tensor has one.
    pub fn head_axis(self) -> Option<usize> {
        match self {
            Self::SelfAttn(Inner::Pattern) | Self::CrossAttn(Inner::Pattern) => Some(1),
            Self::SelfAttn(_) | Self::CrossAttn(_) => Some(2),
            _ => None,
        }
    }

    /// Every site of a network, in the order of the computation.
    pub fn all(part: Part) -> Vec<Self> {
        let cross = part != Part::Encoder;
        let inner = |wrap: fn(Inner) -> Self| INNER.iter().map(move |(inner, _)| wrap(*inner));
        let mut sites = vec![Self::Embed, Self::ResidPre];
        sites.extend(inner(Self::SelfAttn));
        sites.extend([Self::SelfAttnOut, Self::ResidMid]);
        if cross {
            sites.extend(inner(Self::CrossAttn));
            sites.push(Self::CrossAttnOut);
        }
        sites.extend([Self::MlpIn, Self::MlpPost, Self::MlpOut, Self::ResidPost]);
        sites.extend_from_slice(match part {
            Part::Encoder => &[Self::FinalNorm],
            Part::Decoder => &[Self::FinalNorm, Self::Logits],
            Part::Dit => &[Self::X0],
        });
        sites
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |inner: &Inner| INNER.iter().find(|(of, _)| of == inner).map_or("", |(_, name)| name);
        match self {
            Self::SelfAttn(inner) => write!(f, "self_attn.{}", name(inner)),
            Self::CrossAttn(inner) => write!(f, "cross_attn.{}", name(inner)),
            site => f.write_str(SITES.iter().find(|(of, _)| of == site).map_or("", |(_, name)| name)),
        }
    }
}

impl FromStr for Site {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Self, PointError> {
        let inner = |name: &str| INNER.iter().find(|(_, of)| *of == name).map(|(inner, _)| *inner);
        let site = match text.split_once('.') {
            Some(("self_attn", name)) => inner(name).map(Self::SelfAttn),
            Some(("cross_attn", name)) => inner(name).map(Self::CrossAttn),
            _ => SITES.iter().find(|(_, name)| *name == text).map(|(site, _)| *site),
        };
        let known = || Part::ALL.into_iter().flat_map(Self::all).map(|site| site.to_string());
        site.ok_or_else(|| PointError::new(text, known()))
    }
}

/// A place in a model: `decoder.3.resid_pre`, `encoder.0.self_attn.q`, `decoder.logits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookPoint {
    /// Which network.
    pub part: Part,
    /// Which layer, from 0; `None` for the sites that are not in a layer.
    pub layer: Option<usize>,
    /// Which tensor.
    pub site: Site,
}

impl HookPoint {
    /// A site of the text encoder.
    pub fn encoder(layer: impl Into<Option<usize>>, site: Site) -> Self {
        Self { part: Part::Encoder, layer: layer.into(), site }
    }

    /// A site of the generating network.
    pub fn decoder(layer: impl Into<Option<usize>>, site: Site) -> Self {
        Self { part: Part::Decoder, layer: layer.into(), site }
    }

    /// A site of the diffusion transformer.
    pub fn dit(layer: impl Into<Option<usize>>, site: Site) -> Self {
        Self { part: Part::Dit, layer: layer.into(), site }
    }

    /// Every point of a network of `layers` layers, in the order of the computation.
    pub fn all(part: Part, layers: usize) -> Vec<Self> {
        let (layered, single): (Vec<_>, Vec<_>) = Site::all(part).into_iter().partition(|site| site.is_layered());
        let (first, last) = single.split_at(1);
        let outside = |sites: &[Site]| sites.iter().map(|&site| Self { part, layer: None, site }).collect::<Vec<_>>();
        let inside =
            (0..layers).flat_map(|layer| layered.iter().map(move |&site| Self { part, layer: Some(layer), site }));
        outside(first).into_iter().chain(inside).chain(outside(last)).collect()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "{}.{layer}.{}", self.part, self.site),
            None => write!(f, "{}.{}", self.part, self.site),
        }
    }
}

impl FromStr for HookPoint {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Self, PointError> {
        let unknown = || PointError::new(text, ["decoder.3.resid_post".to_owned()].into_iter());
        let (part, rest) = text.split_once('.').ok_or_else(unknown)?;
        let meant = || Part::ALL.into_iter().map(|part| format!("{part}.{rest}"));
        let part = Part::named(part).ok_or_else(|| PointError::new(text, meant()))?;
        let (layer, site) = match rest.split_once('.') {
            Some((layer, site)) if layer.bytes().all(|byte| byte.is_ascii_digit()) && !layer.is_empty() => {
                (Some(layer.parse().map_err(|_| unknown())?), site)
            }
            _ => (None, rest),
        };
        let site: Site = site.parse().map_err(|error: PointError| error.within(text, site))?;
        if !Site::all(part).contains(&site) {
            let known = Site::all(part).into_iter();
            return Err(PointError::new(text, known.map(|site| Self { part, layer, site }.to_string())));
        }
        if site.is_layered() != layer.is_some() {
            let layer = layer.unwrap_or(0);
            let meant = Self { part, layer: site.is_layered().then_some(layer), site };
            return Err(PointError::new(text, [meant.to_string()].into_iter()));
        }
        Ok(Self { part, layer, site })
    }
}

impl serde::Serialize for HookPoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for HookPoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A name that no hook point has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no hook point `{name}`; the nearest is `{nearest}`")]
pub struct PointError {
    /// What was asked for.
    pub name: String,
    /// The name that is most like it.
    pub nearest: String,
}

impl PointError {
    pub(crate) fn new(name: &str, known: impl Iterator<Item = String>) -> Self {
        let nearest = known.min_by_key(|other| edit_distance(name, other)).unwrap_or_default();
        Self { name: name.to_owned(), nearest }
    }

    fn within(self, whole: &str, site: &str) -> Self {
        let prefix = whole.strip_suffix(site).unwrap_or_default();
        Self { name: whole.to_owned(), nearest: format!("{prefix}{}", self.nearest) }
    }
}

/// Levenshtein distance.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
