//! Edits in one file: a safetensors whose metadata holds the edits as JSON, whose tensors are their values.

use std::collections::BTreeMap;

use super::spec::Edit;
use crate::checkpoint::{LoadError, SafetensorsFile, Source, floats_to_bytes, read_numbers};

/// Key of the metadata under which the edits stand.
const KEY: &str = "tonoscope.edits";

/// Edits and the tensors that they name, each as `f32` with its shape, padded in front to rank five.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EditFile {
    /// The edits, in the order in which they apply.
    pub edits: Vec<Edit>,
    /// Name → values, row-major, and shape.
    pub tensors: BTreeMap<String, (Vec<f32>, [usize; 5])>,
}

impl EditFile {
    /// Parses the content of a file; `name` appears in errors.
    ///
    /// # Errors
    /// [`LoadError`] if it is not a safetensors file, holds no edits, or a tensor is of rank six or more, not of
    /// floating-point numbers, or not finite.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, LoadError> {
        let file = SafetensorsFile::from_bytes(name, bytes)?;
        let config = |reason: String| LoadError::Config { path: name.into(), reason };
        let metadata = file.metadata();
        let json = metadata.get(KEY).ok_or_else(|| config(format!("there are no edits under `{KEY}` in it")))?;
        let edits = serde_json::from_str(json).map_err(|error| config(format!("`{KEY}`: {error}")))?;
        let mut tensors = BTreeMap::new();
        for tensor in file.names() {
            let (found, values) = read_numbers(&file, &tensor)?;
            let rank = found.len();
            if rank > 5 {
                return Err(LoadError::Shape { key: tensor, found, expected: vec![1; 5] });
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (value, at) = (values[at], index(&found, at));
                let reason = format!("edit tensor `{tensor}` is {value} at {at:?}, expected finite 32-bit numbers");
                return Err(config(reason));
            }
            let mut shape = [1; 5];
            shape[5 - rank..].copy_from_slice(&found);
            tensors.insert(tensor, (values, shape));
        }
        Ok(Self { edits, tensors })
    }

    /// The content of a file that [`Self::from_bytes`] reads.
    ///
    /// # Errors
    /// [`LoadError::Config`] if the tensors do not fit into a file, which takes more than 2⁶⁴ bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LoadError> {
        let config = |reason: String| LoadError::Config { path: "edits".into(), reason };
        let json = serde_json::to_string(&self.edits).map_err(|error| config(error.to_string()))?;
        let stored = self.tensors.iter().map(|(name, (values, shape))| (name.clone(), shape.to_vec(), values.clone()));
        floats_to_bytes("edits", stored, (KEY, json))
    }
}

/// Index in a tensor of `shape` of its element `at`, row-major.
fn index(shape: &[usize], mut at: usize) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&len| {
            let here = at % len;
            at /= len;
            here
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use safetensors::{Dtype, tensor::TensorView};

    use super::*;

    const ADD: &str = r#"[{"points": "decoder.1.mlp_out",
        "change": {"do": "add", "value": {"tensor": "v", "axes": ["feature"]}, "scale": 1.5}}]"#;

    fn file(dtype: Dtype, shape: &[usize], bytes: &[u8], edits: &str) -> Result<EditFile, String> {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        let metadata = [(KEY.to_owned(), edits.to_owned())].into();
        let bytes = safetensors::serialize([("v", view)], Some(metadata)).unwrap();
        EditFile::from_bytes("edit.safetensors", bytes).map_err(|error| error.to_string())
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn edit_tensors_of_every_floating_point_type_are_read() {
        let values = [0.5, -1.25, 3.0, 0.0];
        let expected = BTreeMap::from([("v".to_owned(), (values.to_vec(), [1, 1, 1, 1, 4]))]);
        let wide: Vec<u8> = values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect();
        let half: Vec<u8> = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        let brain: Vec<u8> = values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
        for (dtype, bytes) in
            [(Dtype::F32, floats(&values)), (Dtype::F64, wide), (Dtype::F16, half), (Dtype::BF16, brain)]
        {
            assert_eq!(file(dtype, &[4], &bytes, ADD).unwrap().tensors, expected, "{dtype:?}");
            assert_eq!(file(dtype, &[1, 4], &bytes, ADD).unwrap().tensors, expected, "a leading axis of 1");
        }
        assert!(file(Dtype::I32, &[4], &floats(&values), ADD).unwrap_err().contains("I32"));
    }

    #[test]
    fn a_number_that_is_not_finite_is_named_with_its_place() {
        let bytes = floats(&[0.0, 1.0, 2.0, 3.0, f32::NAN, 5.0]);
        let message = file(Dtype::F32, &[2, 3], &bytes, ADD).unwrap_err();
        assert!(message.contains("edit tensor `v` is NaN at [1, 1]"), "{message}");
        let message = file(Dtype::F64, &[1], &1e300f64.to_le_bytes(), ADD).unwrap_err();
        assert!(message.contains("edit tensor `v` is inf at [0]"), "{message}");
    }

    #[test]
    fn unknown_fields_of_an_edit_are_refused_at_every_depth() {
        let read = |edits: &str| file(Dtype::F32, &[1], &floats(&[1.0]), edits);
        let zero = r#"{"points": "decoder.1.mlp_out", "change": {"do": "zero"}}"#;
        assert_eq!(read(&format!("[{zero}]")).unwrap().edits.len(), 1);
        for (field, edit) in [
            ("scop", r#"{"points": "decoder.1.mlp_out", "scop": {"branch": "cond"}, "change": {"do": "zero"}}"#),
            ("row", r#"{"points": "decoder.1.mlp_out", "scope": {"row": [0]}, "change": {"do": "zero"}}"#),
            (
                "step",
                r#"{"points": "decoder.1.mlp_out", "scope": {"steps": {"start": 0, "end": 1, "step": 2}}, "change": {"do": "zero"}}"#,
            ),
            ("factor", r#"{"points": "decoder.1.mlp_out", "change": {"do": "zero", "factor": 2}}"#),
            ("scale", r#"{"points": "decoder.1.mlp_out", "change": {"do": "scale", "factor": 2, "scale": 2}}"#),
            (
                "axis",
                r#"{"points": "decoder.1.mlp_out", "change": {"do": "replace", "value": {"tensor": "v", "axes": ["feature"], "axis": 1}}}"#,
            ),
        ] {
            let message = read(&format!("[{edit}]")).unwrap_err();
            assert!(message.contains(&format!("unknown field `{field}`")), "{message}");
        }
    }

    #[test]
    fn older_names_of_axes_and_scopes_are_read() {
        let edits = r#"[{"points": "decoder.1.mlp_out", "scope": {"rows": [2]},
            "change": {"do": "replace", "value": {"tensor": "v", "axes": ["row", "feature"]}}}]"#;
        let read = file(Dtype::F32, &[1, 1], &floats(&[1.0]), edits).unwrap();
        assert_eq!(read.edits[0].scope.prompts, Some(vec![2]));
        let json = serde_json::to_string(&read.edits).unwrap();
        assert!(json.contains(r#""prompts":[2]"#) && json.contains(r#"["prompt","feature"]"#), "{json}");
    }
}
