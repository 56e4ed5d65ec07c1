//! Fitted probes in one file: a safetensors whose metadata say what was fitted on what, whose tensors are the probes.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::{LinearProbe, Probe};
use crate::{
    checkpoint::{LoadError, SafetensorsFile, Source, doubles_to_bytes},
    hooks::{Branch, CaptureName},
};

/// Key of the metadata under which a file says what it is.
const KEY: &str = "tonoscope.probes";

/// Probes of the same labels at several points: what `probes.safetensors` holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Readout {
    /// Names of the classes, in the order of the scores.
    pub labels: Vec<String>,
    /// Half of the guidance batch that was learnt from.
    pub branch: Branch,
    /// Whether what was learnt from are single steps; if not, means over the steps of a prompt.
    pub per_frame: bool,
    /// Rows that were learnt from.
    pub rows: usize,
    /// By what was recorded.
    pub probes: BTreeMap<CaptureName, LinearProbe>,
}

/// What the metadata say.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    labels: Vec<String>,
    branch: Branch,
    per_frame: bool,
    rows: usize,
    /// Name of what was recorded, in which those of the tensors begin.
    points: BTreeMap<String, Probe>,
}

impl Readout {
    /// Parses the content of a file; `name` appears in errors.
    ///
    /// # Errors
    /// [`LoadError`] if it is not a safetensors file of probes, or a tensor is missing, left over or misshapen, or holds
    /// what is not a number.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, LoadError> {
        let file = SafetensorsFile::from_bytes(name, bytes)?;
        let wrong = |reason: String| LoadError::Config { path: name.into(), reason };
        let metadata = file.metadata();
        let json = metadata.get(KEY).ok_or_else(|| wrong(format!("there are no probes under `{KEY}` in it")))?;
        let header: Header = serde_json::from_str(json).map_err(|error| wrong(format!("`{KEY}`: {error}")))?;
        let Header { labels, branch, per_frame, rows, points } = header;
        if labels.len() < 2 || points.is_empty() {
            return Err(wrong(format!(
                "{} labels at {} points, expected two or more at some",
                labels.len(),
                points.len()
            )));
        }
        let mut unused: BTreeSet<String> = file.names().into_iter().collect();
        let mut probes = BTreeMap::new();
        for (point, kind) in points {
            let mut read = |part: &str, shape: &[Option<usize>]| {
                let key = format!("{point}.{part}");
                unused.remove(&key);
                numbers(&file, &key, shape).map_err(wrong)
            };
            let mean = read("mean", &[None])?;
            let (width, classes) = (Some(mean.len()), Some(labels.len()));
            let scale = read("scale", &[width])?;
            let weights = read("weights", &[classes, width])?;
            let intercept = read("intercept", &[classes])?;
            let parsed = point.parse::<CaptureName>().map_err(|error| wrong(format!("`{KEY}`: {error}")))?;
            if probes.insert(parsed, LinearProbe { kind, mean, scale, weights, intercept }).is_some() {
                return Err(wrong(format!("there are two probes of `{parsed}`")));
            }
        }
        match unused.first() {
            Some(key) => Err(wrong(format!("`{key}` is no part of a probe"))),
            None => Ok(Self { labels, branch, per_frame, rows, probes }),
        }
    }

    /// The content of a file that [`Self::from_bytes`] reads; the same bytes in every run.
    ///
    /// # Errors
    /// [`LoadError::Config`] if the numbers of a probe are not as many as its features and classes ask for.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LoadError> {
        let header = Header {
            labels: self.labels.clone(),
            branch: self.branch,
            per_frame: self.per_frame,
            rows: self.rows,
            points: self.probes.iter().map(|(point, probe)| (point.to_string(), probe.kind)).collect(),
        };
        let json = serde_json::to_string(&header)
            .map_err(|error| LoadError::Config { path: "probes".into(), reason: error.to_string() })?;
        let classes = self.labels.len();
        let stored = self.probes.iter().flat_map(|(point, probe)| {
            let width = probe.width();
            [
                (format!("{point}.mean"), vec![width], probe.mean.clone()),
                (format!("{point}.scale"), vec![width], probe.scale.clone()),
                (format!("{point}.weights"), vec![classes, width], probe.weights.clone()),
                (format!("{point}.intercept"), vec![classes], probe.intercept.clone()),
            ]
        });
        doubles_to_bytes("probes", stored, (KEY, json))
    }
}

