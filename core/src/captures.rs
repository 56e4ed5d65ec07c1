//! Captured tensors on the host: read back batch by batch, joined at the end, written to a file.

use std::collections::BTreeMap;

use burn::tensor::ExecutionError;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    checkpoint::{LoadError, RawTensor, sorted_safetensors},
    hooks::{Cache, Spec},
};

/// Key of the metadata under which the axes of every capture stand.
const AXES: &str = "axes";

/// Name of the axis along which batches are joined; captures without it are means over prompts.
const PROMPT: &str = "prompt";
/// Elements of joined captures for each one of their parts: texts are padded to 16 tokens, and have at most 512.
const MOST_FILLED: usize = 64;

/// One captured tensor of one batch, or of all.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Hook point and reducer.
    pub name: String,
    /// Meaning of the axes, outermost first.
    pub axes: Vec<String>,
    /// Extents, as many as axes.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// Reads everything in `cache` back from the device; sorted by name, as files are.
///
/// # Errors
/// If the device fails.
pub async fn read(cache: &Cache) -> Result<Vec<Recorded>, ExecutionError> {
    let mut all = vec![];
    for entry in &cache.entries {
        all.push(Recorded {
            name: entry.name(),
            axes: entry.axes.iter().map(|&axis| axis.to_owned()).collect(),
            shape: entry.shape(),
            values: entry.values().await?,
        });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Captures of several batches as if it had been one. Each comes with its number of prompts; all captured the same, and
/// are in the same order.
///
/// Prompts follow each other; where batches differ in another axis, such as tokens of the text, the shorter are filled
/// with zeros. A mean over prompts is that over the prompts of all batches which have the step.
///
/// # Errors
/// [`LoadError::Config`] if they did not capture the same: they come from files.
pub fn join(batches: &[(usize, Vec<Recorded>)]) -> Result<Vec<Recorded>, LoadError> {
    let Some((_, first)) = batches.first() else { return Ok(vec![]) };
    let of_all = |index: usize| -> Option<Vec<(usize, &Recorded)>> {
        batches.iter().map(|(prompts, captures)| Some((*prompts, captures.get(index)?))).collect()
    };
    let other = || damaged("batches with other captures".to_owned());
    let joined = |index: usize| join_one(&of_all(index).ok_or_else(other)?);
    (0..first.len()).map(joined).collect()
}

fn join_one(parts: &[(usize, &Recorded)]) -> Result<Recorded, LoadError> {
    let (_, first) = parts[0];
    let alike = |(prompts, part): &(usize, &Recorded)| {
        let of_prompts = part.axes.iter().zip(&part.shape).all(|(axis, extent)| axis != PROMPT || extent == prompts);
        let filled = part.shape.iter().all(|extent| *extent > 0) && part.shape.len() == part.axes.len();
        (&part.name, &part.axes) == (&first.name, &first.axes) && of_prompts && filled
    };
    let apart = || damaged(format!("the captures of `{}` do not belong together", first.name));
    if !parts.iter().all(alike) {
        return Err(apart());
    }
    let along = first.axes.iter().position(|axis| axis == PROMPT);
    let extent = |axis: usize| {
        let lens = parts.iter().map(|(_, part)| part.shape[axis]);
        if Some(axis) == along { lens.sum() } else { lens.max().unwrap_or(0) }
    };
    let shape: Vec<usize> = (0..first.shape.len()).map(extent).collect();
    let len = shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
    let given: usize = parts.iter().map(|(_, part)| part.values.len()).sum();
    let len = len.filter(|len| *len <= given.saturating_mul(MOST_FILLED));
    let len = len.ok_or_else(apart)?;
    let values = if along.is_some() {
        let mut values = vec![0.0; len];
        let mut offset = 0;
        for (_, part) in parts {
            for_each_element(part, &shape, along, offset, |to, value| values[to] = value);
            offset += along.map_or(0, |axis| part.shape[axis]);
        }
        values
    } else {
        let mut sums = vec![(0.0, 0.0); len];
        for (prompts, part) in parts {
            let count = *prompts as f64;
            for_each_element(part, &shape, None, 0, |to, value| {
                sums[to].0 += f64::from(value) * count;
                sums[to].1 += count;
            });
        }
        sums.into_iter().map(|(sum, count)| if count > 0.0 { (sum / count) as f32 } else { 0.0 }).collect()
    };
    Ok(Recorded { name: first.name.clone(), axes: first.axes.clone(), shape, values })
}

/// Calls `take` with every value of `part` and its place in a tensor of `shape`, moved by `offset` along one axis.
fn for_each_element(
    part: &Recorded,
    shape: &[usize],
    along: Option<usize>,
    offset: usize,
    mut take: impl FnMut(usize, f32),
) {
    let width = part.shape.last().copied().unwrap_or(1).max(1);
    for (row, values) in part.values.chunks(width).enumerate() {
        let (mut rest, mut place, mut stride) = (row * width, 0, 1);
        for axis in (0..shape.len()).rev() {
            let index = rest % part.shape[axis] + if Some(axis) == along { offset } else { 0 };
            place += index * stride;
            rest /= part.shape[axis];
            stride *= shape[axis];
        }
        for (column, &value) in values.iter().enumerate() {
            take(place + column, value);
        }
    }
}

/// Where captures come from: what their file says beside the tensors.
#[derive(Debug, Clone)]
pub struct Origin<'a> {
    /// What was asked for.
    pub spec: &'a Spec,
    /// One for each entry of a `prompt` axis.
    pub prompts: &'a [String],
    /// Tokens of each prompt, the end token included: positions behind them are padding.
    pub tokens: &'a [Vec<String>],
    /// As it was asked for.
    pub model: &'a str,
    /// Commit of the Hub's repository.
    pub revision: Option<&'a str>,
    /// Of the random numbers; none: nothing was random.
    pub seed: Option<u64>,
}

/// A safetensors file of `captures`, 32-bit, each under its name. The metadata say what the axes are, and where the
/// captures come from.
///
/// # Errors
/// [`LoadError::Config`] if a capture has other values than its shape says.
pub fn to_file(captures: &[Recorded], origin: &Origin<'_>) -> Result<Vec<u8>, LoadError> {
    let mut metadata = BTreeMap::from([
        ("spec".to_owned(), json(origin.spec)?),
        ("prompts".to_owned(), json(origin.prompts)?),
        ("tokens".to_owned(), json(origin.tokens)?),
        ("padding".to_owned(), "right".to_owned()),
        ("model".to_owned(), origin.model.to_owned()),
    ]);
    metadata.extend(origin.revision.map(|revision| ("revision".to_owned(), revision.to_owned())));
    metadata.extend(origin.seed.map(|seed| ("seed".to_owned(), seed.to_string())));
    to_bytes(captures, vec![], metadata)
}

/// As [`to_file`], with `others` beside the captures, and `metadata` beside that of their axes.
///
/// # Errors
/// As [`to_file`].
pub fn to_bytes<'a>(
    captures: &'a [Recorded],
    others: Vec<(&'a str, TensorView<'a>)>,
    mut metadata: BTreeMap<String, String>,
) -> Result<Vec<u8>, LoadError> {
    let axes: BTreeMap<&str, &[String]> =
        captures.iter().map(|capture| (capture.name.as_str(), capture.axes.as_slice())).collect();
    metadata.insert(AXES.to_owned(), json(&axes)?);
    let bytes: Vec<Vec<u8>> =
        captures.iter().map(|capture| capture.values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let mut views: Vec<(&str, TensorView<'_>)> = others;
    for (capture, bytes) in captures.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, capture.shape.clone(), bytes);
        views.push((capture.name.as_str(), view.map_err(|error| damaged(error.to_string()))?));
    }
    sorted_safetensors(views, metadata)
}

