//! Names of the hook points of a model.

use std::{fmt, str::FromStr};

use super::site::{Component, Site, Time};

/// One tensor of a model: `decoder.3.resid_pre`, `encoder.0.self_attn.q`, `decoder.logits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookPoint {
    /// Which network.
    pub component: Component,
    /// Which layer, from 0; `None` for the sites that are not in a layer.
    pub layer: Option<usize>,
    /// Which tensor.
    pub site: Site,
}

impl HookPoint {
    /// A site of the text encoder.
    pub fn encoder(layer: impl Into<Option<usize>>, site: Site) -> Self {
        Self { component: Component::ENCODER, layer: layer.into(), site }
    }

    /// A site of the generating network.
    pub fn decoder(layer: impl Into<Option<usize>>, site: Site) -> Self {
        Self { component: Component::DECODER, layer: layer.into(), site }
    }

    /// A site of the diffusion transformer.
    pub fn dit(layer: impl Into<Option<usize>>, site: Site) -> Self {
        Self { component: Component::DIT, layer: layer.into(), site }
    }

    /// Every point of a network of `layers` layers, in the order of the computation.
    pub fn all(component: Component, layers: usize) -> Vec<Self> {
        let sites = component.sites();
        let inside = |site: &&Site| site.is_layered();
        // Sites outside the layers come before the first of these or after the last.
        let before = sites.iter().take_while(|site| !site.is_layered()).count();
        let outside = |site: &Site| Self { component, layer: None, site: *site };
        let of_layer =
            |layer: usize| sites.iter().filter(inside).map(move |&site| Self { component, layer: Some(layer), site });
        let after = sites[before..].iter().filter(|site| !site.is_layered());
        sites[..before].iter().map(outside).chain((0..layers).flat_map(of_layer)).chain(after.map(outside)).collect()
    }

    /// The point of this name among those of a model.
    ///
    /// # Errors
    /// [`PointError`] if there is none.
    pub fn find(name: &str, known: &[Self]) -> Result<Self, PointError> {
        let found = known.iter().find(|point| point.to_string() == name).copied();
        found.ok_or_else(|| PointError::new(name, known.iter().map(ToString::to_string)))
    }

    /// Names of the axes of what is captured here, outermost first: `branch, prompt, step, position, head, feature`, those
    /// of them that the point has; of an attention pattern `query` and `key`.
    pub fn axes(self) -> Vec<&'static str> {
        let mut axes = vec!["branch", "prompt"];
        let time = if self.site.is_pattern() { "query" } else { "position" };
        let head = self.site.head_axis().map(|_| "head");
        match self.time() {
            Time::Steps => axes.extend([if self.site.is_pattern() { "query" } else { "step" }].into_iter().chain(head)),
            Time::Once => axes.extend(std::iter::once(time).chain(head)),
            Time::Denoising => axes.extend(std::iter::once("step").chain(head).chain([time])),
        }
        axes.push(if self.site.is_pattern() { "key" } else { "feature" });
        axes
    }

    /// What the time axis of its tensor counts. What is computed once for all steps, such as the keys of a text, has no steps.
    pub fn time(self) -> Time {
        match self.component.time() {
            Time::Steps if self.site.is_of_other_sequence() => Time::Once,
            time => time,
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "{}.{layer}.{}", self.component, self.site),
            None => write!(f, "{}.{}", self.component, self.site),
        }
    }
}

impl FromStr for HookPoint {
    type Err = PointError;

    /// A point of the models of this library; [`HookPoint::find`] knows those of others.
    fn from_str(text: &str) -> Result<Self, PointError> {
        let unknown = || PointError::new(text, ["decoder.3.resid_post".to_owned()].into_iter());
        let (component, rest) = text.split_once('.').ok_or_else(unknown)?;
        let meant = || Component::ALL.into_iter().map(|component| format!("{component}.{rest}"));
        let component = Component::named(component).ok_or_else(|| PointError::new(text, meant()))?;
        let (layer, site) = match rest.split_once('.') {
            Some((layer, site)) if layer.bytes().all(|byte| byte.is_ascii_digit()) && !layer.is_empty() => {
                (Some(layer.parse().map_err(|_| unknown())?), site)
            }
            _ => (None, rest),
        };
        let site: Site = site.parse().map_err(|error: PointError| error.within(text, site))?;
        if !component.sites().contains(&site) {
            let known = component.sites().iter();
            return Err(PointError::new(text, known.map(|&site| Self { component, layer, site }.to_string())));
        }
        if site.is_layered() != layer.is_some() {
            let layer = layer.unwrap_or(0);
            let meant = Self { component, layer: site.is_layered().then_some(layer), site };
            return Err(PointError::new(text, [meant.to_string()].into_iter()));
        }
        Ok(Self { component, layer, site })
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

/// Levenshtein distance of the first 256 characters, which bounds the time for hostile names.
pub fn edit_distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 256;
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(LONGEST).enumerate() {
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
