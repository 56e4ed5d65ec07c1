//! Where the noise of a trajectory comes from.

use std::{ops::Range, path::Path};

use burn::tensor::{Device, Tensor, TensorData};

use crate::checkpoint::{LoadError, Source, finite_numbers};

/// Unit normal noise of the shape `[batch, channels, length]`.
pub trait Noise {
    /// What the trajectory starts from, before it is scaled.
    fn initial(&mut self, device: &Device) -> Tensor<3>;

    /// What is added on the way from noise level `from` to `to`; both are positive. `step` counts evaluations of the
    /// model from 0.
    fn between(&mut self, step: usize, from: f64, to: f64, device: &Device) -> Tensor<3>;
}

/// Noise that was recorded elsewhere, to repeat a run of another program.
#[derive(Debug, Clone)]
pub struct RecordedNoise {
    /// `[batch, channels, length]`
    initial: Vec<f32>,
    /// `[batch, channels, length]` for each step.
    steps: Vec<Vec<f32>>,
    shape: [usize; 3],
}

impl RecordedNoise {
    /// Takes `initial` `[batch, channels, length]` and `steps` `[step, batch, channels, length]`, which has `steps` entries
    /// or more: what [`SamplerSettings::noises`](super::SamplerSettings::noises) says. With none needed it may be absent.
    ///
    /// # Errors
    /// [`LoadError`] if one is missing, of another shape, or not made of floating-point numbers;
    /// [`LoadError::Corrupt`] if a value is not finite.
    pub fn load(source: &dyn Source, channels: usize, length: usize, steps: usize) -> Result<Self, LoadError> {
        let first = |name| source.shape(name).and_then(|shape| shape.first().copied()).unwrap_or(0);
        let batch = first("initial");
        let initial = values(source, "initial", &[batch.max(1), channels, length])?;
        let steps = match source.shape("steps") {
            None if steps == 0 => vec![],
            _ => {
                let shape = [first("steps").max(steps), batch, channels, length];
                let all = values(source, "steps", &shape)?;
                all.chunks_exact((batch * channels * length).max(1)).take(steps).map(<[f32]>::to_vec).collect()
            }
        };
        Ok(Self { initial, steps, shape: [batch, channels, length] })
    }

    /// How many trajectories there is noise for.
    pub fn batch(&self) -> usize {
        self.shape[0]
    }

    /// The noise of some of the trajectories.
    ///
    /// # Panics
    /// If there are not that many.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let [_, channels, length] = self.shape;
        let of = |all: &Vec<f32>| all[rows.start * channels * length..rows.end * channels * length].to_vec();
        Self {
            initial: of(&self.initial),
            steps: self.steps.iter().map(of).collect(),
            shape: [rows.len(), channels, length],
        }
    }
}

impl Noise for RecordedNoise {
    fn initial(&mut self, device: &Device) -> Tensor<3> {
        upload(self.initial.clone(), self.shape, device)
    }

    /// # Panics
    /// If nothing was recorded for `step`.
    fn between(&mut self, step: usize, _: f64, _: f64, device: &Device) -> Tensor<3> {
        let recorded = self.steps.len();
        let noise = self.steps.get(step);
        let noise = noise.unwrap_or_else(|| panic!("noise of step {step}, of which {recorded} were asked for"));
        upload(noise.clone(), self.shape, device)
    }
}

/// `values` on `device`, in its default float type.
pub(super) fn upload(values: Vec<f32>, shape: [usize; 3], device: &Device) -> Tensor<3> {
    let float = device.settings().float_dtype.into();
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(float), device)
}

fn values(source: &dyn Source, name: &str, expected: &[usize]) -> Result<Vec<f32>, LoadError> {
    finite_numbers(source, Path::new("recorded noise"), name, expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{SafetensorsFile, floats_to_bytes};

    fn file(tensors: &[(&str, &[usize], f32)]) -> SafetensorsFile {
        let stored = tensors.iter().map(|&(name, shape, value)| {
            let values = (0..shape.iter().product::<usize>()).map(|index| value + index as f32).collect();
            (name.to_owned(), shape.to_vec(), values)
        });
        let bytes = floats_to_bytes("noise", stored, ("key", String::new())).expect("a file");
        SafetensorsFile::from_bytes("noise", bytes).expect("a file")
    }

    #[test]
    fn rows_are_the_trajectories() {
        let file = file(&[("initial", &[3, 1, 2], 0.0), ("steps", &[5, 3, 1, 2], 0.0)]);
        let noise = RecordedNoise::load(&file, 1, 2, 2).expect("noise for two steps");
        assert_eq!((noise.batch(), noise.steps.len()), (3, 2));
        let rows = noise.rows(1..3);
        assert_eq!((rows.batch(), rows.initial), (2, vec![2.0, 3.0, 4.0, 5.0]));
        assert_eq!(rows.steps[1], [8.0, 9.0, 10.0, 11.0]);
    }

    #[test]
    fn no_damage_panics() {
        let stored = [("initial", vec![2, 1, 2], vec![1.0; 4]), ("steps", vec![2, 2, 1, 2], vec![2.0; 8])];
        let stored = stored.map(|(name, shape, values)| (name.to_owned(), shape, values));
        let whole = floats_to_bytes("noise", stored, ("key", String::new())).expect("a file");
        for at in 0..whole.len() {
            for value in [0, b'0', b'1', b'2', b'9', b'{', 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let Ok(file) = SafetensorsFile::from_bytes("noise", bytes) else { continue };
                if let Ok(noise) = RecordedNoise::load(&file, 1, 2, 2) {
                    assert_eq!((noise.rows(0..noise.batch()).batch(), noise.steps.len()), (noise.batch(), 2));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let initial: (&str, &[usize], f32) = ("initial", &[3, 1, 2], 0.0);
        let reason = |tensors: &[(&str, &[usize], f32)], channels, steps| {
            RecordedNoise::load(&file(tensors), channels, 2, steps).expect_err("does not fit").to_string()
        };
        assert!(reason(&[initial], 1, 1).contains("`steps` is missing"));
        assert!(reason(&[initial], 2, 0).contains("[3, 1, 2]"));
        assert!(reason(&[initial, ("steps", &[1, 3, 1, 2], 0.0)], 1, 2).contains("[2, 3, 1, 2] in the model"));
        assert!(reason(&[initial, ("steps", &[2, 2, 1, 2], 0.0)], 1, 2).contains("[2, 2, 1, 2]"));
        assert!(reason(&[("initial", &[1, 1, 2], f32::NAN)], 1, 0).contains("not finite"));
        assert!(reason(&[("initial", &[0, 1, 2], 0.0)], 1, 0).contains("[0, 1, 2]"));
        assert!(reason(&[("initial", &[], 0.0)], 1, 0).contains("[]"));
        assert!(RecordedNoise::load(&file(&[initial]), 1, 2, 0).is_ok());
    }
}