/// The captures of a file, sorted by name, and the rest of its metadata.
///
/// # Errors
/// [`LoadError`] if it is no file of captures, or a damaged one.
pub fn from_bytes(bytes: &[u8]) -> Result<(Vec<Recorded>, BTreeMap<String, String>), LoadError> {
    let unread = |error: safetensors::SafeTensorError| damaged(error.to_string());
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(unread)?;
    let mut metadata: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let axes = metadata.remove(AXES).unwrap_or_default();
    let axes: BTreeMap<String, Vec<String>> =
        serde_json::from_str(&axes).map_err(|error| damaged(format!("`{AXES}`: {error}")))?;
    let file = SafeTensors::deserialize(bytes).map_err(unread)?;
    let mut captures = vec![];
    for (name, axes) in axes {
        let view = file.tensor(&name).map_err(unread)?;
        if view.shape().len() != axes.len() {
            return Err(damaged(format!("`{name}` has {} axes, {} are named", view.shape().len(), axes.len())));
        }
        let raw = RawTensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().into() };
        let values = raw.to_floats(&name)?;
        captures.push(Recorded { name, axes, shape: raw.shape, values });
    }
    Ok((captures, metadata))
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> Result<String, LoadError> {
    serde_json::to_string(value).map_err(|error| damaged(error.to_string()))
}

