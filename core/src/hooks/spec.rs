//! What to look at and what to change, as plain data: it prints, parses, and is saved with the run.

use std::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    point::{HookPoint, PointError},
    site::{Component, Site},
};

/// Half of a guidance batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// The half that sees the prompt.
    Cond,
    /// The half that does not.
    Uncond,
}

/// A set of hook points: `decoder.*.resid_post`, `decoder.20..24.mlp_out`, `decoder.3.*`, `decoder.logits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    component: String,
    layers: Layers,
    /// `None`: every site.
    site: Option<String>,
    /// The name that it was made of, where no hook point has it: an error as soon as it is used.
    unknown: Option<PointError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layers {
    Outside,
    All,
    Some(Range<usize>),
}

impl Selector {
    /// One point.
    pub fn point(point: HookPoint) -> Self {
        let layers = point.layer.map_or(Layers::Outside, |layer| Layers::Some(layer..layer + 1));
        Self { component: point.component.to_string(), layers, site: Some(point.site.to_string()), unknown: None }
    }

    /// Whether `point` is meant.
    pub fn matches(&self, point: &HookPoint) -> bool {
        if self.unknown.is_some() {
            return false;
        }
        let layer = match (&self.layers, point.layer) {
            (Layers::All, Some(_)) | (Layers::Outside, None) => true,
            (Layers::Some(range), Some(layer)) => range.contains(&layer),
            _ => false,
        };
        let site = self.site.as_deref().is_none_or(|site| site == point.site.name());
        self.component == point.component.name() && layer && site
    }

    /// The points of `known` that are meant.
    ///
    /// # Errors
    /// [`PointError`] if there is none, or a layer of a range does not exist.
    pub fn expand(&self, known: &[HookPoint]) -> Result<Vec<HookPoint>, PointError> {
        if let Some(error) = &self.unknown {
            return Err(error.clone());
        }
        let points: Vec<HookPoint> = known.iter().filter(|point| self.matches(point)).copied().collect();
        let layers =
            known.iter().filter(|point| point.component.name() == self.component).filter_map(|point| point.layer).max();
        let beyond = matches!(&self.layers, Layers::Some(range) if layers.is_none_or(|last| range.end > last + 1));
        if points.is_empty() || beyond {
            return Err(PointError::new(&self.to_string(), known.iter().map(ToString::to_string)));
        }
        Ok(points)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.unknown {
            return f.write_str(&error.name);
        }
        write!(f, "{}.", self.component)?;
        match &self.layers {
            Layers::Outside => {}
            Layers::All => f.write_str("*.")?,
            Layers::Some(range) if range.len() == 1 => write!(f, "{}.", range.start)?,
            Layers::Some(range) => write!(f, "{}..{}.", range.start, range.end)?,
        }
        f.write_str(self.site.as_deref().unwrap_or("*"))
    }
}

impl FromStr for Selector {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Self, PointError> {
        let unknown = || PointError::new(text, ["decoder.*.resid_post".to_owned()].into_iter());
        let (part, rest) = text.split_once('.').ok_or_else(unknown)?;
        // Names of networks that are not this library's are looked up in the points of the model, see `expand`.
        let known = Component::named(part);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if part.is_empty() || !part.chars().all(is_name) {
            return Err(unknown());
        }
        let split = rest.find(|c: char| c.is_ascii_alphabetic()).or_else(|| rest.rfind('*')).ok_or_else(unknown)?;
        let (layers, site) = rest.split_at(split);
        let site = if site == "*" { None } else { Some(site.to_owned()) };
        let found =
            |component: Component| component.sites().iter().find(|of| site.as_deref() == Some(of.name())).copied();
        if let (Some(component), Some(_), None) = (known, &site, known.and_then(found)) {
            return Err(near(text, component));
        }
        let number = |digits: &str| digits.parse::<usize>().map_err(|_| unknown());
        let layers = match layers.strip_suffix('.') {
            None if layers.is_empty() => Layers::Outside,
            None => return Err(unknown()),
            Some("*") => Layers::All,
            Some(range) => match range.split_once("..") {
                Some((start, end)) => Layers::Some(number(start)?..number(end)?),
                None => Layers::Some(number(range)?..number(range)?.checked_add(1).ok_or_else(unknown)?),
            },
        };
        let empty = matches!(&layers, Layers::Some(range) if range.is_empty());
        let misplaced = known.and_then(found).is_some_and(|site| site.is_layered() == (layers == Layers::Outside));
        if empty || misplaced {
            return Err(known.map_or_else(unknown, |component| near(text, component)));
        }
        Ok(Self { component: part.to_owned(), layers, site, unknown: None })
    }
}

impl From<&str> for Selector {
    /// The points of this name. A name that no hook point has is kept, and [`Selector::expand`] reports it.
    fn from(text: &str) -> Self {
        text.parse().unwrap_or_else(|error| Self {
            component: String::new(),
            layers: Layers::Outside,
            site: None,
            unknown: Some(error),
        })
    }
}

impl From<HookPoint> for Selector {
    fn from(point: HookPoint) -> Self {
        Self::point(point)
    }
}

fn near(text: &str, component: Component) -> PointError {
    let name =
        |site: &Site| if site.is_layered() { format!("{component}.*.{site}") } else { format!("{component}.{site}") };
    PointError::new(text, component.sites().iter().map(name))
}

