//! What a `config.json` beside the weights says that a checkpoint does not.

use serde_json::{Map, Value};

use super::{Label, Labels, PasstConfig};
use crate::{
    checkpoint::{LoadError, Source, typed},
    hooks::edit_distance,
};

/// `model_type` of a `config.json` that is about a `PaSST`.
const MODEL_TYPE: &str = "passt";

impl PasstConfig {
    /// Shape and classes of the checkpoint `source`, and of `config.json` beside it, if there is one.
    ///
    /// With `"model_type": "passt"` it may give fields of [`PasstConfig`] that differ from those of
    /// `passt_s_swa_p16_128_ap476`, and `labels`, the names of the classes. One of another kind of model is not about this
    /// checkpoint. Classes that nobody names have those of `AudioSet`, if there are as many, else numbers.
    ///
    /// # Errors
    /// [`LoadError`] if the tensors are not those of a `PaSST`; [`LoadError::Config`] if they and the configuration do not
    /// fit, or the heads are unknown.
    pub fn described(source: &dyn Source, beside: Option<&str>) -> Result<(Self, Labels), LoadError> {
        let shape = Self::of_tensors(source)?;
        let wrong = |reason: String| LoadError::Config { path: "config.json".into(), reason };
        let (config, names) = match beside {
            Some(text) => configured(shape.clone(), text).map_err(wrong)?,
            None => (shape.clone(), None),
        };
        // The labels are made of it, before any tensor is read.
        if config.num_classes != shape.num_classes {
            return Err(wrong(format!(
                "`num_classes` is {}, the weights tell {} classes apart",
                config.num_classes, shape.num_classes
            )));
        }
        if let Some(reason) = config.mel.contradiction() {
            return Err(wrong(reason));
        }
        if config.num_heads == 0 {
            let width = config.embed_dim;
            return Err(wrong(format!(
                r#"the heads of a network {width} wide are unknown: it has to say them, as {{"model_type": "passt", "num_heads": 4}}"#
            )));
        }
        let labels = Labels::of_classes(config.num_classes, names).map_err(wrong)?;
        Ok((config, labels))
    }
}

impl Labels {
    /// Names of `classes` classes: as given, else those of `AudioSet`, else numbers.
    fn of_classes(classes: usize, names: Option<Vec<String>>) -> Result<Self, String> {
        let audioset = Self::audioset();
        let named =
            |names: Vec<String>| Self::new(names.into_iter().map(|name| Label { mid: String::new(), name }).collect());
        match names {
            Some(names) if names.len() != classes => {
                Err(format!("{} names are given for {classes} classes", names.len()))
            }
            Some(names) => Ok(named(names)),
            None if classes == audioset.len() => Ok(audioset.clone()),
            None => Ok(named((0..classes).map(|class| format!("class {class}")).collect())),
        }
    }
}

/// The shape of a checkpoint with what `config.json` says of it, and the names of the classes.
fn configured(shape: PasstConfig, text: &str) -> Result<(PasstConfig, Option<Vec<String>>), String> {
    let said: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut said: Map<String, Value> = typed(said)?;
    match said.remove("model_type") {
        None => return Err(format!("there is no `model_type` in it, expected `{MODEL_TYPE}`")),
        Some(other) if other != MODEL_TYPE => return Ok((shape, None)),
        Some(_) => {}
    }
    let names = said.remove("labels").map(serde_json::from_value).transpose();
    let names = names.map_err(|error| format!("`labels`: {error}"))?;
    let mut config = serde_json::to_value(&shape).map_err(|error| error.to_string())?;
    overlay(&mut config, said, "")?;
    Ok((typed(config)?, names))
}

/// Replaces fields of `base` by those of `over`; a field that `base` does not have is an error.
fn overlay(base: &mut Value, over: Map<String, Value>, within: &str) -> Result<(), String> {
    let Value::Object(base) = base else { return Err(format!("`{within}` has no fields")) };
    for (name, value) in over {
        let Some(field) = base.get_mut(&name) else {
            let nearest = base.keys().min_by_key(|known| edit_distance(known, &name)).cloned().unwrap_or_default();
            return Err(format!("there is no field `{within}{name}`; the nearest is `{within}{nearest}`"));
        };
        match value {
            Value::Object(inner) => overlay(field, inner, &format!("{within}{name}."))?,
            value => *field = value,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_changes_what_it_names_and_nothing_else() {
        let real = PasstConfig::passt_s_swa_p16_128_ap476();
        let text = r#"{"model_type": "passt", "depth": 3, "mel": {"n_mels": 36}, "labels": ["a", "b"]}"#;
        let (config, names) = configured(real.clone(), text).unwrap();
        let mut expected = PasstConfig { depth: 3, ..real.clone() };
        expected.mel.n_mels = 36;
        assert_eq!((config, names), (expected, Some(vec!["a".to_owned(), "b".to_owned()])));
        let other = configured(real.clone(), r#"{"model_type": "musicgen", "depth": 3}"#);
        assert_eq!(other, Ok((real.clone(), None)), "the configuration of another model is not read");
        let error = |text| configured(real.clone(), text).unwrap_err();
        assert_eq!(error(r#"{"depth": 3}"#), "there is no `model_type` in it, expected `passt`");
        let misspelt = error(r#"{"model_type": "passt", "mel": {"n_mel": 36}}"#);
        assert_eq!(misspelt, "there is no field `mel.n_mel`; the nearest is `mel.n_mels`");
        assert!(error(r#"{"model_type": "passt", "depth": "three"}"#).contains("three"));
    }

    #[test]
    fn classes_have_names() {
        let labels = Labels::of_classes;
        assert_eq!(labels(527, None).unwrap().get(140).unwrap().name, "Guitar");
        assert_eq!(labels(3, None).unwrap().get(2).unwrap().name, "class 2");
        assert!(labels(3, Some(vec!["a".to_owned()])).is_err());
    }
}
