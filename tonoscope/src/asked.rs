//! What a run looks at and changes, as it is asked for call by call.

use std::{error::Error as StdError, fmt};

use burn::tensor::{DType, Device, Tensor, TensorData};
use tonoscope_core::hooks::{
    At, Capture, Captured, Edit, EditFile, EditTensors, HookError, HookOutput, HookPoint, Hooks, PointError, Reduce,
    Selector, Spec,
};

use crate::{Error, Result};

/// A closure of any kind.
type Closure<'a> = Box<dyn FnMut(Tensor<4>, &At<'_>) -> Result<Tensor<4>, Box<dyn StdError>> + 'a>;

/// Captures, edits and closures of a run. The first thing that is wrong with them is kept until the run begins, so that a
/// chain of calls needs one `?`.
#[derive(Default)]
pub(crate) struct Asked<'a> {
    spec: Spec,
    tensors: EditTensors,
    files: Vec<EditFile>,
    closures: Vec<(Selector, Closure<'a>)>,
    failure: Option<Error>,
}

/// Hook points to record: text such as `decoder.*.resid_post` or `decoder.*.resid_post:mean_time`, or a [`Capture`].
pub trait IntoCapture {
    /// The capture.
    ///
    /// # Errors
    /// [`Error::Request`] if the text names no hook points.
    fn into_capture(self) -> Result<Capture>;
}

impl IntoCapture for Capture {
    fn into_capture(self) -> Result<Capture> {
        Ok(self)
    }
}

impl IntoCapture for &str {
    fn into_capture(self) -> Result<Capture> {
        let hint = "expected points such as `decoder.*.resid_post`, with or without a reducer such as `:mean_time`";
        self.parse().map_err(|error: String| Error::request(error, hint))
    }
}

impl IntoCapture for String {
    fn into_capture(self) -> Result<Capture> {
        self.as_str().into_capture()
    }
}

impl<'a> Asked<'a> {
    pub(crate) fn capture(&mut self, capture: impl IntoCapture) {
        match capture.into_capture() {
            Ok(capture) => self.spec.captures.push(capture),
            Err(error) => self.fail(error),
        }
    }

    pub(crate) fn edit(&mut self, edit: Edit) {
        self.spec.edits.push(edit);
    }

    pub(crate) fn hook<R: HookOutput>(
        &mut self,
        points: impl Into<Selector>,
        mut hook: impl FnMut(Tensor<4>, &At<'_>) -> R + 'a,
    ) {
        self.closures.push((points.into(), Box::new(move |x, at| hook(x, at).into_hooked())));
    }

    pub(crate) fn tensor<const D: usize>(&mut self, name: String, tensor: Tensor<D>) {
        if D > 5 {
            let what = format!("the tensor `{name}` has {D} axes, a tensor of an edit up to five");
            return self.fail(Error::request(what, "reshape it"));
        }
        self.tensors.insert(name, tensor.unsqueeze());
    }

    /// What was recorded in place of the tensors at `points`.
    pub(crate) fn patch(&mut self, points: impl Into<Selector>, captured: &Captured) {
        if captured.reduce != Reduce::Everything {
            let what = format!("`{}` is a reduced tensor, which stands in for no single step", captured.name());
            return self.fail(Error::request(what, "capture the point without a reducer"));
        }
        match captured.value(format!("patch {} {}", self.spec.edits.len(), captured.name())) {
            Ok((value, tensor)) => {
                self.tensors.insert(value.tensor.clone(), tensor);
                self.edit(Edit::replace(points, value));
            }
            Err(error) => self.fail(error.into()),
        }
    }

    pub(crate) fn edit_file(&mut self, file: EditFile) {
        self.spec.edits.extend(file.edits.iter().cloned());
        self.files.push(file);
    }

    /// What is recorded and changed, as data.
    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Keeps the first failure.
    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// Ready for a model that has the points `known`, on `device`.
    pub(crate) fn hooks(mut self, known: &[HookPoint], device: &Device) -> Result<Hooks<'a>> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        for (name, (values, shape)) in self.files.into_iter().flat_map(|file| file.tensors) {
            let float: DType = device.settings().float_dtype.into();
            let data = TensorData::new(values, shape).convert_dtype(float);
            self.tensors.insert(name, Tensor::from_data(data, device));
        }
        for tensor in self.tensors.values_mut() {
            *tensor = tensor.clone().to_device(device);
        }
        let unknown = |error| beyond(error, known);
        let mut hooks = Hooks::new(&self.spec, known, &self.tensors).map_err(unknown)?;
        for (points, closure) in self.closures {
            hooks.hook(points, closure).map_err(unknown)?;
        }
        Ok(hooks)
    }
}

/// A name that fails for its layer says which layers there are.
fn beyond(error: HookError, known: &[HookPoint]) -> Error {
    let HookError::Unknown(PointError { name, .. }) = &error else { return error.into() };
    let Some((part, rest)) = name.split_once('.') else { return error.into() };
    // A range ends before its last number.
    let layers = rest.split_once("..").map_or((rest, 0), |(_, rest)| (rest, 1));
    let digits: String = layers.0.chars().take_while(char::is_ascii_digit).collect();
    let layer = digits.parse::<usize>().ok().map(|number| number.saturating_sub(layers.1));
    let prefix = format!("{part}.");
    let of_part = known.iter().filter(|point| point.to_string().starts_with(&prefix));
    match (layer, of_part.filter_map(|point| point.layer).max()) {
        (Some(layer), Some(last)) if layer > last => Error::NoLayer { name: name.clone(), part: part.to_owned(), last },
        _ => error.into(),
    }
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("spec", &self.spec)
            .field("closures", &self.closures.len())
            .finish_non_exhaustive()
    }
}