impl Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is kept of a captured tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// Every step of every prompt.
    #[default]
    Everything,
    /// The mean over prompts, per guidance branch and step.
    MeanPrompts,
    /// The mean over steps, per prompt and guidance branch; over positions, of what is computed once.
    MeanTime,
    /// The last step alone; of networks that have steps.
    LastStep,
    /// The mean over positions, per step, prompt and guidance branch; of networks that see a whole sequence at once.
    MeanPositions,
}

impl FromStr for Reduce {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "everything" => Ok(Self::Everything),
            "mean_prompts" => Ok(Self::MeanPrompts),
            "mean_time" => Ok(Self::MeanTime),
            "last_step" => Ok(Self::LastStep),
            "mean_positions" => Ok(Self::MeanPositions),
            _ => Err(format!(
                "no reducer `{text}`; there are `everything`, `mean_prompts`, `mean_time`, `last_step` and \
                 `mean_positions`"
            )),
        }
    }
}

/// Points to record, and what to keep of them. As text: `decoder.*.resid_post` or `decoder.*.resid_post:mean_time`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// Which points.
    pub points: Selector,
    /// What to keep.
    #[serde(default)]
    pub reduce: Reduce,
}

impl FromStr for Capture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (points, reduce) = match text.split_once(':') {
            Some((points, reduce)) => (points, reduce.parse()?),
            None => (text, Reduce::Everything),
        };
        Ok(Self { points: points.parse().map_err(|error: PointError| error.to_string())?, reduce })
    }
}

/// Which part of a tensor an edit touches; a field that is `None` restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Generation steps (columns of the delayed codes, the first being 0) or denoising steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Range<usize>>,
    /// Prompts of the whole run, from 0, whichever batch they are computed in. `rows` in older files.
    #[serde(default, alias = "rows", skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Vec<usize>>,
    /// Half of the guidance batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Branch>,
    /// Heads; only for sites that have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<Vec<usize>>,
    /// Positions of the sequence, such as tokens of a text; only for networks that see a whole one at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<Range<usize>>,
}

impl Scope {
    /// Whether a tensor of these steps, with so many positions in each, has a part that the scope may cover.
    pub(crate) fn reaches(&self, steps: &Range<usize>, positions: usize) -> bool {
        let overlaps =
            |wanted: &Range<usize>, found: &Range<usize>| wanted.start.max(found.start) < wanted.end.min(found.end);
        let has = |wanted: &Option<Range<usize>>, found: &Range<usize>| {
            wanted.as_ref().is_none_or(|wanted| overlaps(wanted, found))
        };
        has(&self.steps, steps) && has(&self.positions, &(0..positions))
    }
}

/// An axis of a tensor that an edit takes values from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Conditional, unconditional.
    Branch,
    /// Prompts of the whole run, from 0. `row` in older files.
    #[serde(alias = "row")]
    Prompt,
    /// Generation or denoising steps.
    Step,
    /// Heads; codebooks for logits.
    Head,
    /// Positions of the sequence, such as tokens of a text, in networks that see a whole one at once.
    Position,
    /// Width of the stream, of a head, of the MLP; tokens of logits.
    Feature,
    /// Of an attention pattern, what its steps or positions are.
    Query,
    /// Of an attention pattern, what it is over.
    Key,
}

/// A named tensor, saved beside the edits, and what its axes mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// Name of the tensor.
    pub tensor: String,
    /// Meaning of its axes, outermost first; an axis that is not there is the same everywhere.
    pub axes: Vec<Axis>,
}

/// What an edit does to `x`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do", from = "StoredChange")]
pub enum Change {
    /// `0`
    Zero,
    /// `factor · x`
    Scale {
        /// Factor.
        factor: f64,
    },
    /// `x + scale · value`; a scale of 0 leaves every bit as it is.
    Add {
        /// What to add.
        value: Value,
        /// Strength.
        scale: f64,
    },
    /// `value`
    Replace {
        /// What to put in place.
        value: Value,
    },
    /// `x − (x·d) d / (d·d)` along the feature axis.
    ProjectOut {
        /// The direction `d`, of any length but 0.
        value: Value,
    },
}

impl Change {
    /// The tensor that the change takes values from.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Add { value, .. } | Self::Replace { value } | Self::ProjectOut { value } => Some(value),
            Self::Zero | Self::Scale { .. } => None,
        }
    }
}

/// [`Change`] as it is read. Serde ignores unknown fields beside the tag of a variant without fields, so none is one.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", tag = "do", deny_unknown_fields)]
enum StoredChange {
    Zero {},
    Scale { factor: f64 },
    Add { value: Value, scale: f64 },
    Replace { value: Value },
    ProjectOut { value: Value },
}

impl From<StoredChange> for Change {
    fn from(stored: StoredChange) -> Self {
        match stored {
            StoredChange::Zero {} => Self::Zero,
            StoredChange::Scale { factor } => Self::Scale { factor },
            StoredChange::Add { value, scale } => Self::Add { value, scale },
            StoredChange::Replace { value } => Self::Replace { value },
            StoredChange::ProjectOut { value } => Self::ProjectOut { value },
        }
    }
}

/// One change at some points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Which points.
    pub points: Selector,
    /// Which part of their tensors.
    #[serde(default)]
    pub scope: Scope,
    /// What to do.
    pub change: Change,
}

/// Everything that a run looks at and changes. Empty, it costs nothing and changes no bit.
///
/// At one point, edits apply in order, and captures see the edited tensor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What to record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<Capture>,
    /// What to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
}
