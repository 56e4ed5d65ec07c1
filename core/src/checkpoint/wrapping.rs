//! What training frameworks wrap around the names of tensors, taken off.
//!
//! A training checkpoint holds more than a model: the model lies under `state_dict.` (PyTorch Lightning), `diffusion.`
//! (stable-audio-tools), `net.` or `net_swa.` (`PaSST`), and every compiled or distributed module adds a segment to its
//! names. A model names a few of its tensors, by which it is found wherever it lies; the rest of the file is not its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{Remapped, Source, Taken};

/// Segments that `torch.compile` and `DataParallel` add, wherever they stand.
const ADDED: &[&str] = &["_orig_mod", "module"];
/// Segments of weights that were averaged over the training, or are the best of it: what a training ends with.
const AVERAGED: &[&str] = &["net_swa", "swa_model", "ema_model", "ema", "model_ema", "best_state", "fsdp_best_state"];

/// What published files have around their tensors, too: nobody has to be told of it.
const PUBLISHED: &[&str] = &["best_state.", "state_dict."];

/// Averaged weights that lie beside the model and stand for a part of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Average {
    /// What the names of the model's wrapping end with, such as `diffusion.`.
    pub(crate) model: &'static str,
    /// What stands there instead in the names of the average.
    pub(crate) beside: &'static str,
    /// The part of the model that was averaged, such as `model.`.
    pub(crate) part: &'static str,
}

/// `source` with the names that a model's own checkpoint has, see [`unwrapped_with`].
pub(crate) fn unwrapped(source: Box<dyn Source>, landmarks: &[&str]) -> Box<dyn Source> {
    unwrapped_with(source, landmarks, None)
}

/// `source` with the names that a model's own checkpoint has.
///
/// The model lies where one of its `landmarks` is, a tensor that it has and nothing else in the file. Of several places
/// that of averaged weights is taken, else the one with the shortest name. With an `average` beside it, a part of the
/// model is taken from there. A source without a landmark stays as it is.
pub(crate) fn unwrapped_with(source: Box<dyn Source>, landmarks: &[&str], average: Option<Average>) -> Box<dyn Source> {
    // Plain name → name in the file. The first of two names that become one keeps it.
    let mut plain: BTreeMap<String, String> = BTreeMap::new();
    let mut added: BTreeSet<&str> = BTreeSet::new();
    for name in source.names() {
        added.extend(name.split('.').filter_map(|segment| ADDED.iter().find(|added| **added == segment)));
        let kept: Vec<&str> = name.split('.').filter(|segment| !ADDED.contains(segment)).collect();
        plain.entry(kept.join(".")).or_insert(name);
    }
    let Some(prefix) = place(&plain, landmarks) else { return source };
    let mut told: Vec<String> = added.iter().map(|segment| format!("{segment}.")).collect();
    let is_plain = told.is_empty() && prefix.is_empty();
    told.extend((!prefix.is_empty() && !PUBLISHED.contains(&prefix.as_str())).then(|| prefix.clone()));
    let mut names: BTreeMap<String, Taken> = BTreeMap::new();
    for (name, stored) in plain.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix)) {
        names.insert(name[prefix.len()..].to_owned(), Taken::all(stored));
    }
    if let Some(average) = average
        && let Some(outer) = prefix.strip_suffix(average.model)
    {
        let mut averaged = false;
        for (name, taken) in &mut names {
            let Some(rest) = name.strip_prefix(average.part) else { continue };
            let stored = [rest, name].iter().find_map(|end| plain.get(&format!("{outer}{}{end}", average.beside)));
            if let Some(stored) = stored {
                *taken = Taken::all(stored);
                averaged = true;
            }
        }
        told.extend(averaged.then(|| average.beside.to_owned()));
    }
    if told.is_empty() {
        return if is_plain { source } else { Box::new(Remapped::new(source, names)) };
    }
    let told: Vec<String> = told.iter().map(|part| format!("`{part}`")).collect();
    let wrapping = format!("a training checkpoint, without {}", told.join(", "));
    Box::new(Remapped::unwrapped(source, names, wrapping))
}