/// The tensor `key`, whose `shape` has as many axes as it must, each as long as it must be or of any length but 0.
fn numbers(file: &SafetensorsFile, key: &str, shape: &[Option<usize>]) -> Result<Vec<f64>, String> {
    let found = file.shape(key).ok_or_else(|| format!("`{key}` is missing"))?;
    let fits = |(found, wanted): (&usize, &Option<usize>)| wanted.map_or(*found > 0, |wanted| wanted == *found);
    if found.len() != shape.len() || !found.iter().zip(shape).all(fits) {
        let wanted: Vec<String> =
            shape.iter().map(|wanted| wanted.map_or("any".to_owned(), |wanted| wanted.to_string())).collect();
        return Err(format!("`{key}` has shape {found:?}, expected [{}]", wanted.join(", ")));
    }
    let raw = file.read(key).map_err(|error| error.to_string())?;
    let values: Vec<f64> = match raw.dtype {
        Dtype::F64 => raw.bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
        Dtype::F32 => raw.bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
        other => return Err(format!("`{key}` holds {other:?}, expected F64 or F32")),
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(format!("value {at} of `{key}` is not a number")),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tensors = Vec<(String, Vec<usize>, Vec<f64>)>;

    fn readout() -> Readout {
        let probe = |kind: Probe, shift: f64| LinearProbe {
            kind,
            mean: vec![0.1, shift],
            scale: vec![1.0 / 3.0, 0.0],
            weights: vec![0.0, 0.0, shift, f64::MIN_POSITIVE],
            intercept: vec![0.0, -shift],
        };
        let probes: BTreeMap<CaptureName, LinearProbe> = BTreeMap::from([
            ("decoder.0.resid_post".parse().unwrap(), probe(Probe::Logistic { c: 0.1 }, 1.5)),
            ("decoder.10.resid_post:mean_time".parse().unwrap(), probe(Probe::Ridge { alpha: 2.0 }, 2.5)),
        ]);
        let labels = vec!["guitar".to_owned(), "\"piano\", that is".to_owned()];
        Readout { labels, branch: Branch::Cond, per_frame: false, rows: 12, probes }
    }

    /// The header of a file with one probe, and its tensors.
    fn parts() -> (String, Tensors) {
        let header = r#"{"labels": ["a", "b"], "branch": "cond", "per_frame": true, "rows": 9,
            "points": {"decoder.1.resid_post": {"logistic": {"c": 1.0}}}}"#;
        let tensor = |part: &str, shape: &[usize]| {
            (format!("decoder.1.resid_post.{part}"), shape.to_vec(), vec![0.5; shape.iter().product()])
        };
        let tensors = [("mean", &[3][..]), ("scale", &[3]), ("weights", &[2, 3]), ("intercept", &[2])]
            .map(|(part, shape)| tensor(part, shape));
        (header.to_owned(), tensors.to_vec())
    }

    /// What is said of a file after `damage`.
    fn refused(damage: impl Fn(&mut String, &mut Tensors)) -> String {
        let (mut header, mut tensors) = parts();
        damage(&mut header, &mut tensors);
        let bytes = doubles_to_bytes("test", tensors, (KEY, header)).unwrap();
        Readout::from_bytes("x.safetensors", bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_file_holds_every_bit() {
        let bytes = readout().to_bytes().unwrap();
        assert_eq!(Readout::from_bytes("x", bytes.clone()).unwrap(), readout());
        assert!((0..4).all(|_| readout().to_bytes().unwrap() == bytes));
    }

    #[test]
    fn probes_that_contradict_themselves_are_not_written() {
        let mut readout = readout();
        readout.labels.pop();
        assert!(readout.to_bytes().is_err());
    }

    #[test]
    fn other_files_are_refused() {
        let error = |bytes: Vec<u8>| Readout::from_bytes("x.safetensors", bytes).unwrap_err().to_string();
        assert!(error(b"nothing".to_vec()).starts_with("`x.safetensors` is corrupt or truncated"));
        let bytes = readout().to_bytes().unwrap();
        assert!(error(bytes[..bytes.len() - 1].to_vec()).starts_with("`x.safetensors` is corrupt or truncated"));
        let edits = doubles_to_bytes("test", [], ("tonoscope.edits", "[]".to_owned())).unwrap();
        assert_eq!(error(edits), "`x.safetensors`: there are no probes under `tonoscope.probes` in it");
    }

    #[test]
    fn a_damaged_file_says_where() {
        let says = |found: String, part: &str| assert!(found.contains(part), "{found}");
        says(refused(|header, _| header.push('}')), "`tonoscope.probes`: trailing characters");
        says(refused(|header, _| *header = header.replace("rows", "lines")), "unknown field `lines`");
        says(refused(|header, _| *header = header.replace(r#"["a", "b"]"#, r#"["a"]"#)), "1 labels at 1 points");
        says(refused(|header, _| *header = header.replace("resid_post", "resid_pots")), ".mean` is missing");
        says(
            refused(|header, tensors| {
                *header = header.replace("resid_post", "resid_pots");
                for (name, ..) in tensors {
                    *name = name.replace("resid_post", "resid_pots");
                }
            }),
            "the nearest is `decoder.1.resid_post`",
        );
        says(refused(|_, tensors| drop(tensors.pop())), "`decoder.1.resid_post.intercept` is missing");
        says(refused(|_, tensors| tensors[2].1 = vec![3, 2]), "weights` has shape [3, 2], expected [2, 3]");
        says(refused(|_, tensors| tensors[0].1 = vec![1, 3]), "mean` has shape [1, 3], expected [any]");
        says(
            refused(|_, tensors| tensors[0] = (tensors[0].0.clone(), vec![0], vec![])),
            "mean` has shape [0], expected [any]",
        );
        says(
            refused(|_, tensors| tensors[2].2[4] = f64::NAN),
            "value 4 of `decoder.1.resid_post.weights` is not a number",
        );
        says(
            refused(|_, tensors| tensors.push(("decoder.2.resid_post.mean".to_owned(), vec![1], vec![0.0]))),
            "`decoder.2.resid_post.mean` is no part of a probe",
        );
        says(
            refused(|header, tensors| {
                let second = r#""decoder.01.resid_post": {"ridge": {"alpha": 1.0}}, "decoder.1.resid_post""#;
                *header = header.replace(r#""decoder.1.resid_post""#, second);
                let again: Vec<_> = tensors
                    .iter()
                    .map(|(name, shape, values)| (name.replace(".1.", ".01."), shape.clone(), values.clone()))
                    .collect();
                tensors.extend(again);
            }),
            "there are two probes of `decoder.1.resid_post`",
        );
    }
}
