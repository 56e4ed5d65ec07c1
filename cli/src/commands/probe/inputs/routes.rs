//! Features of a trajectory that were never sound: latents, and activations that were captured.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tonoscope_core::{
    captures,
    checkpoint::{SafetensorsFile, Source, read_numbers},
    hooks::{CaptureName, Time},
    musicologist::Sides,
};

use super::{
    super::{routes::Route, unit::Rows},
    generated::{Annotations, class_of},
};
use crate::{failure::Failed, progress, session::sha256};

/// Files → sha256.
type Sums = Vec<(String, String)>;

/// A row of features per sound and step, and the annotation of its prompt.
pub(super) struct Trajectory {
    pub(super) name: String,
    width: usize,
    /// Step → annotations of the rows, and the rows.
    steps: BTreeMap<usize, (Vec<usize>, Vec<f32>)>,
}

impl Trajectory {
    /// What a concept's probes learn from.
    pub(super) fn route(&self, sides: &[Sides]) -> Route {
        let of_step = |(step, (annotations, values)): (&usize, &(Vec<usize>, Vec<f32>))| {
            let mut rows = Rows { width: self.width, ..Rows::default() };
            for (annotation, row) in annotations.iter().zip(values.chunks_exact(self.width)) {
                if let Some(class) = class_of(sides[*annotation]) {
                    rows.features.extend_from_slice(row);
                    rows.positive.push(class);
                    rows.cluster.push(*annotation);
                }
            }
            (*step, rows)
        };
        Route { name: self.name.clone(), steps: self.steps.iter().map(of_step).collect() }
    }
}

/// Latents of `diffuse --keep-latents`, averaged over time; and what was read.
pub(super) fn latents(folder: &Path, annotations: &Annotations) -> Result<(Trajectory, Sums)> {
    let listed = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    let mut files: BTreeMap<usize, PathBuf> = BTreeMap::new();
    for entry in listed {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let index = name.strip_prefix("prompt_").and_then(|rest| rest.strip_suffix(".safetensors"));
        if let Some(index) = index.and_then(|digits| digits.parse().ok()) {
            files.insert(index, path);
        }
    }
    if files.is_empty() {
        let what = format!("`{}` holds no latents", folder.display());
        return Err(Failed::new(what, "pass the folder that `tonoscope diffuse --keep-latents` has filled").into());
    }
    let mut all = Trajectory { name: "latents".to_owned(), width: 0, steps: BTreeMap::new() };
    let mut inputs = vec![];
    for (index, path) in files {
        let file = SafetensorsFile::open(&path)?;
        let metadata = file.metadata();
        let annotation = match metadata.get("prompt") {
            Some(text) => annotations.find(text)?,
            None if index < annotations.len() => index,
            None => {
                let what =
                    format!("`{}` is of prompt {index}, there are {} annotations", path.display(), annotations.len());
                return Err(Failed::new(what, "pass the annotations of these prompts, in their order").into());
            }
        };
        for name in file.names() {
            let Some(step) = name.strip_prefix("diff_step_").and_then(|digits| digits.parse().ok()) else { continue };
            let (shape, values) = read_numbers(&file, &name).with_context(|| format!("`{}`", path.display()))?;
            let [samples, channels, length] = shape[..] else {
                anyhow::bail!(
                    "`{name}` of `{}` has shape {shape:?}, expected `[samples, channels, length]`",
                    path.display()
                )
            };
            anyhow::ensure!(length > 0 && channels > 0, "`{name}` of `{}` is empty", path.display());
            let means = values
                .chunks_exact(length)
                .map(|line| (line.iter().map(|value| f64::from(*value)).sum::<f64>() / length as f64) as f32);
            all.push(step, &vec![annotation; samples], channels, means.collect())
                .with_context(|| format!("`{}`", path.display()))?;
        }
        inputs.push((format!("latents of prompt {index}"), sha256(&path)?));
    }
    all.check()?;
    Ok((all, inputs))
}

/// Activations of `--capture`: every point of the files, over their steps; and what was read.
pub(super) fn activations(paths: &[PathBuf], annotations: &Annotations) -> Result<(Vec<Trajectory>, Sums)> {
    let mut points: BTreeMap<String, Trajectory> = BTreeMap::new();
    let mut inputs = vec![];
    for (index, path) in files_of(paths)?.iter().enumerate() {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let unfit = || format!("`{}` is no capture", path.display());
        let (recorded, metadata) = captures::from_bytes(&bytes).with_context(unfit)?;
        let texts = metadata.get("prompts").with_context(unfit)?;
        let texts: Vec<String> = serde_json::from_str(texts).with_context(unfit)?;
        let of_prompts = texts.iter().map(|text| annotations.find(text)).collect::<Result<Vec<usize>>>()?;
        let numbers: Option<Vec<usize>> = metadata.get("steps").and_then(|text| serde_json::from_str(text).ok());
        for capture in recorded {
            let Some((steps, width, rows)) =
                rows(&capture, of_prompts.len()).with_context(|| format!("`{}`", path.display()))?
            else {
                progress::note(&format!(
                    "`{}` of `{}` has no prompts and steps, and is left out",
                    capture.name,
                    path.display()
                ));
                continue;
            };
            let trajectory = points.entry(capture.name.clone()).or_insert_with(|| Trajectory {
                name: capture.name.clone(),
                width: 0,
                steps: BTreeMap::new(),
            });
            for (step, rows) in rows.into_iter().enumerate() {
                let number =
                    numbers.as_ref().filter(|numbers| numbers.len() == steps).map_or(step, |numbers| numbers[step]);
                trajectory.push(number, &of_prompts, width, rows).with_context(|| format!("`{}`", path.display()))?;
            }
        }
        inputs.push((format!("capture {index}"), sha256(path)?));
    }
    let points: Vec<Trajectory> = points.into_values().collect();
    if points.is_empty() {
        return Err(Failed::new("the captures hold nothing to probe", "capture points with prompts and steps").into());
    }
    points.iter().try_for_each(Trajectory::check)?;
    Ok((points, inputs))
}

