//! Fitted probes on their way into a run.

use std::collections::BTreeMap;

use tonoscope_core::{
    hooks::{Component, HookPoint, Selector, Site},
    models::musicgen::MusicGen,
    readout::Readout,
};
use wasm_bindgen::JsError;

use crate::{
    failure::{failed, misuse},
    heat::{Reading, check_width},
};

/// Those probes of `file` that are at layers of the decoder and see all of a step, in the order of the layers; of several
/// at one point the first.
pub(crate) fn readings(file: &Readout, model: &MusicGen) -> Result<BTreeMap<HookPoint, Reading>, JsError> {
    let known = model.points();
    let decoder = &model.config().decoder;
    let mut found = BTreeMap::new();
    for (name, probe) in &file.probes {
        let point = name.point;
        if point.component != Component::DECODER || point.layer.is_none() || point.site.head_axis().is_some() {
            continue;
        }
        Selector::point(point).expand(&known).map_err(failed)?;
        let width = if point.site == Site::MLP_POST { decoder.ffn_dim } else { decoder.hidden_size };
        check_width(point, probe.width(), width)?;
        found.entry(point).or_insert_with(|| Reading::Probe(probe.clone()));
    }
    if found.is_empty() {
        return Err(misuse(format!(
            "none of these {} probes is at a layer of the decoder\ncapture `decoder.*.resid_post` to fit some",
            file.probes.len()
        )));
    }
    Ok(found)
}