fn damaged(reason: String) -> LoadError {
    LoadError::Config { path: "captures".into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(axes: &[&str], shape: &[usize], values: &[f32]) -> Recorded {
        let axes = axes.iter().map(|&axis| axis.to_owned()).collect();
        Recorded { name: "x".into(), axes, shape: shape.to_vec(), values: values.to_vec() }
    }

    #[test]
    fn prompts_follow_each_other_and_gaps_are_zero() {
        let axes = ["branch", "prompt", "step", "feature"];
        let first = recorded(&axes, &[2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
        let second = recorded(&axes, &[2, 1, 2, 1], &[5.0, 6.0, 7.0, 8.0]);
        let joined = join(&[(2, vec![first.clone()]), (1, vec![second])]).unwrap();
        let expected = [1.0, 0.0, 2.0, 0.0, 5.0, 6.0, 3.0, 0.0, 4.0, 0.0, 7.0, 8.0];
        assert_eq!(joined, [recorded(&axes, &[2, 3, 2, 1], &expected)]);
        assert_eq!(join(&[(2, vec![first.clone()])]).unwrap(), std::slice::from_ref(&first));
        assert!(join(&[(2, vec![first]), (1, vec![])]).is_err(), "a damaged batch");
    }

    #[test]
    fn means_count_the_prompts_behind_them() {
        let axes = ["branch", "step", "feature"];
        let first = recorded(&axes, &[1, 1, 2], &[1.0, 2.0]);
        let second = recorded(&axes, &[1, 2, 2], &[5.0, 6.0, 7.0, 8.0]);
        let joined = join(&[(3, vec![first]), (1, vec![second])]).unwrap();
        assert_eq!(joined, [recorded(&axes, &[1, 2, 2], &[2.0, 3.0, 7.0, 8.0])]);
    }

    #[test]
    fn captures_that_do_not_belong_together_are_refused() {
        let axes = ["prompt", "token"];
        let one = || recorded(&axes, &[1, 2], &[1.0, 2.0]);
        let refused = |other: Recorded| join(&[(1, vec![one()]), (1, vec![other])]).is_err();
        assert!(!refused(one()));
        assert!(refused(recorded(&axes, &[2, 1], &[1.0, 2.0])), "of two prompts");
        assert!(refused(recorded(&["prompt", "step"], &[1, 2], &[1.0, 2.0])));
        assert!(refused(recorded(&axes, &[1], &[1.0])));
        assert!(refused(recorded(&axes, &[1, 1_000_000_000_000], &[1.0])), "far more zeros than values");
        assert!(join(&[(1, vec![one()]), (1, vec![])]).is_err());
    }

    #[test]
    fn no_damage_to_a_file_panics() {
        let whole = to_bytes(&[recorded(&["prompt", "token"], &[1, 2], &[1.0, 2.0])], vec![], BTreeMap::new()).unwrap();
        for at in 0..whole.len() {
            for value in [0, b'0', b'1', b'9', b'[', b'I', 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok((captures, _)) = from_bytes(&bytes) {
                    let _ = join(&[(1, captures.clone()), (1, captures)]);
                }
            }
        }
    }

    #[test]
    fn a_file_holds_every_bit() {
        let captures = [recorded(&["feature"], &[3], &[0.1, -0.0, f32::MIN_POSITIVE])];
        let metadata = BTreeMap::from([("note".to_owned(), "n".to_owned())]);
        let codes = 7i64.to_le_bytes();
        let codes = vec![("codes", TensorView::new(Dtype::I64, vec![1], &codes).unwrap())];
        let (read, rest) = from_bytes(&to_bytes(&captures, codes, metadata.clone()).unwrap()).unwrap();
        assert_eq!((read, rest), (captures.to_vec(), metadata));
    }
}