/// Files as they are, and those of folders, such as `captures/` of `diffuse`.
fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = vec![];
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let listed = std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let listed = listed.with_context(|| format!("cannot read the folder `{}`", path.display()))?;
        let is_capture = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
        let mut inside: Vec<PathBuf> = listed.iter().map(std::fs::DirEntry::path).filter(is_capture).collect();
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

impl Trajectory {
    fn push(&mut self, step: usize, annotations: &[usize], width: usize, values: Vec<f32>) -> Result<()> {
        anyhow::ensure!(
            self.width == 0 || self.width == width,
            "{width} features of `{}`, {} before",
            self.name,
            self.width
        );
        self.width = width;
        let (known, rows) = self.steps.entry(step).or_default();
        known.extend_from_slice(annotations);
        rows.extend(values);
        Ok(())
    }

    /// Every step is of the same sounds.
    fn check(&self) -> Result<()> {
        let mut steps = self.steps.iter();
        let Some((first, (of_first, _))) = steps.next() else { anyhow::bail!("`{}` has no step", self.name) };
        match steps.find(|(_, (of, _))| of != of_first) {
            Some((step, _)) => anyhow::bail!("`{}`: steps {first} and {step} are of different prompts", self.name),
            None => Ok(()),
        }
    }
}

/// Steps, features, and for every step a row per prompt of the conditional branch; `None` without prompts or steps.
#[expect(clippy::type_complexity, reason = "three things, taken apart at once")]
fn rows(capture: &captures::Recorded, prompts: usize) -> Result<Option<(usize, usize, Vec<Vec<f32>>)>> {
    let (shape, name) = (&capture.shape, &capture.name);
    let point = name.parse::<CaptureName>();
    let axes = point.as_ref().map_or_else(|_| capture.axes.clone(), |name| name.current_axes(capture.axes.clone()));
    // Where a network goes step by step, a query is a step.
    let by_step = point.is_ok_and(|name| name.point.time() == Time::Steps);
    let axes: Vec<&str> =
        axes.iter().map(|axis| if axis == "query" && by_step { "step" } else { axis.as_str() }).collect();
    let axis = |name: &str| axes.iter().position(|axis| *axis == name);
    let (Some(prompt), Some(step)) = (axis("prompt"), axis("step")) else { return Ok(None) };
    let whole = axes.len() == shape.len() && shape.iter().product::<usize>() == capture.values.len();
    anyhow::ensure!(whole && !shape.contains(&0), "`{name}` has shape {shape:?} and axes {:?}", capture.axes);
    anyhow::ensure!(shape[prompt] == prompts, "`{name}` is of {} prompts, the file names {prompts}", shape[prompt]);
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let is_feature = |axis: &usize| matches!(axes[*axis], "head" | "feature" | "key");
    let is_averaged = |axis: &usize| !matches!(axes[*axis], "branch" | "prompt" | "step" | "head" | "feature" | "key");
    let offsets = |of: &dyn Fn(&usize) -> bool| -> Vec<usize> {
        (0..shape.len()).filter(of).fold(vec![0], |places, axis| {
            places.iter().flat_map(|place| (0..shape[axis]).map(move |index| place + index * stride(axis))).collect()
        })
    };
    let (features, averaged) = (offsets(&is_feature), offsets(&is_averaged));
    let row = |at: usize, row: usize| -> Vec<f32> {
        let start = at * stride(step) + row * stride(prompt);
        let mean = |feature: &usize| {
            let sum: f64 = averaged.iter().map(|place| f64::from(capture.values[start + feature + place])).sum();
            (sum / averaged.len() as f64) as f32
        };
        features.iter().map(mean).collect()
    };
    let of_step = |at: usize| (0..prompts).flat_map(|prompt| row(at, prompt)).collect();
    Ok(Some((shape[step], features.len(), (0..shape[step]).map(of_step).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_capture_are_prompts_and_other_axes_are_averaged() {
        let capture = captures::Recorded {
            name: "dit.0.resid_post".to_owned(),
            axes: ["branch", "prompt", "step", "time", "feature"].map(str::to_owned).into(),
            shape: vec![2, 2, 3, 2, 2],
            values: (0..48).map(|value| value as f32).collect(),
        };
        let (steps, width, found) = rows(&capture, 2).unwrap().unwrap();
        assert_eq!((steps, width), (3, 2));
        // Prompt 0, step 1: values 4 to 7; prompt 1, step 1: 16 to 19.
        assert_eq!(found[1], [5.0, 6.0, 17.0, 18.0]);
        assert!(rows(&capture, 3).is_err());
        let mean =
            captures::Recorded { axes: vec!["step".to_owned(), "feature".to_owned()], shape: vec![2, 24], ..capture };
        assert!(rows(&mean, 2).unwrap().is_none());
    }
}