/// What the names of the model begin with.
fn place(plain: &BTreeMap<String, String>, landmarks: &[&str]) -> Option<String> {
    let before = |name: &String| {
        let prefix = landmarks.iter().find_map(|landmark| name.strip_suffix(landmark))?;
        (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
    };
    let rank = |prefix: &String| {
        let is_averaged = prefix.split('.').any(|segment| AVERAGED.contains(&segment));
        (!is_averaged && !prefix.is_empty(), prefix.len(), prefix.clone())
    };
    let places: BTreeSet<String> = plain.keys().filter_map(before).collect();
    if places.contains("") {
        return Some(String::new());
    }
    places.into_iter().min_by_key(rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{SafetensorsFile, safetensors::floats_to_bytes};

    fn source(names: &[&str]) -> Box<dyn Source> {
        let tensors = names.iter().enumerate().map(|(at, name)| ((*name).to_owned(), vec![1], vec![at as f32]));
        let bytes = floats_to_bytes("test", tensors, ("note", String::new())).expect("a small file");
        Box::new(SafetensorsFile::from_bytes("x.safetensors", bytes).expect("a file"))
    }

    /// Name, and which of the file's tensors it stands for.
    fn seen(source: &dyn Source) -> Vec<(String, f32)> {
        let value =
            |name: &String| f32::from_le_bytes(source.read(name).expect("there").bytes[..4].try_into().unwrap());
        source.names().iter().map(|name| (name.clone(), value(name))).collect()
    }

    fn named(names: &[(&str, f32)]) -> Vec<(String, f32)> {
        names.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn known_wrappings_are_taken_off() {
        for (names, expected) in [
            (&["_orig_mod.cls_token", "_orig_mod.head.0.bias"][..], [("cls_token", 0.0), ("head.0.bias", 1.0)]),
            (&["module.cls_token", "module.head.0.bias"], [("cls_token", 0.0), ("head.0.bias", 1.0)]),
            (&["head._orig_mod.0.bias", "cls_token"], [("cls_token", 1.0), ("head.0.bias", 0.0)]),
            (
                &["epoch", "state_dict.net.cls_token", "state_dict.net.head.0.bias", "optimizer.0.cls"],
                [("cls_token", 1.0), ("head.0.bias", 2.0)],
            ),
            (
                &["net.cls_token", "net.head.0.bias", "net_swa.cls_token", "net_swa.head.0.bias"],
                [("cls_token", 2.0), ("head.0.bias", 3.0)],
            ),
        ] {
            let unwrapped = unwrapped(source(names), &["cls_token"]);
            assert_eq!(seen(unwrapped.as_ref()), named(&expected), "{names:?}");
            assert!(unwrapped.wrapping().is_some_and(|wrapping| wrapping.contains('`')), "{names:?}");
        }
    }

    #[test]
    fn what_published_files_have_is_taken_off_without_a_word() {
        let unwrapped = unwrapped(source(&["state_dict.cls_token"]), &["cls_token"]);
        assert_eq!((seen(unwrapped.as_ref()), unwrapped.wrapping()), (named(&[("cls_token", 0.0)]), None));
    }

    #[test]
    fn a_plain_checkpoint_stays_as_it_is() {
        let plain = unwrapped(source(&["cls_token", "ema.cls_token"]), &["cls_token"]);
        assert_eq!((seen(plain.as_ref()).len(), plain.wrapping()), (2, None));
        let other = unwrapped(source(&["weight"]), &["cls_token"]);
        assert_eq!((seen(other.as_ref()), other.wrapping()), (named(&[("weight", 0.0)]), None));
    }

    #[test]
    fn averaged_weights_stand_for_their_part() {
        let average = Average { model: "diffusion.", beside: "diffusion_ema.ema_model.", part: "model." };
        let names = [
            "state_dict.diffusion.conditioner.weight",
            "state_dict.diffusion.model.model.weight",
            "state_dict.diffusion.pretransform.weight",
            "state_dict.diffusion_ema.ema_model.model.weight",
            "state_dict.diffusion_ema.initted",
        ];
        let unwrapped = unwrapped_with(source(&names), &["pretransform.weight"], Some(average));
        let expected = [("conditioner.weight", 0.0), ("model.model.weight", 3.0), ("pretransform.weight", 2.0)];
        assert_eq!(seen(unwrapped.as_ref()), named(&expected));
        let wrapping = unwrapped.wrapping().expect("it is wrapped");
        assert!(wrapping.contains("`state_dict.diffusion.`") && wrapping.contains("`diffusion_ema.ema_model.`"));
    }
}
